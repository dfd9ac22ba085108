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
    /// Is completed, and is also claimed for the other project, where it fails twice.
    pub completed: String,
    /// Is claimed by several runs at the same time.
    pub contested: String,
    /// Is claimed by a run that then sends nothing, if `leases` says so.
    pub silent: String,
    /// Is cancelled by a person, if `cancel_within` is set.
    pub cancelled: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    Wait,
    LeaveOut,
}
