//! Answers and errors of the Messages API. `stream` reads an answer from its events.
//!
//! Content blocks stay JSON, because the next request must send them back unchanged, also those of
//! unknown types. Sends no requests.

pub mod stream;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::Usage;

/// A complete answer of the model.
#[derive(Debug, Default)]
pub struct Answer {
    pub id: String,
    pub model: String,
    /// The blocks that the API accepts in the next request.
    pub content: Vec<Value>,
    pub stop_reason: Option<String>,
    pub usage: Usage,
}

/// A tool call that the model asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub input: Value,
}

impl Answer {
    /// All text blocks.
    pub fn text(&self) -> String {
        let texts = self.content.iter().filter(|block| block["type"] == "text");
        let texts: Vec<&str> = texts.filter_map(|block| block["text"].as_str()).collect();
        texts.join("\n")
    }

    /// The tool calls, in order.
    pub fn tool_calls(&self) -> Vec<ToolCall> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let calls = self
            .content
            .iter()
            .filter(|block| block["type"] == "tool_use");
        calls
            .map(|block| ToolCall {
                id: text(&block["id"]),
                name: text(&block["name"]),
                input: block["input"].clone(),
            })
            .collect()
    }

    /// Whether the model has to continue this answer in another one.
    pub fn is_unfinished(&self) -> bool {
        self.is_cut_off() || self.stop_reason.as_deref() == Some("pause_turn")
    }

    /// Whether the answer ended because it reached a length limit.
    pub fn is_cut_off(&self) -> bool {
        matches!(
            self.stop_reason.as_deref(),
            Some("max_tokens" | "model_context_window_exceeded")
        )
    }
}

/// A text block for a request.
pub fn text_block(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// An error that the service reports.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct ErrorDetails {
    /// The type of the error, such as `overloaded_error`.
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub message: String,
}

/// The error in the body of a response. If the body is not in the API's format, the whole body is the message, and the
/// kind is empty.
pub fn error_of_body(body: &[u8]) -> ErrorDetails {
    #[derive(Deserialize)]
    struct Body {
        error: ErrorDetails,
    }
    if let Ok(Body { error }) = serde_json::from_slice(body) {
        return error;
    }
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().collect();
    ErrorDetails {
        kind: String::new(),
        message: words.join(" "),
    }
}

/// Whether a block contains thoughts of the model.
pub fn is_thinking(block: &Value) -> bool {
    matches!(
        block["type"].as_str(),
        Some("thinking" | "redacted_thinking")
    )
}

#[cfg(test)]
mod tests;
