//! Removes everything that a dispatch has left in an engine.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::answers::FoundRun;
use super::pending_starts::{FIRST_RETRY_PAUSE, MAX_RETRY_PAUSE};
use super::remote::RemoteEngine;

/// How often the clean-up at the end of a dispatch is tried at most.
const MAX_ATTEMPTS: u32 = 4;
/// After this time, the clean-up does not begin another attempt, and an attempt ends at its first error.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Repeats a call to an engine until it succeeds.
pub async fn repeat_until_ok<F: Future<Output = Result<(), String>>>(call: impl Fn() -> F) {
    let mut pause = FIRST_RETRY_PAUSE;
    while let Err(why) = call().await {
        tracing::debug!(why, "a call to an engine is repeated");
        sleep(pause).await;
        pause = (pause * 2).min(MAX_RETRY_PAUSE);
    }
}

/// Removes everything of the dispatch. After an error, the attempt goes on with the other runs, and later attempts try
/// again. Returns the first error of the last attempt.
pub async fn remove_all(remote: &RemoteEngine) -> Result<(), String> {
    let deadline = Instant::now() + TIME_LIMIT;
    let mut pause = FIRST_RETRY_PAUSE;
    let mut attempt = 1;
    loop {
        let result = try_to_remove_all(remote, deadline).await;
        let Err(why) = &result else {
            return result;
        };
        if attempt == MAX_ATTEMPTS || Instant::now() + pause > deadline {
            return result;
        }
        tracing::debug!(why, "the clean-up is tried again");
        sleep(pause).await;
        pause = (pause * 2).min(MAX_RETRY_PAUSE);
        attempt += 1;
    }
}

/// Removes every container or machine of one run.
pub async fn remove_run(remote: &RemoteEngine, run: &str) -> Result<(), String> {
    let found = remote.find_runs().await?.into_iter();
    for found in found.filter(|found| found.run == run) {
        remove(remote, &found).await?;
    }
    Ok(())
}

/// Removes a run, and saves its output if that is possible.
async fn remove(remote: &RemoteEngine, found: &FoundRun) -> Result<(), String> {
    let _ = remote.save_output(&found.run, &found.handle).await;
    remote.remove(&found.run, &found.handle).await
}

/// One attempt of [`remove_all`].
async fn try_to_remove_all(remote: &RemoteEngine, deadline: Instant) -> Result<(), String> {
    let mut result = Ok(());
    let runs = remote.find_runs().await.unwrap_or_else(|why| {
        result = Err(why);
        Vec::new()
    });
    for run in runs {
        // An engine that does not answer may take a minute for each error.
        if result.is_err() && Instant::now() > deadline {
            break;
        }
        let removed = remove(remote, &run).await;
        result = result.and(removed);
    }
    let removed = remote.remove_secrets().await;
    result.and(removed)
}
