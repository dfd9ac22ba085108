//! Durations as text.

use std::time::Duration;

/// A duration like `1m 30s` or `1s 500ms`. Anything below a millisecond is left out.
pub fn in_words(duration: Duration) -> String {
    let milliseconds = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    format!("{:#}", jiff::SignedDuration::from_millis(milliseconds))
}
