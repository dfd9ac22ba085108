//! An orchestrator's answers: status, `Retry-After`, `Location`, body; and the settings' `traceparent`.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::callback::answer::Answer;
use crate::callback::traceparent;
use crate::callback::wire::cancellation;
use crate::http::retries::{Retries, retry_after};

/// The input: two bytes that become the status, a line that is the value of both `Retry-After` and `Location`, and a body.
pub fn answers(data: &[u8]) {
    let Some((status, rest)) = data.split_at_checked(2) else {
        return;
    };
    let status = 100 + u16::from_be_bytes([status[0], status[1]]) % 500;
    let status = StatusCode::from_u16(status).expect("a status");
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let (header, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(header) {
        headers.insert(HeaderName::from_static("retry-after"), value.clone());
        headers.insert(HeaderName::from_static("location"), value);
    }
    check_retry_after(&headers, header);
    check_cancellation(body);
    if let Ok(text) = std::str::from_utf8(header)
        && let Some(value) = traceparent::parse(text)
    {
        assert_eq!(value.as_bytes(), header);
    }
    let why = match Answer::new(status, &headers, body.to_vec()) {
        Answer::Accepted { body: accepted } => {
            assert!(status.is_success() && accepted == body);
            return;
        }
        Answer::ConflictOrGone { why }
        | Answer::NoRoute { why }
        | Answer::TooLarge { why }
        | Answer::PermanentError { why }
        | Answer::NotFound { why, .. }
        | Answer::TemporaryError { why, .. } => why,
    };
    assert!(
        !why.contains('\n') && why.contains(status.as_str()),
        "{why}"
    );
}

/// Asserts that a retry never waits for less than `Retry-After`, and that a number there is a number of seconds.
fn check_retry_after(headers: &HeaderMap, header: &[u8]) {
    let Some(after) = retry_after(headers, Timestamp::now()) else {
        return;
    };
    let text = std::str::from_utf8(header)
        .expect("a header that was read")
        .trim();
    if let Ok(seconds) = text.parse::<u32>()
        && !text.starts_with('+')
        && seconds < 366 * 24 * 60 * 60
    {
        assert_eq!(after, Duration::from_secs(seconds.into()));
    }
    let mut retries = Retries::within(Duration::from_secs(3600));
    if let Ok(delay) = retries.delay(Some(after)) {
        assert!(delay >= after);
    }
}

fn check_cancellation(body: &[u8]) {
    let answer: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let cancels = answer.is_some_and(|answer| answer["cancel"] == true);
    assert_eq!(cancellation(body).is_some(), cancels);
}
