//! The result of a tool call, as the model reads it.

use serde_json::{Value, json};

use crate::excerpt;

/// The longest result, in bytes: the model pays for it again in every later request.
pub const MAX_RESULT_SIZE: usize = 30_000;

/// The result of a tool call.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolResult {
    pub text: String,
    /// Whether the tool call failed.
    pub is_error: bool,
}

impl ToolResult {
    /// The content block of the Messages API.
    pub fn into_block(self, call_id: &str) -> Value {
        json!({
            "type": "tool_result", "tool_use_id": call_id, "content": self.text, "is_error": self.is_error,
        })
    }
}

impl From<Result<String, String>> for ToolResult {
    fn from(result: Result<String, String>) -> Self {
        let is_error = result.is_err();
        let text = result.unwrap_or_else(|error| error);
        Self {
            text: excerpt::both_ends(&text, MAX_RESULT_SIZE),
            is_error,
        }
    }
}
