//! The words everyone shares: what a task is, what can become of it, and why.
//!
//! No I/O, no wire format, no exit codes: `scud` fills a [`Task`], `runner` makes an [`Outcome`]
//! of it, `callback` says so, `main` decides what that means for the process.

use std::fmt;
use std::time::Duration;

use crate::model::Spent;

/// One task of a project's SCUD graph, with everything a prompt wants to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The id inside its phase: `8`, `8.2` or 32 hex digits; never with the phase in front.
    pub id: String,
    /// The tag of the phase that holds the task.
    pub phase: String,
    pub title: String,
    pub status: Status,
    /// SCUD's estimate, usually a Fibonacci number; 0 is "not estimated".
    pub complexity: u32,
    pub priority: Priority,
    pub description: Option<String>,
    pub details: Option<String>,
    pub test_strategy: Option<String>,
    /// What this task stands on, in the order of the graph's edges.
    pub dependencies: Vec<Dependency>,
    /// The agent definition that the graph assigns (`@agents`).
    pub agent: Option<String>,
}

impl Task {
    /// The dependencies that are not done yet (an unknown one counts as not done).
    pub fn unmet_dependencies(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies
            .iter()
            .filter(|dependency| dependency.status != Some(Status::Done))
    }
}

/// A task that another one depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// As the edge spells it; `phase:id` where it leads into another phase.
    pub id: String,
    /// None where the edge leads to a task that the graph does not hold.
    pub title: Option<String>,
    /// None where the edge leads to a task that the graph does not hold.
    pub status: Option<Status>,
}

/// SCUD's task states; [`Status::letter`] is what the graph holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    InProgress,
    Done,
    Review,
    Blocked,
    Deferred,
    Cancelled,
    /// Replaced by its subtasks.
    Expanded,
    Failed,
}

impl Status {
    pub const ALL: [(Self, u8, &'static str); 9] = [
        (Self::Pending, b'P', "pending"),
        (Self::InProgress, b'I', "in-progress"),
        (Self::Done, b'D', "done"),
        (Self::Review, b'R', "review"),
        (Self::Blocked, b'B', "blocked"),
        (Self::Deferred, b'F', "deferred"),
        (Self::Cancelled, b'C', "cancelled"),
        (Self::Expanded, b'X', "expanded"),
        (Self::Failed, b'!', "failed"),
    ];

    /// The state that an ASCII letter of the graph stands for.
    pub fn from_letter(letter: u8) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known, _)| *known == letter);
        found.map(|(status, ..)| *status)
    }

    /// The one ASCII letter by which the graph writes this state.
    pub fn letter(self) -> u8 {
        self.row().1
    }

    fn row(self) -> &'static (Self, u8, &'static str) {
        Self::ALL
            .iter()
            .find(|(status, ..)| *status == self)
            .expect("ALL lists every state")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().2)
    }
}

/// SCUD's priorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    Critical,
    High,
    Medium,
    Low,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        })
    }
}

/// What became of a task, and all that is known of how.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub verdict: Verdict,
    pub report: Report,
}

impl Outcome {
    /// A failure of which nothing else is known.
    pub fn failed(failure: Failure) -> Self {
        Self {
            verdict: Verdict::Failed(failure),
            report: Report::default(),
        }
    }

    /// One sentence for people.
    pub fn message(&self) -> &str {
        match &self.verdict {
            Verdict::Completed { message } => message,
            Verdict::Failed(failure) => &failure.message,
        }
    }
}

#[derive(Debug, Clone)]
pub enum Verdict {
    /// The agent did its work and the project's checks hold.
    Completed {
        message: String,
    },
    Failed(Failure),
}

/// Why a task is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// One sentence for people.
    pub message: String,
    /// What stood behind it, outermost first.
    pub causes: Vec<String>,
    /// Whether the same task may well succeed on another machine.
    pub retryable: bool,
}

impl Failure {
    /// A failure without causes, retryable as its reason usually is.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let retryable = reason.retryable();
        Self {
            reason,
            message: message.into(),
            causes: Vec::new(),
            retryable,
        }
    }

    /// The message with what stood behind it.
    pub fn sentence(&self) -> String {
        let parts: Vec<&str> = std::iter::once(&self.message)
            .chain(&self.causes)
            .map(String::as_str)
            .collect();
        parts.join(": ")
    }

    /// The failure that an error and its sources make.
    pub fn because(reason: Reason, error: &dyn std::error::Error) -> Self {
        let sources = std::iter::successors(error.source(), |cause| cause.source());
        Self {
            causes: sources.map(ToString::to_string).collect(),
            ..Self::new(reason, error.to_string())
        }
    }
}

/// The frozen vocabulary of failures: orchestrators branch on these words, so they are API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    TaskNotFound,
    TaskNotActionable,
    WorkspaceFailed,
    AgentNotFound,
    AgentFailed,
    AgentKilled,
    OutOfMemory,
    /// The agent's turns or its budget are used up.
    LimitReached,
    /// The model's service refused, or stayed out of reach; retryable by its answer's status.
    ApiError,
    TimedOut,
    Idle,
    ChecksFailed,
    /// The work could not be pushed; the patch is in the report.
    PushFailed,
    Cancelled,
    Interrupted,
    /// The claim was never granted, so nothing was done; this one is only ever printed, not sent.
    Unclaimed,
    Internal,
}

impl Reason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 17] = [
        Self::TaskNotFound,
        Self::TaskNotActionable,
        Self::WorkspaceFailed,
        Self::AgentNotFound,
        Self::AgentFailed,
        Self::AgentKilled,
        Self::OutOfMemory,
        Self::LimitReached,
        Self::ApiError,
        Self::TimedOut,
        Self::Idle,
        Self::ChecksFailed,
        Self::PushFailed,
        Self::Cancelled,
        Self::Interrupted,
        Self::Unclaimed,
        Self::Internal,
    ];

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::TaskNotFound => "task_not_found",
            Self::TaskNotActionable => "task_not_actionable",
            Self::WorkspaceFailed => "workspace_failed",
            Self::AgentNotFound => "agent_not_found",
            Self::AgentFailed => "agent_failed",
            Self::AgentKilled => "agent_killed",
            Self::OutOfMemory => "out_of_memory",
            Self::LimitReached => "limit_reached",
            Self::ApiError => "api_error",
            Self::TimedOut => "timed_out",
            Self::Idle => "idle",
            Self::ChecksFailed => "checks_failed",
            Self::PushFailed => "push_failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Unclaimed => "unclaimed",
            Self::Internal => "internal",
        }
    }

    /// Whether the same task may succeed on another machine, unless the failure itself says otherwise.
    pub fn retryable(self) -> bool {
        match self {
            Self::WorkspaceFailed
            | Self::AgentKilled
            | Self::OutOfMemory
            | Self::Idle
            | Self::PushFailed
            | Self::Interrupted
            | Self::Unclaimed
            | Self::Internal => true,
            Self::TaskNotFound
            | Self::TaskNotActionable
            | Self::AgentNotFound
            | Self::AgentFailed
            | Self::LimitReached
            | Self::ApiError
            | Self::TimedOut
            | Self::ChecksFailed
            | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is known of a run beside its verdict; unknown is `None`, never a zero.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The agent's own last words.
    pub summary: Option<String>,
    /// From the granted claim to the verdict.
    pub duration: Duration,
    pub agent: Option<AgentReport>,
    /// What was made, where the worker made the workspace.
    pub work: Option<Work>,
    pub checks: Vec<CheckReport>,
    pub output: Output,
}

/// What was made, in commits.
#[derive(Debug, Clone)]
pub struct Work {
    pub base_commit: String,
    /// The base where nothing was changed.
    pub head_commit: String,
    /// The branch that it was pushed to; `None` where it was not.
    pub branch: Option<String>,
    pub files_changed: u64,
    pub insertions: u64,
    pub deletions: u64,
    /// None where nothing was changed.
    pub patch: Option<Patch>,
}

impl Work {
    /// Commits of which nothing else is known yet.
    pub fn new(base: &str, head: &str) -> Self {
        Self {
            base_commit: base.to_owned(),
            head_commit: head.to_owned(),
            branch: None,
            files_changed: 0,
            insertions: 0,
            deletions: 0,
            patch: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.base_commit == self.head_commit
    }
}

/// A patch in git's format.
#[derive(Debug, Clone)]
pub struct Patch {
    pub text: String,
    /// It was cut, so it does not apply.
    pub truncated: bool,
}

#[derive(Debug, Clone)]
pub struct AgentReport {
    /// The kind's word, in the settings and on the wire; `runner::agent` knows which there are.
    pub kind: &'static str,
    pub model: Option<String>,
    /// By which the agent's own records can be found, and its work resumed.
    pub session_id: Option<String>,
    /// None where it ended by a signal or never began.
    pub exit_code: Option<i32>,
    pub spent: Spent,
}

/// One of the project's own checks, as it went.
#[derive(Debug, Clone)]
pub struct CheckReport {
    pub command: String,
    /// None where it ended by a signal, ran out of time or could not be started.
    pub exit_code: Option<i32>,
    pub duration: Duration,
    pub output_tail: String,
}

/// What was heard of an agent: the first and the last of its output, and how much there was.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// The first bytes, where `tail` does not hold everything anyway.
    pub head: String,
    /// The last bytes.
    pub tail: String,
    pub total_bytes: u64,
    /// What stood between `head` and `tail`.
    pub dropped_bytes: u64,
}
