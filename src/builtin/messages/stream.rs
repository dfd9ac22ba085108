//! Reads an answer of the Messages API from the events in which it is streamed.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Answer, ErrorDetails, is_thinking};
use crate::model::Usage;

/// The largest content of an answer, in bytes: several times the size of the longest answer that the service
/// is asked for.
const MAX_ANSWER_SIZE: usize = 2 * 1024 * 1024;

/// A token of English text has four bytes on average, and one of other languages or of code fewer.
const BYTES_PER_TOKEN: usize = 3;

/// Why a stream of events is not an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamError {
    /// The service sent an error event.
    Reported(ErrorDetails),
    /// An event is not valid; the text says why.
    Malformed(String),
    /// The answer is larger than [`MAX_ANSWER_SIZE`].
    TooLarge,
}

/// The effect of an event on an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The answer has become longer.
    Grown,
    /// A ping, an event without content, or an event of an unknown type.
    Nothing,
    /// The event was the last one of the answer.
    Complete,
}

/// An answer whose events are still arriving.
#[derive(Debug, Default)]
pub struct PartialAnswer {
    answer: Answer,
    blocks: Vec<Block>,
    /// The size of all content so far, in bytes.
    size: usize,
    has_started: bool,
    is_complete: bool,
    /// Whether the final number of output tokens was reported. The number in `message_start` is preliminary.
    is_output_reported: bool,
}

/// A content block whose events are still arriving.
#[derive(Debug, Default)]
struct Block {
    json: Map<String, Value>,
    /// The JSON text of a tool call's input, which arrives in pieces.
    input: String,
    is_complete: bool,
}

/// An event of a stream, as the API sends it.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: StartedMessage,
    },
    ContentBlockStart {
        index: usize,
        content_block: Map<String, Value>,
    },
    ContentBlockDelta {
        index: usize,
        delta: Delta,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        delta: MessageChange,
        #[serde(default, deserialize_with = "read_usage")]
        usage: Usage,
    },
    MessageStop,
    Error {
        error: ErrorDetails,
    },
    /// `ping`, and types that are not known yet.
    #[serde(other)]
    Other,
}

/// The message at the beginning of a stream, which has no content yet.
#[derive(Deserialize)]
struct StartedMessage {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    #[serde(default, deserialize_with = "read_usage")]
    usage: Usage,
}

/// Reads `usage` field by field: a field with an unexpected type counts as absent.
fn read_usage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usage, D::Error> {
    Ok(Usage::of_messages_api(&Value::deserialize(deserializer)?))
}

/// The addition to a content block.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "citations_delta")]
    Citations { citation: Value },
    #[serde(other)]
    Other,
}

/// The fields of the message that its last events set.
#[derive(Deserialize)]
struct MessageChange {
    stop_reason: Option<String>,
}

impl PartialAnswer {
    /// Whether a part of the content has arrived.
    pub fn has_content(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Whether the first event of the answer has arrived. From then on, the answer costs money.
    pub fn has_started(&self) -> bool {
        self.has_started
    }

    /// The usage that the service has reported so far, without the preliminary number of output tokens.
    pub fn usage(&self) -> Usage {
        let usage = self.answer.usage;
        Usage {
            output_tokens: usage.output_tokens.filter(|_| self.is_output_reported),
            ..usage
        }
    }

    /// The usage of an answer that has broken off. Output that the service has not reported counts as one token for each
    /// three bytes that have arrived, as in the model gateway.
    pub fn usage_so_far(&self) -> Usage {
        let usage = self.usage();
        let arrived = u64::try_from(self.size.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX);
        Usage {
            output_tokens: usage.output_tokens.or(Some(arrived)),
            ..usage
        }
    }

    /// Reads the data of the next event.
    pub fn push(&mut self, data: &str) -> Result<Change, StreamError> {
        let event = serde_json::from_str(data);
        let event = event.map_err(|error| StreamError::Malformed(error.to_string()))?;
        let grown_by = self.apply(event, data.len())?;
        self.size += grown_by;
        if self.size > MAX_ANSWER_SIZE {
            return Err(StreamError::TooLarge);
        }
        Ok(match grown_by {
            _ if self.is_complete => Change::Complete,
            0 => Change::Nothing,
            _ => Change::Grown,
        })
    }

    /// Applies an event of `event_size` bytes; returns by how many bytes the answer has grown.
    fn apply(&mut self, event: Event, event_size: usize) -> Result<usize, StreamError> {
        let malformed = |why: &dyn std::fmt::Display| StreamError::Malformed(why.to_string());
        Ok(match event {
            Event::MessageStart { .. } if self.has_started => {
                return Err(malformed(&"it has two events `message_start`"));
            }
            Event::MessageStart { message } => {
                self.has_started = true;
                self.answer.id = message.id;
                self.answer.model = message.model;
                self.answer.usage = message.usage;
                event_size
            }
            Event::ContentBlockStart {
                index,
                content_block,
            } => {
                if index != self.blocks.len() {
                    return Err(malformed(&format_args!("block {index} is out of order")));
                }
                self.blocks.push(Block {
                    json: content_block,
                    ..Block::default()
                });
                event_size
            }
            Event::ContentBlockDelta { index, delta } => self.block(index)?.push(delta, event_size),
            Event::ContentBlockStop { index } => {
                self.block(index)?.complete();
                0
            }
            Event::MessageDelta { delta, usage } => {
                let is_first_stop_reason =
                    self.answer.stop_reason.is_none() && delta.stop_reason.is_some();
                self.answer.stop_reason = delta.stop_reason.or(self.answer.stop_reason.take());
                self.answer.usage = self.answer.usage.updated_by(usage);
                self.is_output_reported |= usage.output_tokens.is_some();
                if is_first_stop_reason { event_size } else { 0 }
            }
            Event::MessageStop => {
                self.is_complete = true;
                0
            }
            Event::Error { error } => {
                return Err(StreamError::Reported(error));
            }
            Event::Other => 0,
        })
    }

    /// The block with this index.
    fn block(&mut self, index: usize) -> Result<&mut Block, StreamError> {
        let block = self.blocks.get_mut(index);
        block.ok_or_else(|| StreamError::Malformed(format!("there is no block {index}")))
    }

    /// The answer, if it is complete and not empty. Blocks that the API would reject in the next request are removed.
    pub fn into_answer(mut self) -> Option<Answer> {
        // A service that breaks off may still send the last event.
        let is_empty = self.blocks.is_empty() && self.answer.stop_reason.is_none();
        if !self.is_complete || is_empty {
            return None;
        }
        self.answer.usage = self.usage();
        // A tool must not run with an incomplete input. If the model has finished its tool calls, an input
        // that cannot be parsed stays: the call gets an error as its result, so that the model can
        // correct it.
        let calls_are_finished = self.answer.stop_reason.as_deref() == Some("tool_use");
        let sendable = |block: Block| block.into_sendable(calls_are_finished);
        self.answer.content = self.blocks.into_iter().filter_map(sendable).collect();
        // The API rejects a message that ends with a thinking block.
        while self.answer.content.last().is_some_and(is_thinking) {
            self.answer.content.pop();
        }
        Some(self.answer)
    }
}

impl Block {
    /// Adds a delta from an event of `event_size` bytes; returns by how many bytes the block has grown.
    fn push(&mut self, delta: Delta, event_size: usize) -> usize {
        match delta {
            Delta::Text { text } => self.append("text", &text),
            Delta::Thinking { thinking } => self.append("thinking", &thinking),
            Delta::Signature { signature } => self.append("signature", &signature),
            Delta::InputJson { partial_json } => {
                self.input.push_str(&partial_json);
                partial_json.len()
            }
            Delta::Citations { citation } => {
                let list = self.json.entry("citations").or_insert(Value::Null);
                match list {
                    Value::Array(list) => list.push(citation),
                    other => *other = Value::Array(vec![citation]),
                }
                event_size
            }
            Delta::Other => 0,
        }
    }

    /// Appends to a text of the block.
    fn append(&mut self, key: &str, more: &str) -> usize {
        match self.json.get_mut(key) {
            Some(Value::String(text)) => text.push_str(more),
            _ => drop(self.json.insert(key.to_owned(), more.into())),
        }
        more.len()
    }

    /// Handles the last event of the block. An input that cannot be parsed leaves the block incomplete.
    fn complete(&mut self) {
        self.is_complete = true;
        if !self.input.is_empty() {
            match serde_json::from_str(&std::mem::take(&mut self.input)) {
                Ok(input) => drop(self.json.insert("input".to_owned(), input)),
                Err(_) => self.is_complete = false,
            }
        }
    }

    /// The block for the next request; `None` if the API would reject it. `calls_are_finished` is false if
    /// the answer ended for another reason than a tool call, so that its last block may be incomplete.
    fn into_sendable(mut self, calls_are_finished: bool) -> Option<Value> {
        // The API accepts only objects; the tool's error will say which argument is missing.
        if self.json.get("type").is_some_and(|kind| kind == "tool_use")
            && !self.json.get("input").is_some_and(Value::is_object)
        {
            self.json
                .insert("input".to_owned(), Value::Object(Map::new()));
        }
        let text = |key: &str| self.json.get(key).and_then(Value::as_str);
        let is_blank = |key: &str| text(key).unwrap_or_default().trim().is_empty();
        let sendable = match text("type") {
            // An incomplete text is useful. The API rejects a text of white space alone.
            Some("text") => !is_blank("text"),
            // An incomplete thinking block has no signature.
            Some("thinking") => self.is_complete && !is_blank("signature"),
            Some("tool_use") => self.is_complete || calls_are_finished,
            _ => self.is_complete,
        };
        sendable.then_some(Value::Object(self.json))
    }
}

#[cfg(test)]
mod tests;
