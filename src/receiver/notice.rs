//! The notices of the built-in orchestrator, which are shown to the user.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::route::Route;

/// A notice of the built-in orchestrator to the user.
#[derive(Debug, Clone)]
pub enum Notice {
    /// An event of a run arrived.
    Event(ReceivedEvent),
    /// A request that is not an event of a run, or whose signature is wrong.
    Refused { path: String, why: String },
    /// A run has sent nothing for the whole length of its lease. Its worker has most likely died.
    LeaseOver {
        task_id: String,
        run_id: String,
        silence: Duration,
    },
}

/// One event, and the answer to it.
#[derive(Debug, Clone)]
pub struct ReceivedEvent {
    pub route: Route,
    /// The event as it arrived.
    pub event: Value,
    /// Sentences about rules of the protocol that the event breaks; usually empty.
    pub problems: Vec<String>,
    /// Whether the same event arrived before: this is a retry.
    pub is_repeated: bool,
    pub answer: Answer,
}

/// An answer to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub message: String,
    /// Whether the answer cancels the task.
    pub cancels: bool,
}

impl Answer {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            cancels: false,
        }
    }

    pub fn cancellation(message: impl Into<String>) -> Self {
        Self {
            cancels: true,
            ..Self::new(StatusCode::OK, message)
        }
    }

    /// The JSON of the answer.
    pub fn body(&self) -> Value {
        if self.cancels {
            json!({ "cancel": true, "reason": self.message })
        } else {
            json!({ "message": self.message })
        }
    }

    /// Whether the worker stops sending its terminal event after this answer.
    pub fn ends_delivery(&self) -> bool {
        self.status.is_success() || matches!(self.status.as_u16(), 409 | 410)
    }
}

impl ReceivedEvent {
    /// A string in the event, by its JSON pointer; empty if there is none.
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.event.pointer(pointer);
        value.and_then(Value::as_str).unwrap_or_default()
    }

    /// A number in the event, by its JSON pointer.
    pub fn number(&self, pointer: &str) -> Option<u64> {
        self.event.pointer(pointer).and_then(Value::as_u64)
    }
}
