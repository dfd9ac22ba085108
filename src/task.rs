//! The words everyone shares: what a task is, what can become of it, and why.
//!
//! No I/O, no wire format, no exit codes: `scud` fills a [`Task`], `runner` makes an [`Outcome`]
//! of it, `callback` says so, `main` decides what that means for the process.

use std::fmt;
use std::time::Duration;

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
    const ALL: [(Self, u8, &'static str); 9] = [
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
