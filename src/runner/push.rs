//! Pushes the work to a branch of the remote: a new branch, or an existing one whose last commit the work is based on.
//!
//! Never overwrites commits: if the branch has other commits, the work goes to another branch. Pushes from a
//! repository in which the agent could not write.

use std::time::Duration;

use tokio::time::sleep;

use super::product::{PrivateRepository, Upload};
use crate::git::{Git, GitError, GitErrorKind};
use crate::task::{Failure, Reason};

/// The waits between attempts. They are long enough for a remote that restarts; after a longer outage, the push fails.
const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(12),
];

/// The highest number that is appended to a branch's suffix.
const MAX_NUMBER: u32 = 9;

/// Parts of the error messages with which remotes reject a push because another push changed the branch at the same
/// time. A next attempt sees the result of the other push.
const CONCURRENT_PUSH_ERRORS: [&str; 4] = [
    "but expected",
    "failed to update ref",
    "incorrect old value provided",
    "reference already exists",
];

/// The remote's answer to a push.
enum Answer {
    Accepted,
    /// The branch has other commits, or cannot be created next to another branch.
    BranchUnusable(GitError),
    /// The remote rejects the commits, and would reject them again.
    PermanentError(GitError),
    /// The same push may succeed later.
    TemporaryError(GitError),
}

/// Pushes commits to one remote.
pub struct Push<'a> {
    pub git: &'a Git<'a>,
    pub repository: &'a PrivateRepository,
    pub url: &'a str,
    /// Appended to the name of the branch if that branch cannot be used.
    pub suffix: &'a str,
    /// The id of this run, which is also in the `Run-Id` trailer of its commits.
    pub run_id: &'a str,
}

/// The result of a push.
#[derive(Debug)]
pub struct PushResult {
    pub branch: String,
    /// The commit that an earlier worker of the same run has pushed. If there is one, this worker pushes no
    /// commit.
    pub earlier_commit: Option<String>,
}

impl Push<'_> {
    /// Pushes the commit `head` to the branch `wanted` or, if that branch cannot be used, to another one. If an
    /// earlier worker of this run has pushed to the branch, pushes no commit.
    pub async fn push(&self, head: &str, wanted: &str) -> Result<PushResult, Failure> {
        let mut branch = wanted.to_owned();
        let mut other_names = other_branch_names(wanted, self.suffix).into_iter();
        let mut waits = RETRY_DELAYS.iter();
        loop {
            let error = match self.attempt(head, &branch).await {
                Answer::Accepted => {
                    tracing::info!(branch, head, "pushed");
                    return Ok(PushResult {
                        branch,
                        earlier_commit: None,
                    });
                }
                Answer::BranchUnusable(error) => {
                    if let Some(commit) = self.commit_of_earlier_worker(&branch).await {
                        tracing::warn!(
                            branch,
                            commit,
                            "an earlier worker of this run has already pushed, so this one pushes no commit"
                        );
                        return Ok(PushResult {
                            branch,
                            earlier_commit: Some(commit),
                        });
                    }
                    let Some(next) = other_names.next() else {
                        return Err(failure(&branch, &error));
                    };
                    tracing::warn!(
                        branch,
                        "the branch cannot be used ({}), so the work goes to {next}",
                        error.summary()
                    );
                    branch = next;
                    continue;
                }
                Answer::PermanentError(error) => return Err(failure(&branch, &error)),
                Answer::TemporaryError(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| !error.was_stopped) else {
                return Err(failure(&branch, &error));
            };
            tracing::warn!(
                words = error.messages,
                "the work was not pushed, trying again: {}",
                error.summary()
            );
            tokio::select! {
                () = sleep(*wait) => {}
                _ = self.git.stop.wait_until_requested() => return Err(failure(&branch, &error)),
            }
        }
    }

    /// The last commit of a remote branch, if its `Run-Id` trailer names this run.
    async fn commit_of_earlier_worker(&self, branch: &str) -> Option<String> {
        let reference = format!("refs/heads/{branch}");
        let fetch = self
            .repository
            .call(["fetch", "--progress", "--no-tags", "--depth=1"]);
        let fetch = fetch.args(self.git.file_remote_option(self.url, "upload-pack"));
        let fetch = fetch
            .arg("--")
            .arg(self.url)
            .arg(reference)
            .contacts_remote();
        self.git.run(fetch).await.ok()?;
        let format = "--format=%H%n%(trailers:key=Run-Id,valueonly)";
        let log = self.repository.call(["log", "-1", format, "FETCH_HEAD"]);
        let answer = self.git.run(log).await.ok()?;
        let (commit, run_ids) = answer.split_once('\n')?;
        let is_ours = run_ids.lines().any(|id| id.trim() == self.run_id);
        is_ours.then(|| commit.to_owned())
    }

    /// Uploads Git LFS objects. This must happen before the push of the commits that refer to them.
    pub async fn upload(&self, upload: &Upload) -> Result<(), Failure> {
        let mut waits = RETRY_DELAYS.iter();
        loop {
            let Err(error) = upload.send(self.git).await else {
                return Ok(());
            };
            let is_transient = error.kind().is_transient() && !error.was_stopped;
            let Some(wait) = waits.next().filter(|_| is_transient) else {
                return Err(failure("the Git LFS server", &error));
            };
            tracing::warn!(
                words = error.messages,
                "the Git LFS objects were not uploaded, trying again: {}",
                error.summary()
            );
            tokio::select! {
                () = sleep(*wait) => {}
                _ = self.git.stop.wait_until_requested() => return Err(failure("the Git LFS server", &error)),
            }
        }
    }

    /// Pushes once.
    async fn attempt(&self, head: &str, branch: &str) -> Answer {
        let refspec = format!("{head}:refs/heads/{branch}");
        let call = self
            .repository
            .call(["push", "--porcelain", "--progress", "--no-verify"]);
        let call = call.args(self.git.file_remote_option(self.url, "receive-pack"));
        let call = call.arg("--").arg(self.url).arg(refspec).contacts_remote();
        let Err(error) = self.git.run(call).await else {
            return Answer::Accepted;
        };
        let kind = error.kind();
        // With `--porcelain`, git prints for a rejected reference: `!<tab>from:to<tab>[reason] (details)`.
        let rejected = error.messages.lines().find(|line| line.starts_with('!'));
        let rejected = rejected.unwrap_or_default().to_owned();
        if rejected.contains("[rejected]") || kind == GitErrorKind::BranchConflict {
            return Answer::BranchUnusable(error);
        }
        if CONCURRENT_PUSH_ERRORS
            .iter()
            .any(|error| rejected.contains(error))
        {
            return Answer::TemporaryError(error);
        }
        if rejected.contains("[remote rejected]") || !kind.is_transient() {
            return Answer::PermanentError(error);
        }
        Answer::TemporaryError(error)
    }
}

/// Further branch names in the order in which they are tried. The name without slashes is for the case that the remote
/// has a branch `a`: git then cannot create a branch `a/b`.
fn other_branch_names(wanted: &str, suffix: &str) -> Vec<String> {
    let flat = wanted.replace('/', "-");
    let first = [format!("{wanted}-{suffix}"), format!("{flat}-{suffix}")];
    let numbered = (2..=MAX_NUMBER).map(|number| format!("{wanted}-{suffix}-{number}"));
    first.into_iter().chain(numbered).collect()
}

/// The failure of a push or an upload to `target`.
fn failure(target: &str, error: &GitError) -> Failure {
    let summary = error.summary();
    let message = format!("the work could not be pushed to {target}: {summary}");
    let mut failed = Failure::new(Reason::PushFailed, message);
    failed.causes.push(error.messages.clone());
    let is_rejected = error.messages.contains("[remote rejected]") && error.kind().is_transient();
    failed.retryable = error.kind().is_retryable() && !is_rejected;
    failed
}
