//! The work on its way to the remote: a new branch, or one that it only adds to.
//!
//! Overwrites nothing: where the branch has moved on without this work, the work gets a branch of
//! its own. Works in the repository, which no agent could write.

use std::time::Duration;

use tokio::time::sleep;

use super::product::{Repository, Upload};
use crate::git::{Git, GitError, Trouble};
use crate::task::{Failure, Reason};

/// The waits between attempts: a remote that restarts is back in seconds; after that a person has
/// to look.
const WAITS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(12),
];

/// What a remote says if two pushes meet; the next attempt sees the result of the other push.
const RACES: [&str; 4] = [
    "but expected",
    "failed to update ref",
    "incorrect old value provided",
    "reference already exists",
];

/// What the remote said to a push.
enum Answer {
    Accepted,
    /// The branch has other commits, or cannot be created next to another branch.
    BranchUnusable(GitError),
    /// The remote does not want the commits.
    Refused(GitError),
    /// The same push may succeed later.
    Failed(GitError),
}

/// Where and how to push.
pub struct Push<'a> {
    pub git: &'a Git<'a>,
    pub repository: &'a Repository,
    pub url: &'a str,
    /// Added to the name of a branch that cannot be used.
    pub suffix: &'a str,
}

impl Push<'_> {
    /// Pushes a commit; gives the branch that it is on.
    pub async fn push(&self, head: &str, wanted: &str) -> Result<String, Failure> {
        let mut branch = wanted.to_owned();
        let mut further = fallbacks(wanted, self.suffix).into_iter();
        let mut waits = WAITS.iter();
        loop {
            let error = match self.attempt(head, &branch).await {
                Answer::Accepted => {
                    tracing::info!(branch, head, "pushed");
                    return Ok(branch);
                }
                Answer::BranchUnusable(error) => {
                    let Some(next) = further.next() else {
                        return Err(failed(&branch, &error));
                    };
                    tracing::warn!(
                        branch,
                        "the branch cannot be used ({}), so the work goes to {next}",
                        error.summary()
                    );
                    branch = next;
                    continue;
                }
                Answer::Refused(error) => return Err(failed(&branch, &error)),
                Answer::Failed(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| !error.stopped) else {
                return Err(failed(&branch, &error));
            };
            tracing::warn!(
                words = error.words,
                "the work was not pushed, trying again: {}",
                error.summary()
            );
            tokio::select! {
                () = sleep(*wait) => {}
                _ = self.git.stop.requested() => return Err(failed(&branch, &error)),
            }
        }
    }

    /// Uploads Git LFS objects, which must be there before the commits that name them.
    pub async fn upload(&self, upload: &Upload) -> Result<(), Failure> {
        let mut waits = WAITS.iter();
        loop {
            let Err(error) = upload.send(self.git).await else {
                return Ok(());
            };
            let may_pass = error.trouble().is_transient() && !error.stopped;
            let Some(wait) = waits.next().filter(|_| may_pass) else {
                return Err(failed("the Git LFS server", &error));
            };
            tracing::warn!(
                words = error.words,
                "the Git LFS objects were not uploaded, trying again: {}",
                error.summary()
            );
            tokio::select! {
                () = sleep(*wait) => {}
                _ = self.git.stop.requested() => return Err(failed("the Git LFS server", &error)),
            }
        }
    }

    async fn attempt(&self, head: &str, branch: &str) -> Answer {
        let refspec = format!("{head}:refs/heads/{branch}");
        let call = self
            .repository
            .call(["push", "--porcelain", "--progress", "--no-verify"]);
        let call = call.args(self.git.served_locally(self.url, "receive-pack"));
        let call = call.arg("--").arg(self.url).arg(refspec).transfer();
        let Err(error) = self.git.run(call).await else {
            return Answer::Accepted;
        };
        let trouble = error.trouble();
        // The porcelain's line for a rejected reference: `!<tab>from:to<tab>[why] (words)`.
        let rejected = error.words.lines().find(|line| line.starts_with('!'));
        let rejected = rejected.unwrap_or_default().to_owned();
        if rejected.contains("[rejected]") || trouble == Trouble::BranchConflict {
            return Answer::BranchUnusable(error);
        }
        // Another push was there at the same moment.
        if RACES.iter().any(|race| rejected.contains(race)) {
            return Answer::Failed(error);
        }
        if rejected.contains("[remote rejected]") || !trouble.is_transient() {
            return Answer::Refused(error);
        }
        Answer::Failed(error)
    }
}

/// Further names to try in order. If another branch is a prefix of the wanted name (`a` and `a/b`), only a name
/// outside its first parts can exist.
fn fallbacks(wanted: &str, suffix: &str) -> [String; 2] {
    let flat = wanted.replace('/', "-");
    [format!("{wanted}-{suffix}"), format!("{flat}-{suffix}")]
}

fn failed(target: &str, error: &GitError) -> Failure {
    let summary = error.summary();
    let message = format!("the work could not be pushed to {target}: {summary}");
    let mut failure = Failure::new(Reason::PushFailed, message);
    failure.causes.push(error.words.clone());
    let refused = error.words.contains("[remote rejected]") && error.trouble().is_transient();
    failure.retryable = error.trouble().is_retryable() && !refused;
    failure
}
