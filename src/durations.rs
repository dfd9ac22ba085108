//! Durations as text.

use std::time::Duration;

/// `1m 30s`, with milliseconds at most.
pub fn in_words(duration: Duration) -> String {
    let milliseconds = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    format!("{:#}", jiff::SignedDuration::from_millis(milliseconds))
}
