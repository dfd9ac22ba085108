//! Stop signals that respect `nohup`: SIGHUP is not handled if this process was started with SIGHUP ignored.
//!
//! SIGINT and SIGQUIT are always handled. A shell script ignores them for programs that it starts in the background, but
//! platforms stop machines by SIGINT, and such a script may be what starts the worker.

use std::fs;
use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The stop signals that this process must leave ignored.
#[derive(Debug, Clone, Copy)]
pub struct IgnoredSignals {
    /// The bit with the number of a signal minus one is set if this process ignores the signal.
    mask: u64,
}

impl IgnoredSignals {
    /// Reads which signals this process ignores now. A signal whose handler is installed counts as not ignored, so this
    /// can be called at any time. Without /proc, no signal counts as ignored.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::parse(&status)
    }

    /// Reads the line `SigIgn` of /proc/self/status.
    fn parse(status: &str) -> Self {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        Self {
            mask: mask.unwrap_or(0),
        }
    }

    /// Whether this signal must stay ignored.
    pub fn contains(self, kind: SignalKind) -> bool {
        let number = kind.as_raw_value();
        kind == SignalKind::hangup()
            && (1..=64).contains(&number)
            && (self.mask >> (number - 1)) & 1 == 1
    }

    /// Handles this signal from now on, unless it must stay ignored.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn listen(self, kind: SignalKind) -> io::Result<StopSignal> {
        let signal = (!self.contains(kind)).then(|| signal(kind)).transpose()?;
        Ok(StopSignal(signal))
    }
}

/// A stop signal as a stream; `None` if the signal stays ignored.
#[derive(Debug)]
pub struct StopSignal(Option<Signal>);

impl StopSignal {
    /// Waits for the next signal; forever if the signal stays ignored.
    pub async fn recv(&mut self) {
        let received = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if received.is_none() {
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hangup_stays_ignored() {
        let ignored = IgnoredSignals::parse(
            "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\tffffffffffffffff\n",
        );
        assert!(ignored.contains(SignalKind::hangup()));
        assert!(!ignored.contains(SignalKind::interrupt()));
        assert!(!ignored.contains(SignalKind::quit()));
        assert!(!ignored.contains(SignalKind::terminate()));
    }

    #[test]
    fn the_bit_of_hangup_decides_whether_it_stays_ignored() {
        // SIGHUP is signal 1, the lowest bit. Bit 12 is SIGPIPE, which Rust programs ignore.
        let contains = |status| IgnoredSignals::parse(status).contains(SignalKind::hangup());
        assert!(contains("SigIgn:\t0000000000001001\n"));
        assert!(!contains("SigIgn:\t0000000000001006\n"));
    }

    #[test]
    fn without_a_readable_status_no_signal_stays_ignored() {
        assert!(!IgnoredSignals::parse("").contains(SignalKind::hangup()));
        assert!(!IgnoredSignals::parse("SigIgn:\tx\n").contains(SignalKind::hangup()));
    }
}
