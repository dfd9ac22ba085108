//! The state of the connection to one engine that answers in the background.

use std::rc::Rc;

use tokio::time::Instant;

use super::remote::RemoteEngine;
use crate::dispatch::journal::Handle;

/// An engine, the requests for the states of its runs, and whether it answers.
#[derive(Debug)]
pub struct Connection {
    pub remote: Rc<RemoteEngine>,
    /// The runs whose states the next request asks for, each with its id.
    pub runs_to_ask: Vec<(String, Handle)>,
    /// Whether a request for states has no answer yet.
    pub is_asking: bool,
    /// The earliest time of the next request for states.
    pub next_request: Instant,
    /// Why the engine does not answer; `None` if it does. The user gets one message about it.
    pub error: Option<String>,
}

impl Connection {
    pub fn new(remote: RemoteEngine) -> Self {
        Self {
            remote: Rc::new(remote),
            runs_to_ask: Vec::new(),
            is_asking: false,
            next_request: Instant::now(),
            error: None,
        }
    }

    /// Notes that the engine has answered. If the user has a message that the engine does not answer, returns a message
    /// that it answers again.
    pub fn note_answer(&mut self) -> Option<String> {
        self.error.take()?;
        let engine = self.remote.kind();
        Some(format!("the engine {engine} answers again"))
    }
}
