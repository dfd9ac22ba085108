//! The wait between two attempts. A stop signal cuts it short.

use std::time::Duration;

use tokio::time::sleep;

use crate::http::retries::{NoRetry, Retries};
use crate::shutdown::Stop;

/// How long to wait before the next attempt; `retry_after` is the header of the last answer. After a stop signal the
/// wait is short and ignores `retry_after`, because the process will be killed soon.
pub fn next_delay(
    retries: &mut Retries,
    retry_after: Option<Duration>,
    stop: &Stop,
) -> Result<Duration, NoRetry> {
    if stop.has_stop_window_begun() {
        retries.hurried_delay()
    } else {
        retries.delay(retry_after)
    }
}

/// Waits until the delay is over or the first stop signal arrives.
pub async fn pause(delay: Duration, stop: &Stop) {
    if stop.has_stop_window_begun() {
        return sleep(delay).await;
    }
    tokio::select! {
        () = sleep(delay) => {}
        () = stop.wait_until_window_begins() => {}
    }
}
