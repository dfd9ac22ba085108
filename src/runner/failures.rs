//! Failures that several modules of the runner report.

use std::time::Duration;

use rustix::process::Signal;

use crate::durations::in_words;
use crate::process::{self, Ending, StartError};
use crate::scud::SettingsError;
use crate::shutdown::StopReason;
use crate::task::{Failure, Reason};

/// A shell's exit code if it did not find a program (POSIX).
pub const EXIT_CODE_NOT_FOUND: i32 = 127;
/// A shell's exit code if it found a program but could not execute it (POSIX).
pub const EXIT_CODE_NOT_EXECUTABLE: i32 = 126;
/// Shells, and programs that act like them, report a program that a signal killed with this number plus the number of
/// the signal (POSIX: a number above 128).
const SIGNAL_OFFSET: i32 = 128;

/// The exit code of an agent that ended by itself.
///
/// # Errors
/// Any other end of an agent is a failure, for all kinds of agents.
pub fn exit_code(ending: Result<Ending, StartError>) -> Result<i32, Failure> {
    let failure = match ending {
        Ok(Ending::Exited(code)) => return Ok(code),
        Ok(ending @ Ending::Killed(_)) => {
            Failure::new(Reason::AgentKilled, format!("the agent {ending}"))
        }
        Ok(Ending::OutOfMemory) => out_of_memory_failure(),
        Ok(ending @ Ending::PossiblyOutOfMemory) => {
            Failure::new(Reason::OutOfMemory, format!("the agent {ending}"))
        }
        Ok(Ending::TimedOut(limit)) => timeout_failure(limit),
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
        Ok(Ending::Stopped(why)) => stop_failure(&why),
        Err(error @ (StartError::NotFound { .. } | StartError::NotExecutable { .. })) => {
            Failure::from_error(Reason::AgentNotFound, &error)
        }
        Err(error @ StartError::Directory { .. }) => {
            Failure::from_error(Reason::WorkspaceFailed, &error)
        }
        // The machine may have too little memory, or too many processes. Another attempt may succeed.
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

/// The failure if the kernel killed a process of the agent because memory ran out.
pub fn out_of_memory_failure() -> Failure {
    Failure::new(
        Reason::OutOfMemory,
        "the machine ran out of memory, and the kernel killed a process of the agent",
    )
}

/// The failure of a run that was cancelled or stopped by a signal.
pub fn stop_failure(reason: &StopReason) -> Failure {
    match reason {
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

/// The failure if a file with settings of the project cannot be used. A new run helps only if the file could not be
/// read.
pub fn settings_failure(error: &SettingsError) -> Failure {
    Failure {
        retryable: !error.is_permanent(),
        ..Failure::from_error(Reason::WorkspaceFailed, error)
    }
}

/// The failure if the task's time limit, `limit`, is over.
pub fn timeout_failure(limit: Duration) -> Failure {
    Failure::new(
        Reason::TimedOut,
        format!("the task was not done within {}", in_words(limit)),
    )
}
