//! The state of the connection to one engine that answers in the background.

use std::rc::Rc;

use tokio::time::Instant;

use super::remote::Remote;
use crate::dispatch::journal::Handle;

/// An engine, the questions to it, and whether it answers.
#[derive(Debug)]
pub struct Station {
    pub remote: Rc<Remote>,
    /// The runs to ask about, collected since the last question.
    pub asked: Vec<(String, Handle)>,
    /// Whether a question is under way.
    pub is_looking: bool,
    /// The earliest time of the next question.
    pub next_look: Instant,
    /// Why the engine does not answer; `None` if it does. The user gets one message about it.
    pub trouble: Option<String>,
}

impl Station {
    pub fn new(remote: Remote) -> Self {
        Self {
            remote: Rc::new(remote),
            asked: Vec::new(),
            is_looking: false,
            next_look: Instant::now(),
            trouble: None,
        }
    }

    /// Notes that the engine has answered. If the user was told that the engine does not answer, returns a message
    /// that it answers again.
    pub fn answers_again(&mut self) -> Option<String> {
        self.trouble.take()?;
        let engine = self.remote.kind();
        Some(format!("the engine {engine} answers again"))
    }
}
