//! The answers of a fake server, including broken connections.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How to answer one request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A whole answer.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The server resets the connection instead of answering.
    Reset,
    /// The server closes the connection after a part of the answer's head.
    BreakInHead,
    /// The server closes the connection after the head, with the status 200, and a part of the body.
    BreakInBody,
    /// The server closes the connection after the head, with this status, and a part of the body.
    BreakInBodyWithStatus(u16),
    /// The inner reply, after this time.
    After(Duration, Box<Reply>),
    /// The inner reply; after it, the server closes the connection.
    ThenClose(Box<Reply>),
    /// The inner reply, after the test has released the hold.
    AfterRelease(Hold, Box<Reply>),
}

/// Delays replies until the test releases it.
#[derive(Debug, Clone, Default)]
pub struct Hold(Arc<HoldState>);

#[derive(Debug, Default)]
struct HoldState {
    is_released: Mutex<bool>,
    changed: Condvar,
}

impl Hold {
    pub fn release(&self) {
        *self.0.is_released.lock().unwrap() = true;
        self.0.changed.notify_all();
    }

    /// Waits until the hold is released or `ended` returns true; see [`Self::wake_waiting`].
    pub(super) fn wait(&self, ended: impl Fn() -> bool) {
        let is_released = self.0.is_released.lock().unwrap();
        let must_wait = |is_released: &mut bool| !*is_released && !ended();
        drop(self.0.changed.wait_while(is_released, must_wait));
    }

    /// Wakes all waiting threads, so that they check whether their wait has ended.
    pub(super) fn wake_waiting(&self) {
        // A thread holds the lock from its check until it waits. Taking the lock once makes sure that the thread is waiting.
        drop(self.0.is_released.lock().unwrap());
        self.0.changed.notify_all();
    }
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub fn json(status: u16, body: &str) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
        }
    }

    pub fn with_header(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Answer {
                status,
                mut headers,
                body,
            } => {
                headers.push((name, value.into()));
                Self::Answer {
                    status,
                    headers,
                    body,
                }
            }
            other => other,
        }
    }

    pub fn then_close(self) -> Self {
        Self::ThenClose(Box::new(self))
    }

    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }

    pub fn after_release(self, hold: &Hold) -> Self {
        Self::AfterRelease(hold.clone(), Box::new(self))
    }
}
