//! The failures that an end of the agent or of the run stands for.

use std::time::Duration;

use crate::durations::in_words;
use crate::process::{Ending, StartError};
use crate::shutdown::Why;
use crate::task::{Failure, Reason};

/// The exit code of an agent that ended by itself; for any other end, what it means for every kind.
pub fn exit_code(ending: Result<Ending, StartError>) -> Result<i32, Failure> {
    let failure = match ending {
        Ok(Ending::Exited(code)) => return Ok(code),
        Ok(ending @ Ending::Killed(_)) => {
            Failure::new(Reason::AgentKilled, format!("the agent {ending}"))
        }
        Ok(Ending::OutOfMemory) => out_of_memory(),
        Ok(ending @ Ending::PossiblyOutOfMemory) => {
            Failure::new(Reason::OutOfMemory, format!("the agent {ending}"))
        }
        Ok(Ending::TimedOut(limit)) => timed_out(limit),
        Ok(Ending::Idle(limit)) => Failure::new(
            Reason::Idle,
            format!("the agent gave no sign of life for {}", in_words(limit)),
        ),
        Ok(Ending::Lingered) => Failure::new(Reason::AgentFailed, "the agent did not end"),
        Ok(Ending::Stopped(why)) => stopped(&why),
        Err(error @ (StartError::NotFound { .. } | StartError::NotExecutable { .. })) => {
            Failure::because(Reason::AgentNotFound, &error)
        }
        Err(error @ StartError::Directory { .. }) => {
            Failure::because(Reason::WorkspaceFailed, &error)
        }
        // The machine lacks something (processes, memory); another one may not.
        Err(error @ StartError::Other { .. }) => Failure {
            retryable: true,
            ..Failure::because(Reason::AgentFailed, &error)
        },
    };
    Err(failure)
}

pub fn out_of_memory() -> Failure {
    Failure::new(
        Reason::OutOfMemory,
        "the machine ran out of memory, and the kernel killed a process of the agent's",
    )
}

/// The failure of a run that was told to end.
pub fn stopped(why: &Why) -> Failure {
    match why {
        Why::Signal(name) => Failure::new(
            Reason::Interrupted,
            format!("the worker was stopped by {name}"),
        ),
        Why::ParentEnded => Failure::new(
            Reason::Interrupted,
            "the worker was stopped, because the process that started it has ended",
        ),
        Why::Cancelled(None) => {
            Failure::new(Reason::Cancelled, "the orchestrator cancelled the task")
        }
        Why::Cancelled(Some(reason)) => Failure::new(
            Reason::Cancelled,
            format!("the orchestrator cancelled the task: {reason}"),
        ),
    }
}

pub fn timed_out(limit: Duration) -> Failure {
    Failure::new(
        Reason::TimedOut,
        format!("the task was not done within {}", in_words(limit)),
    )
}
