//! The answers and events of engines.

use super::settings::EngineKind;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::Seen;

/// Why an engine has not started a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFailure {
    /// The engine rejects the run, and would reject every other run too: the image does not exist, or a setting is
    /// wrong.
    Refused(String),
    /// This attempt has failed.
    Failed(String),
    /// The engine has no room at present, or limits requests. The run has not started; it can start later.
    Full(String),
    /// The engine gave no answer, or an unreadable one. The run may have started.
    Unknown(String),
    /// The start was given up, because the run is not needed any more or the user wants no further runs. The run may have started.
    GivenUp(String),
}

impl StartFailure {
    /// Whether something may have started, although the engine did not say so.
    pub fn is_unclear(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Full(_) | Self::GivenUp(_))
    }

    /// The reason, as a part of a sentence.
    pub fn why(&self) -> &str {
        match self {
            Self::Refused(why)
            | Self::Failed(why)
            | Self::Full(why)
            | Self::Unknown(why)
            | Self::GivenUp(why) => why,
        }
    }
}

/// The id of a run, and the state of the run that an engine reported.
pub type Look = (String, Seen);

/// The answer to a question about several runs: an error only if the state of none of them is known.
pub fn answer_of(looks: Vec<Look>, first_trouble: Option<String>) -> Result<Vec<Look>, String> {
    let knows_any = looks.iter().any(|(_, seen)| *seen != Seen::Unknown);
    match first_trouble {
        Some(why) if !knows_any => Err(why),
        _ => Ok(looks),
    }
}

/// A run of this dispatch that exists in an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub run: String,
    pub handle: Handle,
    /// Whether the worker was started. Otherwise only its container or machine was created.
    pub is_started: bool,
}

/// A result of a call that an engine answers in the background.
#[derive(Debug)]
pub enum Event {
    /// The result of a start.
    Started {
        run: String,
        started: Result<Handle, StartFailure>,
    },
    /// The states of runs, or why they are unknown.
    Looked {
        engine: EngineKind,
        answer: Result<Vec<Look>, String>,
    },
    /// A sentence for the user.
    Said(String),
}
