//! The JSON that goes over the wire, version 1: the only place that knows its names.
//!
//! docs/protocol.md describes it and docs/callback.schema.json defines it; both are API. Fields are
//! only ever added. Unknown numbers are `null`, never 0.

mod bulk;

use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::{CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;

use super::Identity;
use crate::progress::{Snapshot, Window};
use crate::redact::Redactor;
use crate::task::{self, Outcome, Verdict};

const VERSION: u32 = 1;
/// The most of a one-line message, in characters.
const MESSAGE: usize = 500;
/// The most of a longer text (a summary, the causes), in characters.
const TEXT: usize = 8 * 1024;

/// The most checks that one report lists.
const CHECKS: usize = 100;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Started,
    Progress,
    Completed,
    Failed,
}

impl Kind {
    /// The last part of the URL.
    pub fn route(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    fn event(self) -> &'static str {
        match self {
            Self::Started => "task.started",
            Self::Progress => "task.progress",
            Self::Completed => "task.completed",
            Self::Failed => "task.failed",
        }
    }

    fn status(self) -> &'static str {
        match self {
            Self::Progress => "running",
            other => other.route(),
        }
    }
}

/// One event, the same on every retry.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    task_id: String,
    project_id: String,
    status: &'static str,
    message: String,
    version: u32,
    event: &'static str,
    event_id: String,
    run_id: String,
    sequence: u64,
    timestamp: String,
    worker: Worker,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<Outgoing>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(skip)]
    kind: Kind,
}

#[derive(Debug, Clone, Serialize)]
struct Worker {
    version: &'static str,
    revision: Option<String>,
    hostname: String,
    agent: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<Machine>,
}

#[derive(Debug, Clone, Serialize)]
struct Machine {
    id: Option<String>,
    app: Option<String>,
    region: Option<String>,
    image: Option<String>,
    memory_mb: Option<u64>,
}

/// `progress` of a heartbeat.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Progress {
    phase: &'static str,
    elapsed_ms: u64,
    idle_ms: u64,
    turns: Option<u64>,
    tool_calls: Option<u64>,
    usage: Option<Usage>,
    activity: Option<String>,
    output: Option<NewOutput>,
}

#[derive(Debug, Clone, Serialize)]
struct NewOutput {
    offset: u64,
    text: String,
    dropped_bytes: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

/// `result` of a terminal event.
#[derive(Debug, Clone, Serialize)]
struct Outgoing {
    summary: Option<String>,
    duration_ms: u64,
    agent: Option<Agent>,
    work: Option<Work>,
    checks: Vec<Check>,
    output: Output,
}

#[derive(Debug, Clone, Serialize)]
struct Agent {
    kind: &'static str,
    model: Option<String>,
    session_id: Option<String>,
    exit_code: Option<i32>,
    turns: Option<u64>,
    tool_calls: Option<u64>,
    cost_usd: Option<f64>,
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Serialize)]
struct Work {
    base_commit: String,
    head_commit: String,
    branch: Option<String>,
    pushed: bool,
    files_changed: u64,
    insertions: u64,
    deletions: u64,
    patch: Option<String>,
    patch_truncated: bool,
}

#[derive(Debug, Clone, Serialize)]
struct Check {
    command: String,
    exit_code: Option<i32>,
    duration_ms: u64,
    output_tail: String,
}

#[derive(Debug, Clone, Serialize)]
struct Output {
    head: String,
    tail: String,
    total_bytes: u64,
    dropped_bytes: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Failure {
    reason: &'static str,
    message: String,
    detail: String,
    retryable: bool,
}

/// An answer that asks the worker to stop.
#[derive(Debug)]
pub(super) struct Cancellation {
    pub(super) reason: Option<String>,
}

/// The cancellation in a heartbeat's answer, if it is one; any other body means go on. A reason
/// that is no text is no reason to go on.
pub(super) fn cancellation(body: &[u8]) -> Option<Cancellation> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    (answer.get("cancel")? == true).then(|| Cancellation {
        reason: answer
            .get("reason")
            .and_then(Value::as_str)
            .map(str::to_owned),
    })
}

impl Event {
    pub(super) fn new(kind: Kind, identity: &Identity, sequence: u64, message: &str) -> Self {
        Self {
            task_id: identity.task_id.clone(),
            project_id: identity.project_id.clone(),
            status: kind.status(),
            message: line(message),
            version: VERSION,
            event: kind.event(),
            // It is a header too, and those are ASCII.
            event_id: format!(
                "{}.{sequence}",
                utf8_percent_encode(&identity.run_id, CONTROLS)
            ),
            run_id: identity.run_id.clone(),
            sequence,
            timestamp: format!("{:.3}", Timestamp::now()),
            worker: Worker::new(identity),
            progress: None,
            result: None,
            failure: None,
            kind,
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same on every retry.
    pub fn id(&self) -> &str {
        &self.event_id
    }

    /// The body as it is sent; the same on every retry.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists are always JSON")
    }

    /// Adds what became of the task.
    pub(super) fn tell(&mut self, outcome: &Outcome, redactor: &Redactor) {
        self.result = Some(Box::new(Outgoing::new(&outcome.report, redactor)));
        if let Verdict::Failed(failure) = &outcome.verdict {
            self.failure = Some(Failure {
                reason: failure.reason.word(),
                message: line(&redactor.text(&failure.message)),
                detail: cut(&redactor.text(&failure.causes.join("\n")), TEXT),
                retryable: failure.retryable,
            });
        }
        self.fit();
    }
}

impl Worker {
    fn new(identity: &Identity) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: identity.revision.clone(),
            hostname: identity.hostname.clone(),
            agent: identity.agent,
            machine: identity.machine.as_ref().map(|machine| Machine {
                id: machine.id.as_deref().map(line),
                app: machine.app.as_deref().map(line),
                region: machine.region.as_deref().map(line),
                image: machine.image.as_deref().map(line),
                memory_mb: machine.memory_mb,
            }),
        }
    }
}

impl Progress {
    pub(super) fn new(snapshot: &Snapshot, window: Option<&Window>, redactor: &Redactor) -> Self {
        Self {
            phase: snapshot.phase.word(),
            elapsed_ms: milliseconds(snapshot.elapsed),
            idle_ms: milliseconds(snapshot.idle),
            turns: snapshot.spent.turns,
            tool_calls: snapshot.spent.tool_calls,
            usage: snapshot.spent.usage.map(Usage::new),
            activity: snapshot
                .activity
                .as_deref()
                .map(|activity| line(&redactor.text(activity))),
            output: window.map(|window| NewOutput {
                offset: window.offset,
                text: window.text.clone(),
                dropped_bytes: window.dropped_bytes,
            }),
        }
    }
}

impl Outgoing {
    fn new(report: &task::Report, redactor: &Redactor) -> Self {
        Self {
            summary: report
                .summary
                .as_deref()
                .map(|summary| cut(&redactor.text(summary), TEXT)),
            duration_ms: milliseconds(report.duration),
            agent: report.agent.as_ref().map(|agent| Agent {
                kind: agent.kind,
                // Of the agent's own telling.
                model: agent
                    .model
                    .as_deref()
                    .map(|model| line(&redactor.text(model))),
                session_id: agent
                    .session_id
                    .as_deref()
                    .map(|id| line(&redactor.text(id))),
                exit_code: agent.exit_code,
                turns: agent.spent.turns,
                tool_calls: agent.spent.tool_calls,
                cost_usd: agent.spent.cost_usd,
                usage: agent.spent.usage.map(Usage::new),
            }),
            work: report.work.as_ref().map(Work::new),
            checks: report
                .checks
                .iter()
                .take(CHECKS)
                .map(|check| Check {
                    command: line(&redactor.text(&check.command)),
                    exit_code: check.exit_code,
                    duration_ms: milliseconds(check.duration),
                    output_tail: check.output_tail.clone(),
                })
                .collect(),
            output: Output {
                head: report.output.head.clone(),
                tail: report.output.tail.clone(),
                total_bytes: report.output.total_bytes,
                dropped_bytes: report.output.dropped_bytes,
            },
        }
    }
}

impl Usage {
    fn new(usage: crate::model::Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read_input_tokens: usage.cache_read_input_tokens,
            cache_creation_input_tokens: usage.cache_creation_input_tokens,
        }
    }
}

impl Work {
    fn new(work: &task::Work) -> Self {
        Self {
            base_commit: work.base_commit.clone(),
            head_commit: work.head_commit.clone(),
            branch: work.branch.clone(),
            pushed: work.branch.is_some(),
            files_changed: work.files_changed,
            insertions: work.insertions,
            deletions: work.deletions,
            patch: work.patch.as_ref().map(|patch| patch.text.clone()),
            patch_truncated: work.patch.as_ref().is_some_and(|patch| patch.truncated),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// One line, not too long.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    cut(&words.join(" "), MESSAGE)
}

/// The beginning of a text, marked where something was cut.
fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests;
