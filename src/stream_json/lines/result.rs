//! `result` lines: how the agent's work ended.

use serde::Deserialize;

use super::fields::{RawField, fields, unless_too_large, value};
use super::tokens::sum_of_models;
use crate::amounts::possible_cost;
use crate::excerpt;
use crate::model::{Usage, is_temporary};
use crate::task::{Failure, Reason};

/// The longest final message, in bytes.
const MAX_FINAL_MESSAGE_SIZE: usize = 64 * 1024;
/// The value of `api_error` if a request got no answer, but a later request may get one.
pub const CONNECTION_FAILED: &str = "connection_failed";
/// The value of `api_error` if a request got no answer, and no later request will.
pub const CONNECTION_REJECTED: &str = "connection_rejected";

/// A `result` line: the agent's own report about its end.
#[derive(Debug)]
pub struct ResultLine {
    subtype: Option<String>,
    is_error: bool,
    api_error_status: Option<u16>,
    api_error: Option<String>,
    result: Option<String>,
    errors: Vec<String>,
    queued_turns: u64,
    pub cost_usd: Option<f64>,
    /// The tokens of all models together, including the subagents' ones.
    pub usage: Option<Usage>,
}

impl ResultLine {
    pub fn of(json: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        struct Fields<'a> {
            #[serde(borrow, default)]
            subtype: RawField<'a>,
            #[serde(borrow, default)]
            is_error: RawField<'a>,
            #[serde(borrow, default)]
            api_error_status: RawField<'a>,
            #[serde(borrow, default)]
            api_error: RawField<'a>,
            #[serde(borrow, default)]
            result: RawField<'a>,
            #[serde(borrow, default)]
            errors: RawField<'a>,
            #[serde(borrow, default)]
            queued_turn_count: RawField<'a>,
            #[serde(borrow, default)]
            total_cost_usd: RawField<'a>,
            #[serde(borrow, default, rename = "modelUsage")]
            model_usage: RawField<'a>,
        }
        let fields: Fields<'_> = fields(json);
        Self {
            subtype: value(fields.subtype),
            is_error: value(fields.is_error).unwrap_or(false),
            api_error_status: value(fields.api_error_status),
            api_error: value(fields.api_error),
            result: value(fields.result)
                .filter(|message: &String| !message.trim().is_empty())
                .map(|message| excerpt::first_bytes(&message, MAX_FINAL_MESSAGE_SIZE)),
            errors: value(unless_too_large(fields.errors)).unwrap_or_default(),
            queued_turns: value(fields.queued_turn_count).unwrap_or(0),
            cost_usd: value(fields.total_cost_usd).and_then(possible_cost),
            usage: sum_of_models(unless_too_large(fields.model_usage)),
        }
    }

    /// Whether more turns follow, each with a `result` line.
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
        // `None` if the failure is not that a request got no answer.
        let may_succeed_later = match self.api_error.as_deref() {
            Some(CONNECTION_FAILED) => Some(true),
            Some(CONNECTION_REJECTED) => Some(false),
            _ => is_retrying.then_some(true),
        };
        Some(match (subtype, self.api_error_status, may_succeed_later) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_cost_counts_as_absent() {
        for (cost, expected) in [
            ("0", Some(0.0)),
            ("0.25", Some(0.25)),
            ("1e9", Some(1e9)),
            ("1e10", None),
            ("1.7e308", None),
            ("-0.1", None),
            ("1e999", None),
        ] {
            let json = format!(r#"{{"type":"result","total_cost_usd":{cost}}}"#);
            assert_eq!(ResultLine::of(json.as_bytes()).cost_usd, expected, "{cost}");
        }
    }
}
