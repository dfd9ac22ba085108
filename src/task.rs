//! The types that all modules share: a task, its outcome, and the reasons for a failure.
//!
//! No I/O, no wire format, no exit codes: `scud` reads a [`Task`], `runner` turns it into an
//! [`Outcome`], `callback` reports the outcome, and `main` derives the exit code from the outcome.

mod failure;

use std::fmt;
use std::time::Duration;

use crate::model::UsageAndCost;
pub use failure::{Failure, Reason};

/// One task of a project's SCUD graph, with everything that a prompt needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The id within the phase: `8`, `8.2` or 32 hex digits, without the name of the phase.
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
    /// The tasks that this one depends on, in the order of the graph's edges.
    pub dependencies: Vec<Dependency>,
    /// The name of the agent definition that the graph assigns (`@agents`).
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
    /// The id as in the graph's edge: `phase:id` for a task of another phase.
    pub id: String,
    /// `None` if the task is not in the graph.
    pub title: Option<String>,
    /// `None` if the task is not in the graph.
    pub status: Option<Status>,
}

/// The status of a task. The graph writes it as [`Status::letter`].
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
    /// Each status, its letter in the graph, and its word.
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

    /// The status for an ASCII letter of the graph.
    pub fn from_letter(letter: u8) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known, _)| *known == letter);
        found.map(|(status, ..)| *status)
    }

    /// The ASCII letter of this status in the graph.
    pub fn letter(self) -> u8 {
        let (_, letter, _) = self.row();
        *letter
    }

    fn row(self) -> &'static (Self, u8, &'static str) {
        Self::ALL
            .iter()
            .find(|(status, ..)| *status == self)
            .expect("ALL lists every status")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, _, word) = self.row();
        f.write_str(word)
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

/// How a run ended, and the facts about it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub verdict: Verdict,
    pub report: RunReport,
}

impl Outcome {
    /// A failed run with an empty report.
    pub fn failed(failure: Failure) -> Self {
        Self {
            verdict: Verdict::Failed(failure),
            report: RunReport::default(),
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

/// Whether the task is completed or failed.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The agent succeeded and the project's checks passed.
    Completed {
        message: String,
    },
    Failed(Failure),
}

/// The facts about a run, in addition to its verdict. An unknown number is `None`, never zero.
#[derive(Debug, Clone, Default)]
pub struct RunReport {
    /// The agent's final message, or the last line of its output.
    pub summary: Option<String>,
    /// The agent's prompts, one for each round: the first [`MAX_PROMPTS`], masked and shortened.
    pub prompts: Vec<String>,
    /// The time from the granted claim to the verdict.
    pub duration: Duration,
    /// The phases of the run, in order.
    pub phases: Vec<PhaseStart>,
    pub agent: Option<AgentReport>,
    /// The agent's changes, if the worker cloned the workspace.
    pub work: Option<Work>,
    pub checks: Vec<CheckReport>,
    pub output: Output,
}

/// How many prompts a report has at most. Each repair round has one more prompt.
pub const MAX_PROMPTS: usize = 8;

/// When a phase of a run began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseStart {
    /// The phase's word, which `progress` defines.
    pub phase: &'static str,
    /// The time since the claim was granted.
    pub since_claim: Duration,
}

/// The agent's changes, as commits.
#[derive(Debug, Clone)]
pub struct Work {
    pub base_commit: String,
    /// Equal to `base_commit` if there are no changes.
    pub head_commit: String,
    /// The branch that the work was pushed to, if it was pushed.
    pub branch: Option<String>,
    pub files_changed: u64,
    pub insertions: u64,
    pub deletions: u64,
    /// `None` if there are no changes.
    pub patch: Option<Patch>,
}

impl Work {
    /// The two commits, without further details.
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

    /// Whether the agent changed nothing.
    pub fn is_empty(&self) -> bool {
        self.base_commit == self.head_commit
    }
}

/// A patch in git's format.
#[derive(Debug, Clone)]
pub struct Patch {
    pub text: String,
    /// Whether the end is missing, so that git cannot apply the patch.
    pub truncated: bool,
}

/// What is known about the agent at the end of a run.
#[derive(Debug, Clone)]
pub struct AgentReport {
    /// The word of the agent's kind in the settings and on the wire, which `runner::agent` defines.
    pub kind: &'static str,
    pub model: Option<String>,
    /// The id by which the agent can find and resume its session.
    pub session_id: Option<String>,
    /// `None` if a signal ended the agent, or if it was not started.
    pub exit_code: Option<i32>,
    pub spent: UsageAndCost,
}

/// The result of one of the project's checks.
#[derive(Debug, Clone)]
pub struct CheckReport {
    pub command: String,
    /// `None` if a signal ended the check, if it timed out, or if it could not be started.
    pub exit_code: Option<i32>,
    pub duration: Duration,
    pub output_tail: String,
}

/// The beginning and the end of an agent's output, and its size.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// The first bytes of the output; empty if `tail` contains the whole output.
    pub head: String,
    /// The last bytes of the output.
    pub tail: String,
    /// The size of the whole output.
    pub total_bytes: u64,
    /// The size of the part between `head` and `tail`, which is not stored, in bytes.
    pub dropped_bytes: u64,
}
