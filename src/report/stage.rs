//! The stages of an attempt.

use crate::clock::Millis;

/// The time that an attempt spent in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageInterval {
    pub stage: Stage,
    pub from: Millis,
    pub to: Millis,
}

/// What an attempt is doing; the chart shows each stage in its color.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The engine starts the worker.
    Start,
    /// The worker asks for the task.
    Claim,
    /// The worker clones the project, or opens its directory.
    Prepare,
    Agent,
    Checks,
    Push,
    Merge,
    /// The worker worked, but its phases are not known.
    Unknown,
}

impl Stage {
    pub const ALL: [Self; 8] = [
        Self::Start,
        Self::Claim,
        Self::Prepare,
        Self::Agent,
        Self::Checks,
        Self::Push,
        Self::Merge,
        Self::Unknown,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Claim => "claim",
            Self::Prepare => "prepare",
            Self::Agent => "agent",
            Self::Checks => "checks",
            Self::Push => "push",
            Self::Merge => "merge",
            Self::Unknown => "unknown",
        }
    }

    /// The stage of a phase, by its word on the wire.
    pub fn of_phase(phase: &str) -> Self {
        match phase {
            "preparing" => Self::Prepare,
            "agent" => Self::Agent,
            "checks" => Self::Checks,
            "hand_over" => Self::Push,
            _ => Self::Unknown,
        }
    }
}
