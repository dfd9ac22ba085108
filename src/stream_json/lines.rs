//! The lines of `stream-json`: the only place that knows the names of their fields.
//!
//! Lines can be large, so only the needed fields are copied. A field with an unexpected type counts
//! as absent; the fields next to it are read.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::excerpt;
use crate::model::{Usage, is_temporary, token_count};
use crate::task::{Failure, Reason};

/// How many content blocks of one message are read.
const MAX_BLOCKS: usize = 1_000;
/// The largest list or table that is read, in bytes; real ones have a few hundred.
const MAX_LIST_SIZE: usize = 64 * 1024;
/// The longest name of a model, in bytes.
const MAX_MODEL_NAME: usize = 200;
/// The longest final message, in bytes.
const MAX_FINAL_MESSAGE: usize = 64 * 1024;
/// The model of messages that Claude Code writes itself.
const SYNTHETIC: &str = "<synthetic>";
/// The value of `api_error` if a request got no answer, but a later request may get one.
pub const CONNECTION_FAILED: &str = "connection_failed";
/// The value of `api_error` if a request got no answer, and no later request will.
pub const CONNECTION_REJECTED: &str = "connection_rejected";

/// The JSON text of a field.
type Raw<'a> = Option<&'a RawValue>;

/// The value of a field, if the field has the expected type.
fn value<T: DeserializeOwned>(raw: Raw<'_>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// A field with a list or a table; `None` if it is too large.
fn unless_too_large(raw: Raw<'_>) -> Raw<'_> {
    raw.filter(|raw| raw.get().len() <= MAX_LIST_SIZE)
}

/// Reads some fields of an object. If the JSON is not an object, all fields are absent.
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

/// The type of a line, and its session.
#[derive(Debug)]
pub struct Kind {
    /// Its `type`.
    pub word: String,
    pub subtype: String,
    pub session_id: Option<String>,
}

impl Kind {
    /// `None` if the line is not a JSON object.
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

/// The name of the model in a `system/init` line.
pub fn model(json: &[u8]) -> Option<String> {
    #[derive(Deserialize, Default)]
    struct Fields<'a> {
        #[serde(borrow, default)]
        model: Raw<'a>,
    }
    let model = value(fields::<Fields<'_>>(json).model);
    model.filter(|model: &String| model.len() <= MAX_MODEL_NAME)
}

/// A `system/api_retry` line: a request to the model's service failed and will be repeated.
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

    /// A sentence for people.
    pub fn message(&self) -> String {
        let error = self.error.as_deref().unwrap_or("no answer");
        let status = self.status.map(|status| format!(" ({status})"));
        format!(
            "[the model's service: {}{}; attempt {} failed, the next one in {} ms]",
            error,
            status.unwrap_or_default(),
            self.attempt,
            self.delay_ms
        )
    }
}

/// An `assistant` line: a message of the model, or a part of one.
#[derive(Debug, Default)]
pub struct Assistant {
    pub blocks: Vec<Block>,
    pub usage: Option<MessageUsage>,
}

/// The usage of a message.
#[derive(Debug)]
pub struct MessageUsage {
    pub message_id: String,
    pub usage: Usage,
    /// It is a message of the agent, and not of a subagent.
    pub is_turn: bool,
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
        let is_synthetic = value::<String>(message.model).as_deref() == Some(SYNTHETIC);
        let is_turn = value::<String>(line.parent_tool_use_id).is_none();
        let usage = match (value(message.id), tokens(message.usage)) {
            (Some(message_id), Some(usage)) if !is_synthetic => Some(MessageUsage {
                message_id,
                usage,
                is_turn,
            }),
            _ => None,
        };
        Self {
            blocks: blocks.0.into_iter().filter_map(visible).collect(),
            usage,
        }
    }
}

/// A part of a message that people are shown.
#[derive(Debug)]
pub enum Block {
    Text(String),
    /// A tool call, as [`describe_call`] describes it.
    ToolCall(String),
}

/// The first [`MAX_BLOCKS`] content blocks of a message.
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
                    if blocks.len() < MAX_BLOCKS {
                        blocks.push(block);
                    }
                }
                Ok(blocks)
            }
        }
        from.deserialize_seq(First).map(Self)
    }
}

/// The part of a block that people are shown.
fn visible(block: &RawValue) -> Option<Block> {
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
            Some(Block::ToolCall(describe_call(
                &name.to_lowercase(),
                block.input,
            )))
        }
        _ => None,
    }
}

/// A description of a tool call: `bash cargo test`. Not shortened: secrets must be masked first, and a
/// part of a secret would not be recognised.
fn describe_call(name: &str, input: Raw<'_>) -> String {
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
    // The command of the editor tool is one word, so the path is shown too.
    if let (Some(command), Some(path)) = (&command, &path) {
        return format!("{name} {command} {path}");
    }
    // The argument that says most about the call comes first.
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
        Some(argument) => format!("{name} {argument}"),
        None if raw.get() == "{}" => name.to_owned(),
        None => format!("{name} {}", raw.get()),
    }
}

/// A `result` line: the agent's own report about its end.
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
    /// The sum for all models, with the usage of subagents.
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
            result: value(fields.result)
                .filter(|message: &String| !message.trim().is_empty())
                .map(|message| excerpt::first_bytes(&message, MAX_FINAL_MESSAGE)),
            errors: value(unless_too_large(fields.errors)).unwrap_or_default(),
            queued_turns: value(fields.queued_turn_count).unwrap_or(0),
            cost_usd: value(fields.total_cost_usd).filter(|cost: &f64| *cost >= 0.0),
            usage: sum_of_models(unless_too_large(fields.model_usage)),
        }
    }

    /// Whether further turns follow, each with a `result` line.
    pub fn is_provisional(&self) -> bool {
        self.queued_turns > 0
    }

    pub fn final_message(&self) -> Option<String> {
        self.result.clone()
    }

    /// Why the agent failed, if it did. `is_retrying` says that its last request to the model's service
    /// failed.
    pub fn failure(&self, is_retrying: bool) -> Option<Failure> {
        let subtype = self.subtype.as_deref().unwrap_or("no subtype");
        if subtype == "success" && !self.is_error {
            return None;
        }
        let message = match &self.result {
            Some(message) => message.clone(),
            None if self.errors.is_empty() => subtype.to_owned(),
            None => self.errors.join("; "),
        };
        let unanswered = match self.api_error.as_deref() {
            Some(CONNECTION_FAILED) => Some(true),
            Some(CONNECTION_REJECTED) => Some(false),
            _ => is_retrying.then_some(true),
        };
        Some(match (subtype, self.api_error_status, unanswered) {
            ("error_max_turns", ..) => Failure::new(
                Reason::LimitReached,
                "the agent's turns are used up, and it was not done",
            ),
            ("error_max_budget_usd", ..) => Failure::new(
                Reason::LimitReached,
                "the agent's budget is used up, and it was not done",
            ),
            (_, Some(status), _) => Failure {
                retryable: is_temporary(status),
                ..Failure::new(
                    Reason::ApiError,
                    format!("the model's service answered with status {status}: {message}"),
                )
            },
            (_, None, Some(retryable)) => Failure {
                retryable,
                ..Failure::new(
                    Reason::ApiError,
                    format!("the model's service gave no answer: {message}"),
                )
            },
            (_, None, None) => {
                Failure::new(Reason::AgentFailed, format!("the agent failed: {message}"))
            }
        })
    }
}

/// Numbers of tokens, with the names of the Messages API.
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

/// Usage from four numbers: input tokens, output tokens, tokens read from the cache, tokens written to it.
fn usage_of(numbers: [Raw<'_>; 4]) -> Usage {
    let [input, output, cache_read, cache_creation] =
        numbers.map(|number| token_count(&value(number)?));
    Usage {
        input_tokens: input,
        output_tokens: output,
        cache_read_input_tokens: cache_read,
        cache_creation_input_tokens: cache_creation,
    }
}

/// `modelUsage`: numbers of tokens for each model, with Claude Code's names.
fn sum_of_models(usage: Raw<'_>) -> Option<Usage> {
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
