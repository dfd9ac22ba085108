//! The lines of `stream-json`: the only place that knows their names.
//!
//! A line is read in part: what is not asked for is passed over without being kept, because a line
//! may be large and most of it is nobody's business here. A field of another type than it should
//! have is not there, and its neighbours are.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::model::{Usage, may_pass};
use crate::task::{Failure, Reason};

/// The most blocks of one message that are read.
const BLOCKS: usize = 1_000;
/// The most of a list or a table that is read, in bytes; real ones have a few hundred.
const LIST: usize = 64 * 1024;
/// The model of messages that Claude Code makes up itself.
const SYNTHETIC: &str = "<synthetic>";
/// What the account of a failed request calls one that got no answer, and may get one next time.
pub const CONNECTION_FAILED: &str = "connection_failed";
/// And one that will not get an answer next time either.
pub const CONNECTION_REFUSED: &str = "connection_rejected";

/// A field as it stands there.
type Raw<'a> = Option<&'a RawValue>;

/// The value of a field, where it is one of that type.
fn value<T: DeserializeOwned>(raw: Raw<'_>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// A field that is no longer than it should be.
fn short(raw: Raw<'_>) -> Raw<'_> {
    raw.filter(|raw| raw.get().len() <= LIST)
}

/// Reads a line as an object with some fields.
fn fields<'a, T: Deserialize<'a> + Default>(json: &'a [u8]) -> T {
    object(json).unwrap_or_default()
}

/// Reads an object. serde would also read a list as the fields of a struct, in their order.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// What a line is.
#[derive(Debug)]
pub struct Kind {
    /// Its `type`.
    pub word: String,
    pub subtype: String,
    pub session_id: Option<String>,
}

impl Kind {
    /// `None` where the line is no JSON object.
    pub fn of(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow, default, rename = "type")]
            kind: Raw<'a>,
            #[serde(borrow, default)]
            subtype: Raw<'a>,
            #[serde(borrow, default)]
            session_id: Raw<'a>,
        }
        let fields: Fields<'_> = object(json)?;
        Some(Self {
            word: value(fields.kind).unwrap_or_default(),
            subtype: value(fields.subtype).unwrap_or_default(),
            session_id: value(fields.session_id),
        })
    }
}

/// The model in `system/init`.
pub fn model(json: &[u8]) -> Option<String> {
    #[derive(Deserialize, Default)]
    struct Fields<'a> {
        #[serde(borrow, default)]
        model: Raw<'a>,
    }
    value(fields::<Fields<'_>>(json).model)
}

/// `system/api_retry`: the model's service is asked again.
#[derive(Debug)]
pub struct Retry {
    attempt: u64,
    delay_ms: u64,
    status: Option<u16>,
    error: Option<String>,
}

impl Retry {
    pub fn of(json: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        struct Fields<'a> {
            #[serde(borrow, default)]
            attempt: Raw<'a>,
            #[serde(borrow, default)]
            retry_delay_ms: Raw<'a>,
            #[serde(borrow, default)]
            error_status: Raw<'a>,
            #[serde(borrow, default)]
            error: Raw<'a>,
        }
        let fields: Fields<'_> = fields(json);
        Self {
            attempt: value(fields.attempt).unwrap_or(1),
            delay_ms: value(fields.retry_delay_ms).unwrap_or(0),
            status: value(fields.error_status),
            error: value(fields.error),
        }
    }

    /// For people.
    pub fn words(&self) -> String {
        let what = self.error.as_deref().unwrap_or("no answer");
        let status = self.status.map(|status| format!(" ({status})"));
        format!(
            "[the model's service: {}{}; attempt {} failed, the next one in {} ms]",
            what,
            status.unwrap_or_default(),
            self.attempt,
            self.delay_ms
        )
    }
}

/// `assistant`: a message of the model, or a part of one.
#[derive(Debug, Default)]
pub struct Assistant {
    pub blocks: Vec<Block>,
    /// The message's id, what it took, and whether it is the agent's own and not that of one below.
    pub usage: Option<(String, Usage, bool)>,
}

impl Assistant {
    pub fn of(json: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        struct Fields<'a> {
            #[serde(borrow, default)]
            message: Raw<'a>,
            #[serde(borrow, default)]
            parent_tool_use_id: Raw<'a>,
        }
        #[derive(Deserialize, Default)]
        struct Message<'a> {
            #[serde(borrow, default)]
            id: Raw<'a>,
            #[serde(borrow, default)]
            model: Raw<'a>,
            #[serde(borrow, default)]
            content: Raw<'a>,
            #[serde(borrow, default)]
            usage: Raw<'a>,
        }
        let line: Fields<'_> = fields(json);
        let Some(message) = line.message else {
            return Self::default();
        };
        let message: Message<'_> = fields(message.get().as_bytes());
        let content = message.content.map_or("[]", RawValue::get);
        let blocks: Blocks<'_> = serde_json::from_str(content).unwrap_or(Blocks(Vec::new()));
        let made_up = value::<String>(message.model).as_deref() == Some(SYNTHETIC);
        let is_turn = value::<String>(line.parent_tool_use_id).is_none();
        let usage = match (value(message.id), tokens(message.usage)) {
            (Some(id), Some(usage)) if !made_up => Some((id, usage, is_turn)),
            _ => None,
        };
        Self {
            blocks: blocks.0.into_iter().filter_map(told).collect(),
            usage,
        }
    }
}

/// A part of a message that people are shown.
#[derive(Debug)]
pub enum Block {
    Text(String),
    /// A tool call in a few words.
    ToolCall(String),
}

/// The first blocks of a message; the others are passed over.
struct Blocks<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Blocks<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> Visitor<'de> for First {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of blocks")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = list.next_element()? {
                    if blocks.len() < BLOCKS {
                        blocks.push(block);
                    }
                }
                Ok(blocks)
            }
        }
        from.deserialize_seq(First).map(Self)
    }
}

/// What a block has to tell.
fn told(block: &RawValue) -> Option<Block> {
    #[derive(Deserialize, Default)]
    struct Fields<'a> {
        #[serde(borrow, default, rename = "type")]
        kind: Raw<'a>,
        #[serde(borrow, default)]
        text: Raw<'a>,
        #[serde(borrow, default)]
        name: Raw<'a>,
        #[serde(borrow, default)]
        input: Raw<'a>,
    }
    let block: Fields<'_> = fields(block.get().as_bytes());
    match value::<String>(block.kind)?.as_str() {
        "text" => value(block.text).map(Block::Text),
        "tool_use" => {
            let name: String = value(block.name).unwrap_or_default();
            Some(Block::ToolCall(deed(&name.to_lowercase(), block.input)))
        }
        _ => None,
    }
}

/// A tool call in a few words: `bash cargo test`. Uncut: whoever shows it masks it first.
fn deed(name: &str, input: Raw<'_>) -> String {
    #[derive(Deserialize, Default)]
    struct Fields<'a> {
        #[serde(borrow, default)]
        command: Raw<'a>,
        #[serde(borrow, default)]
        path: Raw<'a>,
        #[serde(borrow, default)]
        file_path: Raw<'a>,
        #[serde(borrow, default)]
        notebook_path: Raw<'a>,
        #[serde(borrow, default)]
        pattern: Raw<'a>,
        #[serde(borrow, default)]
        url: Raw<'a>,
        #[serde(borrow, default)]
        query: Raw<'a>,
        #[serde(borrow, default)]
        description: Raw<'a>,
    }
    let Some(raw) = input else {
        return name.to_owned();
    };
    let input: Fields<'_> = fields(raw.get().as_bytes());
    let (command, path) = (value::<String>(input.command), value::<String>(input.path));
    // An editor's command is one word, and says little alone.
    if let (Some(command), Some(path)) = (&command, &path) {
        return format!("{name} {command} {path}");
    }
    // What says best what it does, the most telling first.
    let others = [
        input.file_path,
        input.notebook_path,
        input.pattern,
        input.url,
        input.query,
        input.description,
    ];
    let other = || others.into_iter().find_map(value::<String>);
    match command.or(path).or_else(other) {
        Some(what) => format!("{name} {what}"),
        None if raw.get() == "{}" => name.to_owned(),
        None => format!("{name} {}", raw.get()),
    }
}

/// `result`: the agent's own word on its end.
#[derive(Debug)]
pub struct Outcome {
    subtype: Option<String>,
    is_error: bool,
    api_error_status: Option<u16>,
    api_error: Option<String>,
    result: Option<String>,
    errors: Vec<String>,
    queued_turns: u64,
    pub cost_usd: Option<f64>,
    /// All models together, agents below the agent included.
    pub usage: Option<Usage>,
}

impl Outcome {
    pub fn of(json: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        struct Fields<'a> {
            #[serde(borrow, default)]
            subtype: Raw<'a>,
            #[serde(borrow, default)]
            is_error: Raw<'a>,
            #[serde(borrow, default)]
            api_error_status: Raw<'a>,
            #[serde(borrow, default)]
            api_error: Raw<'a>,
            #[serde(borrow, default)]
            result: Raw<'a>,
            #[serde(borrow, default)]
            errors: Raw<'a>,
            #[serde(borrow, default)]
            queued_turn_count: Raw<'a>,
            #[serde(borrow, default)]
            total_cost_usd: Raw<'a>,
            #[serde(borrow, default, rename = "modelUsage")]
            model_usage: Raw<'a>,
        }
        let fields: Fields<'_> = fields(json);
        Self {
            subtype: value(fields.subtype),
            is_error: value(fields.is_error).unwrap_or(false),
            api_error_status: value(fields.api_error_status),
            api_error: value(fields.api_error),
            result: value(fields.result).filter(|words: &String| !words.trim().is_empty()),
            errors: value(short(fields.errors)).unwrap_or_default(),
            queued_turns: value(fields.queued_turn_count).unwrap_or(0),
            cost_usd: value(fields.total_cost_usd).filter(|cost: &f64| *cost >= 0.0),
            usage: all_models(short(fields.model_usage)),
        }
    }

    /// Whether there are further turns to come.
    pub fn is_provisional(&self) -> bool {
        self.queued_turns > 0
    }

    /// The agent's last words.
    pub fn words(&self) -> Option<String> {
        self.result.clone()
    }

    /// Why the agent failed, where this says that it did; `retrying` where it had been asking the
    /// model's service in vain.
    pub fn failure(&self, retrying: bool) -> Option<Failure> {
        let subtype = self.subtype.as_deref().unwrap_or("no subtype");
        if subtype == "success" && !self.is_error {
            return None;
        }
        let words = match &self.result {
            Some(words) => words.clone(),
            None if self.errors.is_empty() => subtype.to_owned(),
            None => self.errors.join("; "),
        };
        let no_answer = match self.api_error.as_deref() {
            Some(CONNECTION_FAILED) => Some(true),
            Some(CONNECTION_REFUSED) => Some(false),
            _ => retrying.then_some(true),
        };
        Some(match (subtype, self.api_error_status, no_answer) {
            ("error_max_turns", ..) => Failure::new(
                Reason::LimitReached,
                "the agent's turns are used up, and it was not done",
            ),
            ("error_max_budget_usd", ..) => Failure::new(
                Reason::LimitReached,
                "the agent's budget is used up, and it was not done",
            ),
            (_, Some(status), _) => Failure {
                retryable: may_pass(status),
                ..Failure::new(
                    Reason::ApiError,
                    format!("the model's service answered with status {status}: {words}"),
                )
            },
            (_, None, Some(retryable)) => Failure {
                retryable,
                ..Failure::new(
                    Reason::ApiError,
                    format!("the model's service gave no answer: {words}"),
                )
            },
            (_, None, None) => {
                Failure::new(Reason::AgentFailed, format!("the agent failed: {words}"))
            }
        })
    }
}

/// Tokens, in the model service's own words.
fn tokens(usage: Raw<'_>) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow, default)]
        input_tokens: Raw<'a>,
        #[serde(borrow, default)]
        output_tokens: Raw<'a>,
        #[serde(borrow, default)]
        cache_read_input_tokens: Raw<'a>,
        #[serde(borrow, default)]
        cache_creation_input_tokens: Raw<'a>,
    }
    let fields: Fields<'_> = object(usage?.get().as_bytes())?;
    Some(usage_of([
        fields.input_tokens,
        fields.output_tokens,
        fields.cache_read_input_tokens,
        fields.cache_creation_input_tokens,
    ]))
}

/// Input, output, what was read from the cache, what was written to it.
fn usage_of([input, output, read, written]: [Raw<'_>; 4]) -> Usage {
    Usage {
        input_tokens: value(input),
        output_tokens: value(output),
        cache_read_input_tokens: value(read),
        cache_creation_input_tokens: value(written),
    }
}

/// `modelUsage`: tokens by model, in Claude Code's words.
fn all_models(usage: Raw<'_>) -> Option<Usage> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields<'a> {
        #[serde(borrow, default)]
        input_tokens: Raw<'a>,
        #[serde(borrow, default)]
        output_tokens: Raw<'a>,
        #[serde(borrow, default)]
        cache_read_input_tokens: Raw<'a>,
        #[serde(borrow, default)]
        cache_creation_input_tokens: Raw<'a>,
    }
    let models: BTreeMap<String, &RawValue> = serde_json::from_str(usage?.get()).ok()?;
    let usages = models.values().filter_map(|model| {
        let fields: Fields<'_> = object(model.get().as_bytes())?;
        Some(usage_of([
            fields.input_tokens,
            fields.output_tokens,
            fields.cache_read_input_tokens,
            fields.cache_creation_input_tokens,
        ]))
    });
    usages.reduce(Usage::and)
}
