//! The arguments of a tool call.

use serde_json::Value;

/// An argument that must be a string.
pub fn string_argument<'a>(input: &'a Value, name: &str) -> Result<&'a str, String> {
    input[name]
        .as_str()
        .ok_or_else(|| format!("`{name}` must be a string"))
}
