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
    /// The outcome could not be delivered; it is on standard output.
    Undelivered,
    /// The orchestrator refused the claim; nothing was done.
    Refused,
}

impl From<Worker> for ExitCode {
    fn from(exit: Worker) -> Self {
        Self::from(match exit {
            Worker::Completed => 0,
            Worker::Failed => 1,
            Worker::Misconfigured => 2,
            Worker::Undelivered => 3,
            Worker::Refused => 4,
        })
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

impl From<Check> for ExitCode {
    fn from(exit: Check) -> Self {
        Self::from(match exit {
            Check::Ready => 0,
            Check::NotReady => 2,
        })
    }
}

/// The result of the built-in agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// The model says that it is done.
    Finished,
    /// The agent gave up, or a limit was reached.
    Failed,
}

impl From<Agent> for ExitCode {
    fn from(exit: Agent) -> Self {
        Self::from(match exit {
            Agent::Finished => 0,
            Agent::Failed => 1,
        })
    }
}

/// The result of `merge-graph`: the exit statuses that git expects from a merge driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeGraph {
    /// The versions are merged.
    Clean,
    /// Conflicts are marked in the file.
    Conflicts,
}

impl From<MergeGraph> for ExitCode {
    fn from(exit: MergeGraph) -> Self {
        Self::from(match exit {
            MergeGraph::Clean => 0,
            MergeGraph::Conflicts => 1,
        })
    }
}
