//! Turns the end of an agent or of a run into a failure.

use std::time::Duration;

use rustix::process::Signal;

use crate::durations::in_words;
use crate::process::{self, Ending, StartError};
use crate::scud::SettingsError;
use crate::shutdown::StopReason;
use crate::task::{Failure, Reason};

/// A shell's exit code if it did not find a program (POSIX).
pub const NOT_FOUND: i32 = 127;
/// A shell's exit code if it found a program but could not execute it (POSIX).
pub const NOT_EXECUTABLE: i32 = 126;
/// Shells and many programs add this to the number of the signal that killed them (POSIX: more
/// than 128).
const SIGNAL_OFFSET: i32 = 128;

/// The exit code of an agent that ended by itself. Any other end is a failure, for all kinds of agents.
///
/// # Errors
/// The failure that the other ends mean.
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
            format!("the agent printed nothing for {}", in_words(limit)),
        ),
        Ok(Ending::Lingered) => Failure::new(
            Reason::AgentFailed,
            "the agent did not end after its result",
        ),
        Ok(ending @ Ending::EventHappened) => {
            Failure::new(Reason::AgentFailed, format!("the agent {ending}"))
        }
        Ok(Ending::Stopped(why)) => stopped(&why),
        Err(error @ (StartError::NotFound { .. } | StartError::NotExecutable { .. })) => {
            Failure::from_error(Reason::AgentNotFound, &error)
        }
        Err(error @ StartError::Directory { .. }) => {
            Failure::from_error(Reason::WorkspaceFailed, &error)
        }
        // This machine has no free process or memory left. Another attempt may find some.
        Err(error @ StartError::Other { .. }) => Failure {
            retryable: true,
            ..Failure::from_error(Reason::AgentFailed, &error)
        },
    };
    Err(failure)
}

/// The signal that killed a program, if its exit code says so.
pub fn killing_signal(code: i32) -> Option<Signal> {
    process::signal_from_number(code.checked_sub(SIGNAL_OFFSET)?)
}

pub fn out_of_memory() -> Failure {
    Failure::new(
        Reason::OutOfMemory,
        "the machine ran out of memory, and the kernel killed a process of the agent",
    )
}

/// The failure of a run that was cancelled or stopped by a signal.
pub fn stopped(why: &StopReason) -> Failure {
    match why {
        StopReason::Signal(name) => Failure::new(
            Reason::Interrupted,
            format!("the worker was stopped by {name}"),
        ),
        StopReason::ParentEnded => Failure::new(
            Reason::Interrupted,
            "the worker was stopped, because the process that started it has ended",
        ),
        StopReason::Cancelled(None) => {
            Failure::new(Reason::Cancelled, "the orchestrator cancelled the task")
        }
        StopReason::Cancelled(Some(reason)) => Failure::new(
            Reason::Cancelled,
            format!("the orchestrator cancelled the task: {reason}"),
        ),
    }
}

/// The failure if the project's configuration cannot be used. Another attempt helps only if the file could
/// not be read.
pub fn unusable_settings(error: &SettingsError) -> Failure {
    Failure {
        retryable: !error.is_permanent(),
        ..Failure::from_error(Reason::WorkspaceFailed, error)
    }
}

pub fn timed_out(limit: Duration) -> Failure {
    Failure::new(
        Reason::TimedOut,
        format!("the task was not done within {}", in_words(limit)),
    )
}
