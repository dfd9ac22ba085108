//! The Messages API's words: how an answer comes, event by event, and what it holds.
//!
//! Blocks stay the JSON that they came as, because that is what has to be sent back, kinds that
//! are not known here included. Sends nothing.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::model::Usage;

/// A whole answer of the model.
#[derive(Debug, Default)]
pub struct Answer {
    pub id: String,
    pub model: String,
    /// As it has to be sent back.
    pub content: Vec<Value>,
    pub stop_reason: Option<String>,
    pub usage: Usage,
}

/// A tool that the model wants used.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub input: Value,
}

impl Answer {
    /// Everything that it says in words.
    pub fn text(&self) -> String {
        let texts = self.content.iter().filter(|block| block["type"] == "text");
        let texts: Vec<&str> = texts.filter_map(|block| block["text"].as_str()).collect();
        texts.join("\n")
    }

    /// The tools it wants used, in order.
    pub fn tool_calls(&self) -> Vec<ToolCall> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let calls = self
            .content
            .iter()
            .filter(|block| block["type"] == "tool_use");
        calls
            .map(|block| ToolCall {
                id: word(&block["id"]),
                name: word(&block["name"]),
                input: block["input"].clone(),
            })
            .collect()
    }

    /// Whether it goes on in another answer.
    pub fn is_half(&self) -> bool {
        self.is_cut() || self.stop_reason.as_deref() == Some("pause_turn")
    }

    /// Whether it ended before it was finished.
    pub fn is_cut(&self) -> bool {
        matches!(
            self.stop_reason.as_deref(),
            Some("max_tokens" | "model_context_window_exceeded")
        )
    }
}

/// A text block.
pub fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// Why a stream of events is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamError {
    /// The service says so itself, in the midst of it.
    Said { kind: String, message: String },
    /// An event that cannot be one.
    Malformed(String),
}

/// An answer on its way.
#[derive(Debug, Default)]
pub struct Incoming {
    answer: Answer,
    blocks: Vec<Block>,
    over: bool,
}

#[derive(Debug, Default)]
struct Block {
    json: Map<String, Value>,
    /// A tool's input, which comes as pieces of JSON text.
    input: String,
    whole: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Start,
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
        delta: Ending,
        #[serde(default, deserialize_with = "usage")]
        usage: Usage,
    },
    MessageStop,
    Error {
        error: Complaint,
    },
    /// `ping`, and what may come to be.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    #[serde(default, deserialize_with = "usage")]
    usage: Usage,
}

/// Reads `usage` field by field: a field with an unexpected type counts as absent, and so does a
/// `usage` that is not an object.
fn usage<'de, D: Deserializer<'de>>(from: D) -> Result<Usage, D::Error> {
    let usage = Value::deserialize(from)?;
    let tokens = |name: &str| usage.get(name).and_then(Value::as_u64);
    Ok(Usage {
        input_tokens: tokens("input_tokens"),
        output_tokens: tokens("output_tokens"),
        cache_creation_input_tokens: tokens("cache_creation_input_tokens"),
        cache_read_input_tokens: tokens("cache_read_input_tokens"),
    })
}

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

#[derive(Deserialize)]
struct Ending {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Complaint {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

/// The message of an error's body; the body itself where it is none of the API's.
pub fn complaint(body: &[u8]) -> (String, String) {
    #[derive(Deserialize)]
    struct Body {
        error: Complaint,
    }
    if let Ok(Body { error }) = serde_json::from_slice(body) {
        return (error.kind, error.message);
    }
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().collect();
    (String::new(), words.join(" "))
}

impl Incoming {
    /// Whether anything of the answer itself has come.
    pub fn has_begun(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// What it has taken so far, as far as it is told.
    pub fn usage(&self) -> Usage {
        self.answer.usage
    }

    /// The data of the next event; true where that was the last one.
    pub fn push(&mut self, data: &str) -> Result<bool, StreamError> {
        let malformed = |what: &dyn std::fmt::Display| StreamError::Malformed(what.to_string());
        match serde_json::from_str(data).map_err(|error| malformed(&error))? {
            Event::MessageStart { message } => {
                self.answer.id = message.id;
                self.answer.model = message.model;
                self.answer.usage = message.usage;
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
            }
            Event::ContentBlockDelta { index, delta } => self.block(index)?.push(delta),
            Event::ContentBlockStop { index } => self.block(index)?.stop(),
            Event::MessageDelta { delta, usage } => {
                self.answer.stop_reason = delta.stop_reason.or(self.answer.stop_reason.take());
                self.answer.usage = self.answer.usage.updated_by(usage);
            }
            Event::MessageStop => self.over = true,
            Event::Error { error } => {
                return Err(StreamError::Said {
                    kind: error.kind,
                    message: error.message,
                });
            }
            Event::Other => {}
        }
        Ok(self.over)
    }

    fn block(&mut self, index: usize) -> Result<&mut Block, StreamError> {
        let block = self.blocks.get_mut(index);
        block.ok_or_else(|| StreamError::Malformed(format!("there is no block {index}")))
    }

    /// The answer, once it is over, with what of it may be sent back.
    pub fn answer(mut self) -> Option<Answer> {
        if !self.over {
            return None;
        }
        // A tool must not be used with half of its input; what is whole and cannot be read is
        // answered with an error, so that the model hears of it.
        let cut = self.answer.stop_reason.as_deref() != Some("tool_use");
        let sendable = |block: Block| block.sendable(cut);
        self.answer.content = self.blocks.into_iter().filter_map(sendable).collect();
        // The API wants no thought at the end of a message.
        while self.answer.content.last().is_some_and(is_thought) {
            self.answer.content.pop();
        }
        Some(self.answer)
    }
}

/// Whether a block is one of the model's thoughts.
pub fn is_thought(block: &Value) -> bool {
    matches!(
        block["type"].as_str(),
        Some("thinking" | "redacted_thinking")
    )
}

impl Block {
    fn push(&mut self, delta: Delta) {
        match delta {
            Delta::Text { text } => self.append("text", &text),
            Delta::Thinking { thinking } => self.append("thinking", &thinking),
            Delta::Signature { signature } => self.append("signature", &signature),
            Delta::InputJson { partial_json } => self.input.push_str(&partial_json),
            Delta::Citations { citation } => {
                let list = self.json.entry("citations").or_insert(Value::Null);
                match list {
                    Value::Array(list) => list.push(citation),
                    other => *other = Value::Array(vec![citation]),
                }
            }
            Delta::Other => {}
        }
    }

    fn append(&mut self, key: &str, more: &str) {
        match self.json.get_mut(key) {
            Some(Value::String(text)) => text.push_str(more),
            _ => drop(self.json.insert(key.to_owned(), more.into())),
        }
    }

    fn stop(&mut self) {
        self.whole = true;
        if !self.input.is_empty() {
            match serde_json::from_str(&self.input) {
                Ok(input) => drop(self.json.insert("input".to_owned(), input)),
                Err(_) => self.whole = false,
            }
        }
    }

    /// The block as it may be sent back; `cut` where the last one may lack its end.
    fn sendable(mut self, cut: bool) -> Option<Value> {
        // Whatever else it was, the API wants an object, and the tool says what is missing in it.
        if self.json.get("type").is_some_and(|kind| kind == "tool_use")
            && !self.json.get("input").is_some_and(Value::is_object)
        {
            self.json
                .insert("input".to_owned(), Value::Object(Map::new()));
        }
        let text = |key: &str| self.json.get(key).and_then(Value::as_str);
        let is_blank = |key: &str| text(key).unwrap_or_default().trim().is_empty();
        let sendable = match text("type") {
            // Half a text is still one, but one of white space is refused.
            Some("text") => !is_blank("text"),
            // Half a thought has no signature.
            Some("thinking") => self.whole && !is_blank("signature"),
            Some("tool_use") => self.whole || !cut,
            _ => self.whole,
        };
        sendable.then_some(Value::Object(self.json))
    }
}

#[cfg(test)]
mod tests;
