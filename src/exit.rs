//! What the process's end says: the exit codes of each command. docs/reference.md has the same tables.

use std::process::ExitCode;

/// How a worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// Completed, and the orchestrator knows.
    Completed,
    /// Failed, and the orchestrator knows.
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

/// How `check` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Everything that a run would need is there.
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

/// How the built-in agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// The model says that it is done.
    Finished,
    /// It gave up, or a limit was reached.
    Failed,
    /// A signal stopped it.
    Stopped,
}

impl From<Agent> for ExitCode {
    fn from(exit: Agent) -> Self {
        Self::from(match exit {
            Agent::Finished => 0,
            Agent::Failed => 1,
            // As shells report SIGTERM: 128 and the signal's number.
            Agent::Stopped => 143,
        })
    }
}

/// How `merge-graph` ends: the statuses that git expects of a merge driver.
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
