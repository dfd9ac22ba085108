//! Removes everything that a dispatch has left in an engine.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::calls::Found;
use super::remote::Remote;
use super::starting::{FIRST_PAUSE, MAX_PAUSE};

/// How often the clean-up at the end is tried.
const ATTEMPTS: u32 = 4;
/// After this time, a clean-up with an error is not tried again.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Repeats a call until it succeeds.
pub async fn repeat<F: Future<Output = Result<(), String>>>(call: impl Fn() -> F) {
    let mut pause = FIRST_PAUSE;
    while let Err(why) = call().await {
        tracing::debug!(why, "a call to an engine is repeated");
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Removes everything of the dispatch. An error does not stop an attempt: the rest is removed, and then the whole is
/// tried again a few times. Returns the first error of the last attempt.
pub async fn remove_all(remote: &Remote) -> Result<(), String> {
    let deadline = Instant::now() + TIME_LIMIT;
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let result = try_to_remove_all(remote, deadline).await;
        let Err(why) = &result else {
            return result;
        };
        if attempt == ATTEMPTS || Instant::now() + pause > deadline {
            return result;
        }
        tracing::debug!(why, "the clean-up is tried again");
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
        attempt += 1;
    }
}

/// Removes everything of one run.
pub async fn remove_run(remote: &Remote, run: &str) -> Result<(), String> {
    let found = remote.sweep().await?.into_iter();
    for found in found.filter(|found| found.run == run) {
        remove(remote, &found).await?;
    }
    Ok(())
}

/// Removes a run, and saves its output if that is possible.
async fn remove(remote: &Remote, found: &Found) -> Result<(), String> {
    let _ = remote.harvest(&found.run, &found.handle).await;
    remote.remove(&found.run, &found.handle).await
}

async fn try_to_remove_all(remote: &Remote, deadline: Instant) -> Result<(), String> {
    let mut result = Ok(());
    let found = remote.sweep().await.unwrap_or_else(|why| {
        result = Err(why);
        Vec::new()
    });
    for found in found {
        // An engine that does not answer may take a minute for each error.
        if result.is_err() && Instant::now() > deadline {
            break;
        }
        let removed = remove(remote, &found).await;
        result = result.and(removed);
    }
    let cleared = remote.clear().await;
    result.and(cleared)
}
