//! The W3C Trace Context header `traceparent`, which joins the callbacks to the orchestrator's trace.

use reqwest::header::{HeaderName, HeaderValue};

pub const HEADER: HeaderName = HeaderName::from_static("traceparent");

/// A `traceparent` as a header's value; `None` if the text is not one.
pub fn parse(text: &str) -> Option<HeaderValue> {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let is_allowed = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '-');
    let is_valid = lengths == [2, 32, 16, 2] && text.chars().all(is_allowed);
    is_valid.then(|| HeaderValue::from_str(text).ok())?
}
