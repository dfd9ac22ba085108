//! The errors of operations on the integration branch.

use std::io;
use std::path::PathBuf;

use crate::git::GitError;
use crate::scud::{EditError, FileError};

/// Why an operation on the integration branch failed.
#[derive(Debug, thiserror::Error)]
pub enum IntegrationError {
    /// The text says why git was not found.
    #[error("{0}; install git, at least 2.38")]
    NoGit(String),
    /// The text is what `git version` prints.
    #[error("this is {0}, and merges without a work tree need at least 2.38: install a newer git")]
    OldGit(String),
    #[error(
        "{source_name} is a partial clone, whose missing files a merge cannot read; use a complete clone, or --repo with the URL"
    )]
    PartialClone { source_name: String },
    #[error("{what}: {}", error.summary())]
    Git {
        /// The beginning of the message: what failed.
        what: String,
        error: GitError,
    },
    #[error("{} cannot be {what}: {source}", path.display())]
    File {
        /// What could not be done with the file: `made` or `written`.
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{source_name} has no commit `{base}` to begin at; commit the project if nothing is committed yet, or name a branch, a tag or a commit with --base"
    )]
    NoBase { source_name: String, base: String },
    #[error(
        "the branch {branch} of {source_name} conflicts with the work of this dispatch in {}: merge {ours} into {branch} by hand, or start a new dispatch with --fresh",
        files.join(", ")
    )]
    Diverged {
        branch: String,
        source_name: String,
        /// The tip in the bare repository.
        ours: String,
        files: Vec<String>,
    },
    #[error(
        "the branch {branch} of {source_name} was moved back from {published} to {now}: push {published} again, or start a new dispatch with --fresh"
    )]
    MovedBack {
        branch: String,
        source_name: String,
        /// The last known commit of the branch.
        published: String,
        /// The present commit of the branch.
        now: String,
    },
    #[error(
        "the work of run {run_id} is gone: neither the commit {commit} nor the branch {branch} exists; run the task again"
    )]
    NoCommit {
        commit: String,
        branch: String,
        run_id: String,
    },
    /// A mistake in the project: a file in a commit is too large, or not a regular file.
    #[error(transparent)]
    ProjectFile(#[from] FileError),
    #[error("the task cannot be marked as done in the merged graph: {0}")]
    Graph(#[from] EditError),
    #[error("git {command} printed something unexpected: {output}")]
    Unexpected { command: String, output: String },
}

impl IntegrationError {
    /// Returns a function that turns a failure of git into an error whose message begins with `what`.
    pub(super) fn git(what: impl Into<String>) -> impl FnOnce(GitError) -> Self {
        let what = what.into();
        move |error| Self::Git { what, error }
    }
}
