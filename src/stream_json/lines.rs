//! The lines of `stream-json`: only this module and the files in its folder know the names of their fields.
//!
//! Lines can be large, so only the needed fields are copied. A field with an unexpected type counts
//! as absent; the fields next to it are read.

mod assistant;
mod fields;
mod outcome;
mod tokens;
mod tool_results;

use serde::Deserialize;

pub use assistant::{Assistant, Block, ToolCall};
use fields::{Raw, fields, object, value};
pub use outcome::{CONNECTION_FAILED, CONNECTION_REJECTED, Outcome};
pub use tool_results::{ToolResult, tool_results};

/// The longest name of a model, in bytes.
const MAX_MODEL_NAME: usize = 200;

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
            kind: Raw<'a>,
            #[serde(borrow, default)]
            subtype: Raw<'a>,
            #[serde(borrow, default)]
            session_id: Raw<'a>,
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
