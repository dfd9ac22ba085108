//! SIGHUP, which stays ignored if this process was started with it ignored, as by `nohup`.
//!
//! Other stop signals are always handled. A shell script ignores SIGINT and SIGQUIT for programs that it starts in the
//! background, but platforms stop machines by SIGINT, and such a script may be what starts the worker.

use std::fs;
use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP as a stream; `None` if it stays ignored.
#[derive(Debug)]
pub struct Hangup(Option<Signal>);

impl Hangup {
    /// Handles SIGHUP from now on, unless it is ignored.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let handled = (!is_hangup_ignored()).then(|| signal(SignalKind::hangup()));
        Ok(Self(handled.transpose()?))
    }

    /// Waits for the next SIGHUP; forever if it stays ignored.
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

/// Whether this process ignores SIGHUP now. A signal whose handler is installed is not ignored. Without /proc, SIGHUP
/// counts as not ignored.
pub fn is_hangup_ignored() -> bool {
    is_hangup_in(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// Whether the line `SigIgn` of /proc/self/status contains SIGHUP. Bit 0 of the mask stands for signal 1, which is SIGHUP.
fn is_hangup_in(status: &str) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_the_mask_decides_whether_sighup_stays_ignored() {
        assert!(is_hangup_in(
            "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\tffffffffffffffff\n"
        ));
        // Bit 12 is SIGPIPE, which Rust programs ignore. Bits 1 and 2 are SIGINT and SIGQUIT.
        assert!(is_hangup_in("SigIgn:\t0000000000001001\n"));
        assert!(!is_hangup_in("SigIgn:\t0000000000001006\n"));
    }

    #[test]
    fn without_a_readable_status_sighup_does_not_stay_ignored() {
        assert!(!is_hangup_in(""));
        assert!(!is_hangup_in("SigIgn:\tx\n"));
    }
}
