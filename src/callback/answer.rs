//! What an orchestrator's answer means, whatever was asked: the columns of the protocol's table.
//!
//! What to do about it is for the caller, who knows what was asked.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::http::retries::retry_after;

#[derive(Debug)]
pub enum Answer {
    /// 2xx, with the body.
    Accepted { body: Vec<u8> },
    /// 409 or 410: the orchestrator has made up its mind already.
    Known { why: String },
    /// 404: there is no such route, at least not now.
    NotFound { why: String },
    /// 405 or 501: there is no such route.
    NoRoute { why: String },
    /// 413.
    TooLarge { why: String },
    /// Anything that will not be better next time.
    Rejected { why: String },
    /// Anything that may be better next time, and when the orchestrator thinks that is.
    Later {
        why: String,
        after: Option<Duration>,
    },
}

impl Answer {
    /// What a complete answer means.
    pub fn new(status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Self {
        if status.is_success() {
            return Self::Accepted { body };
        }
        let why = explain(status, headers, &body);
        match status.as_u16() {
            409 | 410 => Self::Known { why },
            404 => Self::NotFound { why },
            405 | 501 => Self::NoRoute { why },
            413 => Self::TooLarge { why },
            408 | 425 | 429 | 500..=599 => Self::Later {
                why,
                after: retry_after(headers, Timestamp::now()),
            },
            _ => Self::Rejected { why },
        }
    }
}

/// The status in words, and what the orchestrator said about it.
fn explain(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    if let (true, Some(location)) = (status.is_redirection(), headers.get("location")) {
        let location = location.to_str().unwrap_or("somewhere");
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
