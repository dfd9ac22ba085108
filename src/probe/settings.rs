//! The settings of `probe`.

use std::time::Duration;

use crate::callback;
use crate::terminal::Format;

/// The settings of `probe`.
#[derive(Debug)]
pub struct Settings {
    /// The URL and the credentials; its identity is the one of the first task.
    pub callback: callback::Settings,
    pub tasks: Tasks,
    /// Another project of the orchestrator, which may have a task of the same id.
    pub other_project: String,
    /// How long to wait for a person to cancel the task; `None` leaves the cancellation out.
    pub cancel_within: Option<Duration>,
    /// Whether to wait for a lease to end, which takes over a minute.
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
    /// The task of a run that sends nothing after its claim. Only used if `leases` says so.
    pub silent: String,
    /// The task that a person cancels. Only used if `cancel_within` is set.
    pub cancelled: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    Wait,
    LeaveOut,
}
