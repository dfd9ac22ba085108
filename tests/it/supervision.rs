//! For anyone who pays for the machine: every agent has time limits, its output is read, the worker ends all its
//! processes, and the outcome is reported exactly once.

mod ending;
mod hostile;
#[cfg(feature = "peers")]
mod kernel;
mod limits;
mod output;
pub mod secrets;
mod status_line;
mod survivors;
mod verdicts;

use serde_json::Value;

use crate::support::{Project, Receiver, Worker};

/// Waits until heartbeats have sent output of the agent that contains these words; needs [`worker_with_fast_heartbeats`].
#[track_caller]
fn wait_for_output_in_heartbeats(receiver: &Receiver, words: &str) {
    receiver.wait_for(words, |requests| {
        let texts = requests
            .iter()
            .filter_map(|request| request.event["progress"]["output"]["text"].as_str());
        texts.collect::<String>().contains(words).then_some(())
    });
}

/// A worker whose heartbeats send the output at once.
fn worker_with_fast_heartbeats(receiver: &Receiver, project: &Project) -> Worker {
    Worker::new(receiver, project).env("DESCARTES_HEARTBEAT", "20ms")
}

/// The only terminal event, which must be a failure.
#[track_caller]
fn only_failure(receiver: &Receiver) -> Value {
    assert_eq!(receiver.routes(), ["started", "failed"]);
    receiver.only_event("failed")
}

/// Asserts that the only terminal event is a failure with this reason and message.
#[track_caller]
fn assert_failed(receiver: &Receiver, reason: &str, message: &str) {
    let event = only_failure(receiver);
    assert_eq!(event["failure"]["reason"], reason, "{event:#}");
    assert_eq!(event["failure"]["message"], message, "{event:#}");
}

/// Asserts that the only terminal event is a success; returns the tail of the agent's output.
#[track_caller]
fn assert_completed(receiver: &Receiver) -> String {
    receiver.assert_routes(&["started", "completed"]);
    tail(&receiver.only_event("completed"))
}

/// The end of the agent's output in a terminal event.
fn tail(event: &Value) -> String {
    let tail = event["result"]["output"]["tail"].as_str();
    tail.unwrap_or_else(|| panic!("no tail: {event:#}"))
        .to_owned()
}

/// The worker, started by a shell that runs this script first.
fn start_after_script(script: &str, worker: Worker) -> Worker {
    let script = format!("{script}\nexec \"$0\"");
    worker.started_by("/bin/sh", |program| {
        vec!["-c".into(), script.into(), program.into()]
    })
}
