//! The types of the engines' answers.

use super::settings::EngineKind;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::WorkerState;

/// Why an engine has not confirmed the start of a run. Each variant has the reason, as a part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFailure {
    /// The engine refuses to start the run, and would refuse every other run too: the image does not exist, or a
    /// setting is wrong.
    Refused(String),
    /// The engine could not start this run. It may be able to start others.
    Failed(String),
    /// The engine has no capacity at present, or limits the rate of requests. A later request may succeed. The run may
    /// have started nevertheless: the HTTP status 503 does not exclude it.
    NoCapacity(String),
    /// The engine gave no answer, or an unclear one. The run may have started.
    Unknown(String),
    /// The start was given up, because the run is not needed any more or the user wants no further runs. The run may
    /// have started.
    GivenUp(String),
}

impl StartFailure {
    /// Whether the engine may have started the run although it has not confirmed that.
    pub fn may_have_started(&self) -> bool {
        matches!(
            self,
            Self::Unknown(_) | Self::NoCapacity(_) | Self::GivenUp(_)
        )
    }

    /// The reason, as a part of a sentence.
    pub fn why(&self) -> &str {
        match self {
            Self::Refused(why)
            | Self::Failed(why)
            | Self::NoCapacity(why)
            | Self::Unknown(why)
            | Self::GivenUp(why) => why,
        }
    }
}

/// The id of a run, and the state that the engine reported for it.
pub type RunState = (String, WorkerState);

/// The answer to a question for the states of several runs: the states, or the first error if no state is known.
pub fn states_or_error(
    states: Vec<RunState>,
    first_error: Option<String>,
) -> Result<Vec<RunState>, String> {
    let knows_any = states.iter().any(|(_, seen)| *seen != WorkerState::Unknown);
    match first_error {
        Some(why) if !knows_any => Err(why),
        _ => Ok(states),
    }
}

/// A run of this dispatch that exists in an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRun {
    /// The id of the run.
    pub run: String,
    pub handle: Handle,
    /// Whether the worker was started. Otherwise only its container was created, or the start had no clear result.
    pub is_started: bool,
}

/// A message from a background task that works with an engine.
#[derive(Debug)]
pub enum Event {
    /// The start of a run has a result.
    StartEnded {
        run: String,
        result: Result<Handle, StartFailure>,
    },
    /// The engine has answered a request for the states of runs, or the request has failed for the reason in the error.
    States {
        engine: EngineKind,
        answer: Result<Vec<RunState>, String>,
    },
    /// A sentence for the user.
    Message(String),
}
