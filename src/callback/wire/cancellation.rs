//! Reads the answer to a heartbeat: it can cancel the task.

use serde_json::Value;

/// The cancellation of a task, with the reason if the orchestrator names one.
#[derive(Debug)]
pub struct Cancellation {
    pub reason: Option<String>,
}

/// The cancellation in an answer's body. Any other body means that the run continues. A reason that is
/// not a string is dropped; the cancellation still counts.
pub fn cancellation(body: &[u8]) -> Option<Cancellation> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    (answer.get("cancel")? == true).then(|| Cancellation {
        reason: answer
            .get("reason")
            .and_then(Value::as_str)
            .map(str::to_owned),
    })
}
