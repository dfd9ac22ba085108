//! Elapsed time as people read it.

use std::time::Duration;

/// Writes a duration as minutes and seconds (`1:05`), or as hours, minutes and seconds (`1:00:05`).
pub fn clock_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}
