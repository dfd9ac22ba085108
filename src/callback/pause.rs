//! The wait between two attempts, which a stop signal cuts short.

use std::time::Duration;

use tokio::time::sleep;

use crate::http::retries::{OutOfTime, Retries};
use crate::shutdown::Stop;

/// Waits before the next attempt; `after` is what the orchestrator asked for. A stop signal ends
/// the wait, because it leaves little time.
///
/// # Errors
/// If the deadline leaves no time for another attempt.
pub async fn pause(
    retries: &mut Retries,
    after: Option<Duration>,
    stop: &Stop,
) -> Result<(), OutOfTime> {
    if stop.is_signalled() {
        sleep(retries.hurried_delay()?).await;
        return Ok(());
    }
    let delay = retries.delay(after)?;
    tokio::select! {
        () = sleep(delay) => {}
        () = stop.signalled() => {}
    }
    Ok(())
}
