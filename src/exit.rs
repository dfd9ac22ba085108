//! The exit codes of each command. docs/reference.md has the same tables.

use std::process::ExitCode;

/// The result of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// The task is completed, and the orchestrator has acknowledged that.
    Completed,
    /// The task failed, and the orchestrator has acknowledged that.
    Failed,
    /// The configuration was rejected; nothing was sent.
    Misconfigured,
    /// The outcome could not be delivered; the result line on standard output has it.
    Undelivered,
    /// The orchestrator refused the claim; nothing was done.
    Refused,
}

impl Worker {
    pub const fn code(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Failed => 1,
            Self::Misconfigured => 2,
            Self::Undelivered => 3,
            Self::Refused => 4,
        }
    }
}

impl From<Worker> for ExitCode {
    fn from(exit: Worker) -> Self {
        Self::from(exit.code())
    }
}

/// The result of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Everything that a run needs is present.
    Ready,
    /// Something is missing or wrong.
    NotReady,
}

impl Check {
    pub const fn code(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::NotReady => 2,
        }
    }
}

impl From<Check> for ExitCode {
    fn from(exit: Check) -> Self {
        Self::from(exit.code())
    }
}

/// The result of `dispatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// Everything is done and merged.
    AllDone,
    /// Some tasks are blocked.
    Blocked,
    /// A signal or a person stopped the dispatch. The same command continues it.
    Stopped,
}

impl Dispatch {
    pub const fn code(self) -> u8 {
        match self {
            Self::AllDone => 0,
            Self::Blocked => 1,
            Self::Stopped => 3,
        }
    }
}

impl From<Dispatch> for ExitCode {
    fn from(exit: Dispatch) -> Self {
        Self::from(exit.code())
    }
}

/// The result of `probe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The orchestrator keeps every rule that was tried.
    AllKept,
    /// The orchestrator breaks at least one rule.
    SomeBroken,
    /// The first claim had no answer.
    Unreachable,
}

impl Probe {
    pub const fn code(self) -> u8 {
        match self {
            Self::AllKept => 0,
            Self::SomeBroken => 1,
            Self::Unreachable => 3,
        }
    }
}

impl From<Probe> for ExitCode {
    fn from(exit: Probe) -> Self {
        Self::from(exit.code())
    }
}

/// The result of the built-in agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// The model says that it is done.
    Finished,
    /// The agent gave up, or a limit was reached.
    Failed,
    /// A signal ended the agent.
    Stopped,
}

impl Agent {
    pub const fn code(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Failed => 1,
            // 128 plus the number of SIGTERM, as shells report it.
            Self::Stopped => 143,
        }
    }
}

impl From<Agent> for ExitCode {
    fn from(exit: Agent) -> Self {
        Self::from(exit.code())
    }
}

/// The result of `merge-graph`: the exit statuses that git expects from a merge driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeGraph {
    /// The versions are merged.
    Clean,
    /// Conflicts are marked in the file.
    Conflicts,
    /// An error; no file was changed. git reads any status up to 128 as "there are conflicts", and
    /// would then keep our version of the file without conflict markers.
    Failed,
}

impl MergeGraph {
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Conflicts => 1,
            Self::Failed => 129,
        }
    }
}

impl From<MergeGraph> for ExitCode {
    fn from(exit: MergeGraph) -> Self {
        Self::from(exit.code())
    }
}
