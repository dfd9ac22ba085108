//! The lines of `stream-json`: only this module and the files in its folder know the names of their fields.
//!
//! Lines can be large, so only the needed fields are copied. A field with an unexpected type counts
//! as absent; the fields next to it are read.

mod assistant;
mod fields;
mod result;
mod tokens;
mod tool_results;

use serde::Deserialize;

pub use assistant::{AssistantLine, Block, ToolCall};
use fields::{RawField, fields, object, value};
pub use result::{CONNECTION_FAILED, CONNECTION_REJECTED, ResultLine};
pub use tool_results::{ToolResult, tool_results};

/// The longest name of a model, in bytes.
const MAX_MODEL_NAME_SIZE: usize = 200;

/// The fields that lines of every type have.
#[derive(Debug)]
pub struct CommonFields {
    /// The field `type`.
    pub line_type: String,
    pub subtype: String,
    pub session_id: Option<String>,
}

impl CommonFields {
    /// `None` if the line is not a JSON object.
    pub fn of(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow, default, rename = "type")]
            kind: RawField<'a>,
            #[serde(borrow, default)]
            subtype: RawField<'a>,
            #[serde(borrow, default)]
            session_id: RawField<'a>,
        }
        let fields: Fields<'_> = object(json)?;
        Some(Self {
            line_type: value(fields.kind).unwrap_or_default(),
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
        model: RawField<'a>,
    }
    let model = value(fields::<Fields<'_>>(json).model);
    model.filter(|model: &String| model.len() <= MAX_MODEL_NAME_SIZE)
}

/// A `system/api_retry` line: a request to the model's service failed and will be repeated.
#[derive(Debug)]
pub struct RetryLine {
    attempt: u64,
    delay_ms: u64,
    status: Option<u16>,
    error: Option<String>,
}

impl RetryLine {
    pub fn of(json: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        struct Fields<'a> {
            #[serde(borrow, default)]
            attempt: RawField<'a>,
            #[serde(borrow, default)]
            retry_delay_ms: RawField<'a>,
            #[serde(borrow, default)]
            error_status: RawField<'a>,
            #[serde(borrow, default)]
            error: RawField<'a>,
        }
        let fields: Fields<'_> = fields(json);
        Self {
            attempt: value(fields.attempt).unwrap_or(1),
            delay_ms: value(fields.retry_delay_ms).unwrap_or(0),
            status: value(fields.error_status),
            error: value(fields.error),
        }
    }

    /// The retry as one sentence for the log.
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
