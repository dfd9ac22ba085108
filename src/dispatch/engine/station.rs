//! What is known about an engine that answers later.

use std::rc::Rc;

use tokio::time::Instant;

use super::remote::Remote;
use crate::dispatch::journal::Handle;

#[derive(Debug)]
pub struct Station {
    pub remote: Rc<Remote>,
    /// The runs to ask about, collected since the last question.
    pub asked: Vec<(String, Handle)>,
    pub is_looking: bool,
    pub next_look: Instant,
    /// Why the engine does not answer, if so; a person is told once.
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

    /// Notes that the engine has answered. If a person was told that it does not, returns what to tell them now.
    pub fn answers_again(&mut self) -> Option<String> {
        self.trouble.take()?;
        let engine = self.remote.kind();
        Some(format!("the engine {engine} answers again"))
    }
}
