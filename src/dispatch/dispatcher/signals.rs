//! The signals that a dispatcher handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::stop_signals::{IgnoredSignals, StopSignal};

/// The signals that a dispatcher handles, as streams.
pub struct Signals {
    pub(super) interrupt: StopSignal,
    pub(super) terminate: StopSignal,
    pub(super) hangup: StopSignal,
    /// Wakes the loop when a process that the dispatcher started has ended.
    pub(super) child: Signal,
}

impl Signals {
    /// Handles these signals from now on, except stop signals that this process was started to ignore.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let ignored = IgnoredSignals::read();
        Ok(Self {
            interrupt: ignored.listen(SignalKind::interrupt())?,
            terminate: ignored.listen(SignalKind::terminate())?,
            hangup: ignored.listen(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// Waits for a signal that asks this process to end.
    pub async fn end_requested(&mut self) {
        tokio::select! {
            () = self.interrupt.recv() => {}
            () = self.terminate.recv() => {}
            () = self.hangup.recv() => {}
        }
    }
}
