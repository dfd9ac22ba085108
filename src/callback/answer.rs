//! Classifies the orchestrator's answers, as the rows of the table "Answers" in docs/protocol.md do.
//!
//! The caller decides what to do, because it knows which request was sent.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::http::retries::retry_after;

/// An answer of the orchestrator. `why` describes the answer on one line; `retry_after` is its header `Retry-After`.
#[derive(Debug)]
pub enum Answer {
    /// 2xx, with the body.
    Accepted { body: Vec<u8> },
    /// 409 or 410: another run has the task, or the run or the task has ended.
    ConflictOrGone { why: String },
    /// 404: the route is missing, possibly only for now.
    NotFound {
        why: String,
        retry_after: Option<Duration>,
    },
    /// 405 or 501: the orchestrator has no such route.
    NoRoute { why: String },
    /// 413: the body is too large.
    TooLarge { why: String },
    /// The orchestrator would answer a retry in the same way, so the request counts as rejected.
    PermanentError { why: String },
    /// There was no answer, or one that a retry may change.
    TemporaryError {
        why: String,
        retry_after: Option<Duration>,
    },
}

impl Answer {
    /// Classifies a complete answer.
    pub fn new(status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Self {
        if status.is_success() {
            return Self::Accepted { body };
        }
        let why = explain(status, headers, &body);
        let retry_after = retry_after(headers, Timestamp::now());
        match status.as_u16() {
            409 | 410 => Self::ConflictOrGone { why },
            404 => Self::NotFound { why, retry_after },
            405 | 501 => Self::NoRoute { why },
            413 => Self::TooLarge { why },
            408 | 425 | 429 | 500..=599 => Self::TemporaryError { why, retry_after },
            _ => Self::PermanentError { why },
        }
    }
}

/// Describes the answer on one line: its status, and the target of a redirect or else the beginning of the body. The
/// target is shown without its query, which may repeat a token in the callback URL.
fn explain(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    if let (true, Some(location)) = (status.is_redirection(), headers.get("location")) {
        let location = location.to_str().unwrap_or("another URL");
        let location = location.split(['?', '#']).next().unwrap_or_default();
        return format!("answered {status} to {location}; redirects are not followed");
    }
    let text: String = String::from_utf8_lossy(body)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let text: String = text.chars().take(200).collect();
    if text.is_empty() {
        format!("answered {status}")
    } else {
        format!("answered {status}: {text}")
    }
}
