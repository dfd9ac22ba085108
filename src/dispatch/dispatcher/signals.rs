//! The signals that a dispatcher handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::hangup::Hangup;

/// The signals that a dispatcher handles, as streams.
pub struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
    pub(super) hangup: Hangup,
    /// Wakes the loop when a process that the dispatcher started has ended.
    pub(super) child: Signal,
}

impl Signals {
    /// Handles these signals from now on, except SIGHUP if this process was started with it ignored.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: Hangup::listen()?,
            child: signal(SignalKind::child())?,
        })
    }

    /// Waits for a signal that asks this process to end.
    pub async fn end_requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = self.hangup.recv() => {}
        }
    }
}
