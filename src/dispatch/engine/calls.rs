//! What an engine answers.

use super::settings::EngineKind;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::Seen;

/// Why an engine has not started a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFailure {
    /// The engine refuses, and would refuse every other run too: the image does not exist, or a setting is wrong.
    Refused(String),
    /// This attempt has failed.
    Failed(String),
    /// The engine has no room at present, or limits requests. The run has not started; it can start later.
    Full(String),
    /// The engine has not answered, or not with an answer that can be read: the run may have started.
    Unknown(String),
}

impl StartFailure {
    /// Whether something may have started, although the engine did not say so.
    pub fn is_unclear(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Full(_))
    }

    pub fn why(&self) -> &str {
        match self {
            Self::Refused(why) | Self::Failed(why) | Self::Full(why) | Self::Unknown(why) => why,
        }
    }
}

/// What an engine says about a run, and the run's id.
pub type Look = (String, Seen);

/// The answer to a question about several runs: an error only if none of them is known.
pub fn answer_of(looks: Vec<Look>, first_trouble: Option<String>) -> Result<Vec<Look>, String> {
    let knows_any = looks.iter().any(|(_, seen)| *seen != Seen::Unknown);
    match first_trouble {
        Some(why) if !knows_any => Err(why),
        _ => Ok(looks),
    }
}

/// Something of this dispatch that an engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub run: String,
    pub handle: Handle,
    /// Whether it was started, and not only made.
    pub is_started: bool,
}

/// What the dispatcher hears from an engine that answers later.
#[derive(Debug)]
pub enum Event {
    /// The result of a start.
    Started {
        run: String,
        started: Result<Handle, StartFailure>,
    },
    /// The answer to a question about runs, or why there is none.
    Looked {
        engine: EngineKind,
        answer: Result<Vec<Look>, String>,
    },
    /// A sentence for a person.
    Said(String),
}
