//! Why a run failed, and the reasons of failures.

use std::fmt;

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// One sentence for people.
    pub message: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    /// Whether the same task may succeed on another machine or later.
    pub retryable: bool,
}

impl Failure {
    /// A failure without causes. Its reason decides whether it is retryable.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let retryable = reason.retryable();
        Self {
            reason,
            message: message.into(),
            causes: Vec::new(),
            retryable,
        }
    }

    /// The message and the causes, separated by colons.
    pub fn message_with_causes(&self) -> String {
        let parts: Vec<&str> = std::iter::once(&self.message)
            .chain(&self.causes)
            .map(String::as_str)
            .collect();
        parts.join(": ")
    }

    /// The failure for an error. Its causes are the error's sources.
    pub fn from_error(reason: Reason, error: &dyn std::error::Error) -> Self {
        let sources = std::iter::successors(error.source(), |cause| cause.source());
        Self {
            causes: sources.map(ToString::to_string).collect(),
            ..Self::new(reason, error.to_string())
        }
    }
}

/// The reason of a failure. Orchestrators decide by the word of a reason, so a word must never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    TaskNotFound,
    TaskNotActionable,
    WorkspaceFailed,
    AgentNotFound,
    AgentFailed,
    AgentKilled,
    OutOfMemory,
    /// The agent has used up its turns or its budget.
    LimitReached,
    /// The model's service rejected a request or could not be reached; its status decides whether the
    /// failure is retryable.
    ApiError,
    TimedOut,
    Idle,
    ChecksFailed,
    /// The work could not be pushed; the report contains a patch.
    PushFailed,
    Cancelled,
    Interrupted,
    /// The claim was never granted, so no work was done. This reason is only printed: without a claim, no event is
    /// sent.
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

    /// The word for the reason in events.
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

    /// The default for [`Failure::retryable`].
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
