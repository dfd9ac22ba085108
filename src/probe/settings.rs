//! The settings of the command `probe`: which orchestrator, which tasks, which rules.

use std::time::Duration;

use crate::callback;
use crate::terminal::Format;

/// The settings of `probe`.
#[derive(Debug)]
pub struct Settings {
    /// The orchestrator's URL and the credentials. The identity is that of a run of the task `tasks.completed`.
    pub callback: callback::Settings,
    pub tasks: Tasks,
    /// Another project of the orchestrator, which may have a task of the same id.
    pub other_project: String,
    /// How long to wait for a person to cancel the task; `None` skips the rules about cancelling.
    pub cancel_within: Option<Duration>,
    /// Whether to wait for a lease to end, which takes more than a minute.
    pub leases: Leases,
    pub format: Format,
}

/// The ids of the tasks, which the orchestrator must know. Each one is used up.
#[derive(Debug)]
pub struct Tasks {
    /// The task whose run is completed. Its id is also claimed for the other project, where two runs of it fail.
    pub completed: String,
    /// The task that several runs claim at the same time.
    pub contested: String,
    /// The task of a run that sends nothing after its claim. Only used with [`Leases::Wait`].
    pub silent: String,
    /// The task that a person cancels. Only used if `cancel_within` is set.
    pub cancelled: String,
}

/// Whether the rules about the end of a lease are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    /// Waits until a lease has ended.
    Wait,
    /// Skips these rules.
    LeaveOut,
}
