//! The work on its way to the remote: a new branch, or one that it only adds to.
//!
//! Overwrites nothing: where the branch has moved on without this work, the work gets a branch of
//! its own. Works in the vault, which no agent could write.

use std::time::Duration;

use tokio::time::sleep;

use super::product::Repository;
use crate::git::{Git, GitError};
use crate::task::{Failure, Reason};

/// How often to try, and how long to wait between: a remote that restarts is back in seconds, and
/// after that somebody has to look.
const WAITS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(12),
];

/// What a remote says where two pushes meet; the next one sees what the other made.
const RACES: [&str; 4] = [
    "cannot lock ref",
    "failed to update ref",
    "incorrect old value provided",
    "reference already exists",
];

/// What the remote said to a push.
enum Answer {
    Taken,
    /// There is such a branch, with something else on it.
    Moved,
    /// The remote does not want it.
    Refused(GitError),
    /// It may be another story next time.
    Failed(GitError),
}

/// Pushes a commit; gives the branch that it is on.
pub async fn push(
    git: &Git<'_>,
    vault: &Repository,
    url: &str,
    head: &str,
    branch: &str,
    suffix: &str,
) -> Result<String, Failure> {
    let mut branch = branch.to_owned();
    let mut own = None;
    let mut waits = WAITS.iter();
    loop {
        let error = match attempt(git, vault, url, head, &branch).await {
            Answer::Taken => {
                tracing::info!(branch, head, "pushed");
                return Ok(branch);
            }
            Answer::Moved if own.is_none() => {
                tracing::warn!(
                    branch,
                    "the branch holds something else, so the work gets its own"
                );
                branch = own.insert(format!("{branch}-{suffix}")).clone();
                continue;
            }
            Answer::Moved => {
                return Err(Failure::new(
                    Reason::PushFailed,
                    format!("the branch {branch} is taken"),
                ));
            }
            Answer::Refused(error) => return Err(failed(&branch, &error)),
            Answer::Failed(error) => error,
        };
        let Some(wait) = waits.next().filter(|_| !error.stopped) else {
            return Err(failed(&branch, &error));
        };
        tracing::warn!(%error, words = error.words, "the work was not pushed, trying again");
        tokio::select! {
            () = sleep(*wait) => {}
            _ = git.stop.requested() => return Err(failed(&branch, &error)),
        }
    }
}

async fn attempt(git: &Git<'_>, vault: &Repository, url: &str, head: &str, branch: &str) -> Answer {
    let refspec = format!("{head}:refs/heads/{branch}");
    let call = vault
        .call([
            "push",
            "--porcelain",
            "--progress",
            "--no-verify",
            "--",
            url,
            &refspec,
        ])
        .transfer();
    let Err(error) = git.run(call).await else {
        return Answer::Taken;
    };
    // The porcelain's line for a reference that was not taken: `!<tab>from:to<tab>[why] (words)`.
    match error.words.lines().find(|line| line.starts_with('!')) {
        Some(line) if line.contains("[rejected]") => Answer::Moved,
        // Somebody else was there in the same moment.
        Some(line) if RACES.iter().any(|race| line.contains(race)) => Answer::Failed(error),
        Some(line) if line.contains("[remote rejected]") => Answer::Refused(error),
        _ => Answer::Failed(error),
    }
}

fn failed(branch: &str, error: &GitError) -> Failure {
    let message = format!("the work could not be pushed to {branch}: {error}");
    Failure {
        causes: vec![error.words.clone()],
        ..Failure::new(Reason::PushFailed, message)
    }
}
