//! Failures of the commands that make and inspect the work product.

use tokio::sync::Notify;

use super::records::Records;
use crate::git::{Call, Git, GitError};
use crate::process;
use crate::task::{Failure, Reason};

/// What to do after some output of git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterOutput {
    ReadMore,
    Stop,
}

/// Runs a call of git; returns its output. If the call fails, the run fails with [`Reason::PushFailed`].
pub async fn run(git: &Git<'_>, call: Call<'_>) -> Result<String, Failure> {
    git.run(call).await.map_err(|error| git_failure(&error))
}

/// Runs a call of git; returns the NUL-terminated records that git prints.
pub async fn run_records(git: &Git<'_>, call: Call<'_>) -> Result<Vec<Vec<u8>>, Failure> {
    let (mut records, mut found) = (Records::new(0), Vec::new());
    let mut on_output = |bytes: &[u8]| records.push(bytes, |record| found.push(record.to_vec()));
    run_stream(git, call, &mut on_output).await?;
    Ok(found)
}

/// Runs a call of git whose output may be large, and passes each part of the output to `on_output`.
pub async fn run_stream(
    git: &Git<'_>,
    call: Call<'_>,
    on_output: &mut dyn FnMut(&[u8]),
) -> Result<(), Failure> {
    let done = git.stream(call, on_output).await;
    done.map(drop).map_err(|error| git_failure(&error))
}

/// Like [`run_stream`], and ends git as soon as `on_output` returns [`AfterOutput::Stop`], because the rest of the output
/// is not needed. Returns whether git printed everything.
pub async fn run_stream_until(
    git: &Git<'_>,
    call: Call<'_>,
    on_output: &mut dyn FnMut(&[u8]) -> AfterOutput,
) -> Result<bool, Failure> {
    let stop = Notify::new();
    let mut is_stopped = false;
    let mut on_output = |bytes: &[u8]| {
        if !is_stopped && on_output(bytes) == AfterOutput::Stop {
            is_stopped = true;
            stop.notify_one();
        }
    };
    let done = tokio::select! {
        biased;
        done = run_stream(git, call, &mut on_output) => Some(done),
        () = stop.notified() => None,
    };
    match done {
        Some(done) if !is_stopped => done.map(|()| true),
        _ => Ok(false),
    }
}

/// The failure if git could not make or inspect the work product.
pub fn git_failure(error: &GitError) -> Failure {
    let summary = error.summary();
    let message = format!("the work could not be committed: {summary}");
    Failure {
        causes: vec![error.messages.clone()],
        ..Failure::new(Reason::PushFailed, message)
    }
}

/// The failure if a file of the push repository cannot be written or read.
pub fn io_failure(error: &std::io::Error) -> Failure {
    let message = "the repository for the push could not be made";
    Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Reason::PushFailed, message)
    }
}

/// Errors if a process of the agent still runs: it could change what the worker collects.
pub(super) fn check_that_the_agent_is_dead() -> Result<(), Failure> {
    if process::no_descendants_left() {
        return Ok(());
    }
    let message = "processes of the agent survived SIGKILL, so nothing is collected or pushed";
    Err(Failure::new(Reason::PushFailed, message))
}
