//! Durations in the form in which people write settings.

use std::time::Duration;

/// `1m 30s`, to the millisecond: the form that the settings accept too.
pub fn in_words(duration: Duration) -> String {
    let milliseconds = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    format!("{:#}", jiff::SignedDuration::from_millis(milliseconds))
}
