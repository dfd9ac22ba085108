//! Reads what an agent prints as `stream-json`: one JSON object per line, at last a `result`.
//!
//! Claude Code's format, which the built-in agent speaks too. Nothing is believed to be there:
//! what is no JSON is shown as it is, what has another shape than expected is passed over. Builds
//! and starts nothing.

use std::collections::{BTreeMap, VecDeque};
use std::mem::take;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::output::Live;
use super::super::process::{Ending, Heard, StartError};
use super::{exit_code, out_of_memory};
use crate::task::{Failure, Reason, Spent, Usage};

/// The longest line that is read. Tool results with pictures have megabytes; what is longer can
/// be nothing that is needed here, and memory is for the agent.
const LINE: usize = 8 * 1024 * 1024;
/// The most of a tool's input that is shown, in characters.
const INPUT: usize = 200;
/// How many messages can be under way at once: the agent's and those of the agents below it.
const RECENT: usize = 64;
/// The longest name of a session, in bytes; UUIDs have 36.
const SESSION: usize = 100;
/// The model of messages that Claude Code makes up itself.
const SYNTHETIC: &str = "<synthetic>";
/// What of a tool's input says best what it does, the most telling first.
const TELLING: [&str; 8] = [
    "command",
    "file_path",
    "path",
    "notebook_path",
    "pattern",
    "url",
    "query",
    "description",
];

/// What is known from one agent's output, over all its rounds.
#[derive(Debug, Default)]
pub struct Transcript {
    pub session_id: Option<String>,
    pub model: Option<String>,
    /// In the rounds that are over.
    before: Spent,
    round: Round,
    line: Line,
}

/// What this round's output has told so far.
#[derive(Debug, Default)]
struct Round {
    /// The last messages: one comes in several lines, and each repeats the usage. Those of agents
    /// below the agent come in between, which makes more than one of them.
    recent: VecDeque<Message>,
    /// Of messages that are not among the last any more.
    settled: Option<Usage>,
    turns: u64,
    tool_calls: u64,
    /// The agent is asking the model's service again and again.
    retrying: bool,
    /// The agent's own account, which is the better one.
    result: Option<Outcome>,
}

#[derive(Debug)]
struct Message {
    id: String,
    usage: Usage,
}

/// The `result` message.
#[derive(Debug)]
struct Outcome {
    failure: Option<Failure>,
    words: Option<String>,
    /// Of the whole session, earlier rounds included.
    cost_usd: Option<f64>,
    /// Likewise.
    usage: Option<Usage>,
}

/// A line that is not whole yet.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// It is longer than anything that is read.
    skipped: bool,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type", default, deserialize_with = "lenient")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    subtype: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    session_id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    model: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    message: Option<WireMessage>,
    #[serde(default, deserialize_with = "lenient")]
    parent_tool_use_id: Option<String>,
    // Of `system/api_retry`.
    #[serde(default, deserialize_with = "lenient")]
    attempt: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    retry_delay_ms: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    error_status: Option<u16>,
    #[serde(default, deserialize_with = "lenient")]
    error: Option<String>,
    // Of `result`.
    #[serde(default, deserialize_with = "lenient")]
    is_error: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    api_error_status: Option<u16>,
    #[serde(default, deserialize_with = "lenient")]
    result: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    errors: Option<Vec<String>>,
    #[serde(default, deserialize_with = "lenient")]
    total_cost_usd: Option<f64>,
    /// By model, agents below the agent included; of the whole session, as the cost is.
    #[serde(rename = "modelUsage", default, deserialize_with = "lenient")]
    model_usage: Option<BTreeMap<String, WireUsage>>,
    /// How many further turns are waiting, each with a `result` of its own.
    #[serde(default, deserialize_with = "lenient")]
    queued_turn_count: Option<u64>,
}

#[derive(Deserialize)]
struct WireMessage {
    #[serde(default, deserialize_with = "lenient")]
    id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    model: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    content: Option<Vec<Block>>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type", default, deserialize_with = "lenient")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    text: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default)]
    input: Value,
}

/// A message's own, and in capitals that of `modelUsage`.
#[derive(Clone, Copy, Deserialize)]
struct WireUsage {
    #[serde(alias = "inputTokens", default, deserialize_with = "lenient")]
    input_tokens: Option<u64>,
    #[serde(alias = "outputTokens", default, deserialize_with = "lenient")]
    output_tokens: Option<u64>,
    #[serde(alias = "cacheReadInputTokens", default, deserialize_with = "lenient")]
    cache_read_input_tokens: Option<u64>,
    #[serde(
        alias = "cacheCreationInputTokens",
        default,
        deserialize_with = "lenient"
    )]
    cache_creation_input_tokens: Option<u64>,
}

/// What has another type than it should is not there, and its neighbours are.
fn lenient<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: for<'any> Deserialize<'any>,
{
    Ok(T::deserialize(Value::deserialize(from)?).ok())
}

impl Transcript {
    /// A new round begins; what was spent before stays spent.
    pub fn next_round(&mut self) {
        self.before = self.spent();
        self.round = Round::default();
        self.line = Line::default();
    }

    /// In all rounds so far.
    pub fn spent(&self) -> Spent {
        let counted = self.before.and(self.round.counted());
        let result = self.round.result.as_ref();
        let (cost, usage) = result.map_or((None, None), |told| (told.cost_usd, told.usage));
        Spent {
            cost_usd: cost.or(self.before.cost_usd),
            usage: usage.or(counted.usage),
            ..counted
        }
    }

    /// The agent's own last words in this round.
    pub fn last_words(&self) -> Option<String> {
        self.round.result.as_ref()?.words.clone()
    }

    /// Reads bytes that are cut anywhere, and tells of them.
    pub fn hear(&mut self, mut bytes: &[u8], live: &mut Live<'_>) -> Heard {
        let mut heard = Heard::More;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.push(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if let Some(line) = self.line.take() {
                heard = self.read(&line, live);
            }
        }
        self.line.push(bytes);
        heard
    }

    fn read(&mut self, json: &[u8], live: &mut Live<'_>) -> Heard {
        let Ok(wire) = serde_json::from_slice::<Wire>(json) else {
            live.hear(json);
            live.hear(b"\n");
            return Heard::More;
        };
        // It becomes an argument of the next round.
        let session = wire.session_id.clone().filter(|id| is_name(id));
        self.session_id = session.or(self.session_id.take());
        match wire.kind.as_deref() {
            Some("system") => self.system(wire, live),
            Some("assistant") => self.assistant(wire, live),
            Some("result") => return self.result(wire, live),
            _ => {}
        }
        Heard::More
    }

    fn system(&mut self, wire: Wire, live: &mut Live<'_>) {
        match wire.subtype.as_deref() {
            Some("init") => self.model = wire.model.or(self.model.take()),
            Some("api_retry") => {
                self.round.retrying = true;
                let what = wire.error.unwrap_or_else(|| "no answer".to_owned());
                let status = wire.error_status.map(|status| format!(" ({status})"));
                let status = status.unwrap_or_default();
                let attempt = wire.attempt.unwrap_or(1);
                let delay = wire.retry_delay_ms.unwrap_or(0);
                live.words(&format!(
                    "[the model's service: {what}{status}; attempt {attempt} failed, the next one in {delay} ms]"
                ));
            }
            _ => {}
        }
    }

    fn assistant(&mut self, wire: Wire, live: &mut Live<'_>) {
        let Some(message) = wire.message else { return };
        for block in message.content.unwrap_or_default() {
            match (block.kind.as_deref(), block.text) {
                (Some("text"), Some(text)) => live.words(&text),
                (Some("tool_use"), _) => {
                    self.round.tool_calls += 1;
                    let name = block.name.unwrap_or_default();
                    live.deed(&in_short(&name, &block.input));
                }
                _ => {}
            }
        }
        let made_up = message.model.as_deref() == Some(SYNTHETIC);
        if let (Some(id), Some(usage), false) = (message.id, message.usage, made_up) {
            // Those of agents below the agent cost tokens, and are no turns of its own.
            let is_turn = wire.parent_tool_use_id.is_none();
            self.round.retrying = false;
            self.round.hear(id, usage.into(), is_turn);
        }
        live.spent(&self.spent());
    }

    fn result(&mut self, wire: Wire, live: &mut Live<'_>) -> Heard {
        let heard = match wire.queued_turn_count {
            None | Some(0) => Heard::LastWord,
            Some(_) => Heard::More,
        };
        let usages = wire.model_usage.iter().flat_map(BTreeMap::values);
        let usage = usages.map(|usage| Usage::from(*usage)).reduce(Usage::and);
        let failure = wire.failure(self.round.retrying);
        self.round.result = Some(Outcome {
            failure,
            words: wire.result.filter(|words| !words.trim().is_empty()),
            cost_usd: wire.total_cost_usd,
            usage,
        });
        live.spent(&self.spent());
        heard
    }

    /// What the end of the round means: the `result` says, else the exit code does.
    pub fn judge(&mut self, ending: Result<Ending, StartError>) -> Result<(), Failure> {
        let said = self.round.result.as_ref().map(|result| &result.failure);
        match (said, ending) {
            (Some(None), _) => Ok(()),
            // "Something went wrong" is less than the kernel knows.
            (Some(Some(failure)), Ok(Ending::OutOfMemory))
                if failure.reason == Reason::AgentFailed =>
            {
                Err(out_of_memory())
            }
            (Some(Some(failure)), _) => Err(failure.clone()),
            (None, ending) => {
                let code = exit_code(ending)?;
                let message = format!("the agent ended with exit code {code}, without a result");
                Err(Failure::new(Reason::AgentFailed, message))
            }
        }
    }
}

impl Round {
    fn hear(&mut self, id: String, usage: Usage, is_turn: bool) {
        if let Some(known) = self.recent.iter_mut().find(|known| known.id == id) {
            known.usage = usage;
            return;
        }
        self.turns += u64::from(is_turn);
        self.recent.push_back(Message { id, usage });
        if self.recent.len() > RECENT {
            let old = self.recent.pop_front().map(|message| message.usage);
            self.settled = self.settled.into_iter().chain(old).reduce(Usage::and);
        }
    }

    /// What the messages say by themselves. Output is told late, so it is less than it will be.
    fn counted(&self) -> Spent {
        if self.recent.is_empty() && self.result.is_none() {
            return Spent::default();
        }
        let recent = self.recent.iter().map(|message| message.usage);
        Spent {
            turns: Some(self.turns),
            tool_calls: Some(self.tool_calls),
            cost_usd: None,
            usage: self.settled.into_iter().chain(recent).reduce(Usage::and),
        }
    }
}

impl Wire {
    /// Why the agent failed, where this says that it did; `retrying` where it had been asking the
    /// model's service in vain.
    fn failure(&self, retrying: bool) -> Option<Failure> {
        let subtype = self.subtype.as_deref().unwrap_or("no subtype");
        let is_error = self.is_error.unwrap_or(false);
        if subtype == "success" && !is_error {
            return None;
        }
        let errors = self.errors.iter().flatten().cloned().collect::<Vec<_>>();
        let words = match &self.result {
            Some(words) if !words.trim().is_empty() => words.clone(),
            _ if errors.is_empty() => subtype.to_owned(),
            _ => errors.join("; "),
        };
        Some(match subtype {
            "error_max_turns" => Failure::new(
                Reason::LimitReached,
                "the agent's turns are used up, and it was not done",
            ),
            "error_max_budget_usd" => Failure::new(
                Reason::LimitReached,
                "the agent's budget is used up, and it was not done",
            ),
            _ if retrying || self.api_error_status.is_some() => {
                let status = match self.api_error_status {
                    Some(status) => format!("answered with status {status}"),
                    None => "gave no answer".to_owned(),
                };
                Failure {
                    retryable: self.api_error_status.is_none_or(may_pass),
                    ..Failure::new(
                        Reason::ApiError,
                        format!("the model's service {status}: {words}"),
                    )
                }
            }
            _ => Failure::new(Reason::AgentFailed, format!("the agent failed: {words}")),
        })
    }
}

/// Whether what the model's service answered with this status may be another thing next time.
fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..=599)
}

impl From<WireUsage> for Usage {
    fn from(usage: WireUsage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read_input_tokens: usage.cache_read_input_tokens,
            cache_creation_input_tokens: usage.cache_creation_input_tokens,
        }
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > LINE {
            self.bytes = Vec::new();
            self.skipped = true;
        }
        if !self.skipped {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The line, where it is one that is read; another one begins.
    fn take(&mut self) -> Option<Vec<u8>> {
        let bytes = take(&mut self.bytes);
        (!take(&mut self.skipped) && !bytes.trim_ascii().is_empty()).then_some(bytes)
    }
}

/// Whether a session's name is one, and nothing that a command line could misunderstand.
fn is_name(id: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !id.is_empty() && id.len() <= SESSION && !id.starts_with('-') && id.chars().all(known)
}

/// A tool call in one line: `bash cargo test`.
fn in_short(name: &str, input: &Value) -> String {
    let text = |key: &str| input.get(key).and_then(Value::as_str);
    let what = match (text("command"), text("path")) {
        // An editor's command is one word, and says little alone.
        (Some(command), Some(path)) => format!("{command} {path}"),
        _ => match TELLING.iter().find_map(|key| text(key)) {
            Some(what) => what.to_owned(),
            None if input.as_object().is_none_or(serde_json::Map::is_empty) => String::new(),
            None => input.to_string(),
        },
    };
    let words: Vec<&str> = what.split_whitespace().collect();
    let mut what = words.join(" ");
    if let Some((end, _)) = what.char_indices().nth(INPUT) {
        what.truncate(end);
        what.push('…');
    }
    format!("{} {what}", name.to_lowercase())
        .trim_end()
        .to_owned()
}
