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
    /// The directory in which the bare repository is.
    pub state_dir: PathBuf,
    pub dispatch_id: String,
    pub worker_location: WorkerLocation,
    /// The name of the author of merge commits.
    pub author_name: String,
    pub author_email: String,
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
    /// The id of the tree.
    pub tree: String,
}

/// A commit, and whether it is in the history of another commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedCommit {
    pub commit: Commit,
    pub is_in_history: bool,
}

/// A run that has reported `completed`.
#[derive(Debug, Clone)]
pub struct FinishedRun {
    /// The phase of the task.
    pub phase: String,
    /// The id of the task in its phase.
    pub id_in_phase: String,
    /// The value of the trailer `Task-Id`: `8.2`, or `phase:8` if several phases have this id.
    pub task_id: String,
    pub run_id: String,
    /// The title of the task.
    pub title: String,
    /// The branch that the worker pushed to.
    pub branch: String,
    /// The commit with the work of the run: the one that the worker pushed, or its base if the run changed nothing.
    pub commit: String,
    /// When the worker sent its terminal event; the merge commit gets this date.
    pub time: Timestamp,
    /// Whether the checks have passed on the commit.
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

/// A merge commit to which the integration branch may be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub commit: Commit,
    /// The run whose work is merged.
    pub run_id: String,
    /// Whether the checks may not have passed on this tree yet: it differs from the tree of the run, or nothing is
    /// known about the checks of the run.
    pub needs_verification: bool,
}

/// The result of merging one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeResult {
    /// There was no conflict.
    Clean(Candidate),
    Conflict(Conflict),
    /// The run's commit is in the history of the commit that it was to be merged into.
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

/// A commit on the integration branch that may be the other side of a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherCommit {
    /// The trailer `Task-Id`; `None` if a person made the commit.
    pub task_id: Option<String>,
    pub subject: String,
}

/// The result of moving the integration branch to a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptResult {
    /// The branch was moved. If the user's repository did not accept the new commits, `unpublished` is the reason.
    Moved { unpublished: Option<String> },
    /// The branch was not moved, because a user has pushed to it; [`super::Integration::tip`] contains the user's
    /// commit now. The runs must be merged again.
    TipChanged,
}

/// Whether commits that a user has pushed have changed the tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncResult {
    Unchanged,
    /// The tip is now the user's commit, or a merge with it.
    TipChanged,
}

/// The result of moving the branch of `--into` forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FastForward {
    Done,
    /// The branch contains the tip already.
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
    /// The trailer `Run-Id` of the commit; several ids are separated by commas.
    pub run_id: String,
    /// The trailer `Task-Id` of the commit.
    pub task_id: String,
    /// Whether the branch holds unfinished work (`-wip`).
    pub is_partial: bool,
}
