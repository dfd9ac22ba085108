//! Points in time.

use jiff::Timestamp;

/// A point in time, in milliseconds since 1970.
pub type Millis = i64;

/// The time now.
pub fn now() -> Millis {
    Timestamp::now().as_millisecond()
}
