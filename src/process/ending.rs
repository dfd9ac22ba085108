//! How a child process ended.

use std::fmt;
use std::time::Duration;

use rustix::process::Signal;

use super::signals;
use crate::durations::in_words;
use crate::shutdown::StopReason;

/// How a child process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The child exited by itself with this exit code.
    Exited(i32),
    /// A signal that the worker did not send killed the child.
    Killed(Signal),
    /// The kernel killed the child, or a process below it, because memory ran out.
    OutOfMemory,
    /// SIGKILL killed the child, and the worker did not send it. Meanwhile the kernel killed a process on the machine
    /// because memory ran out: this child or another process.
    PossiblyOutOfMemory,
    /// The worker ended the child, because the child took longer than this.
    TimedOut(Duration),
    /// The worker ended the child, because the child printed nothing for this long.
    Idle(Duration),
    /// The worker ended the child, because the child had reported its result and did not exit.
    Lingered,
    /// The worker ended the child, because the event that the caller passed to `supervise_until` happened.
    EventHappened,
    /// The worker ended the child, because the run had to stop.
    Stopped(StopReason),
}

/// Completes a sentence that begins with the child: "was killed by SIGKILL".
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(0) => f.write_str("succeeded"),
            Self::Exited(code) => write!(f, "failed with exit code {code}"),
            Self::Killed(signal) => write!(f, "was killed by {}", signals::signal_name(*signal)),
            Self::OutOfMemory => f.write_str("ran out of memory"),
            Self::PossiblyOutOfMemory => {
                f.write_str("was killed by SIGKILL, possibly because the machine ran out of memory")
            }
            Self::TimedOut(limit) => write!(f, "was not done within {}", in_words(*limit)),
            Self::Idle(limit) => write!(f, "printed nothing for {}", in_words(*limit)),
            Self::Lingered => f.write_str("did not end"),
            Self::EventHappened => f.write_str("could not go on"),
            Self::Stopped(_) => f.write_str("was stopped"),
        }
    }
}
