//! The types in the interface of the integration branch.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::environment::Variables;
use crate::git::Access;
use crate::redact::Redactor;

/// The repository of the project.
#[derive(Debug, Clone)]
pub enum Source {
    /// The user's own repository on this machine: any directory in its work tree, or a bare repository.
    Local(PathBuf),
    /// The URL of a remote repository.
    Remote(String),
}

/// Where the workers run, which decides which repository they use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerLocation {
    /// The workers clone from the bare repository and push to it.
    OnThisMachine,
    /// The workers clone from the remote and push to it.
    Elsewhere,
}

/// The settings of an integration branch.
#[derive(Debug, Clone)]
pub struct Settings {
    pub source: Source,
    /// The branch, tag or commit that the integration branch begins at; the project's HEAD if this is `None`.
    pub base: Option<String>,
    /// The name of the integration branch, for example `descartes/<phase>`.
    pub branch: String,
    pub state_dir: PathBuf,
    pub dispatch_id: String,
    pub workers: WorkerLocation,
    /// The author of merge commits.
    pub name: String,
    pub email: String,
    /// The path of this program. git runs it as the merge driver of the graph.
    pub program: PathBuf,
    /// The environment of git: `PATH`, `TMPDIR`, certificate authorities.
    pub environment: Variables,
    pub access: Access,
    pub redactor: Redactor,
}

/// A commit and its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub id: String,
    pub tree: String,
}

/// A run that has reported `completed`.
#[derive(Debug, Clone)]
pub struct FinishedRun {
    /// The phase and the id of the task in the graph.
    pub phase: String,
    pub task: String,
    /// The task's name for the trailer `Task-Id`: `8.2` or `phase:8`.
    pub task_id: String,
    pub run_id: String,
    pub title: String,
    /// The branch that the worker pushed to.
    pub branch: String,
    /// The commit that the worker pushed.
    pub commit: String,
    /// When the terminal event was sent; the date of the merge commit.
    pub time: Timestamp,
    pub checks: WorkChecks,
}

/// Whether the project's checks have passed on the commit of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkChecks {
    /// The worker has reported that the checks have passed.
    Passed,
    /// The worker's report is lost, so it is unknown whether the checks have passed.
    Unknown,
}

/// A merge that is not on the integration branch yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub commit: Commit,
    pub run_id: String,
    /// Whether the merged tree differs from the tree on which the run's own checks have passed.
    pub needs_verification: bool,
}

/// The result of merging one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeResult {
    /// There was no conflict.
    Clean(Candidate),
    Conflict(Conflict),
    /// The run's commit is on the branch already.
    AlreadyMerged,
}

/// The work of a run conflicts with the branch: both have changed the same lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The paths with conflicts.
    pub files: Vec<String>,
    /// Commits on the branch that changed these paths since the run began, newest first.
    pub others: Vec<OtherCommit>,
}

/// A commit on the integration branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherCommit {
    /// The trailer `Task-Id`; `None` if a person made the commit.
    pub task_id: Option<String>,
    pub subject: String,
}

/// The result of moving the integration branch to a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptResult {
    /// The branch was moved. `unpublished` is the reason if the user's repository does not have the new commits yet.
    Moved { unpublished: Option<String> },
    /// A user has pushed to the branch, and [`super::Integration::tip`] is that commit now. The run must be merged
    /// again.
    TipChanged,
}

/// Whether a user has moved the published branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncResult {
    Unchanged,
    /// The tip is now the user's commit, or a merge with it.
    TipChanged,
}

/// The result of `--into`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FastForward {
    Done,
    AlreadyThere,
    /// The reason, and what to do instead.
    NotPossible(String),
}

/// A branch that a run has pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunBranch {
    /// Without `refs/heads/`.
    pub name: String,
    pub commit: String,
    /// The trailer `Run-Id` of the commit.
    pub run_id: String,
    pub task_id: String,
    /// Whether the branch holds unfinished work (`-wip`).
    pub is_partial: bool,
}
