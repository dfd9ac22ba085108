//! The JSON that goes over the wire, version 1: the only place that knows its names.
//!
//! docs/protocol.md describes it and docs/callback.schema.json defines it; both are API. Fields are
//! only ever added. Unknown numbers are `null`, never 0.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Identity;
use crate::progress::{Snapshot, Window};
use crate::redact::Redactor;
use crate::task::{self, Outcome, Verdict};

const VERSION: u32 = 1;
/// The most that one body may be, in bytes.
const BODY: usize = 256 * 1024;
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
    work: Option<()>,
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
#[derive(Debug, Deserialize)]
pub(super) struct Cancellation {
    cancel: bool,
    pub(super) reason: Option<String>,
}

/// The cancellation in a heartbeat's answer, if it is one; any other body means go on.
pub(super) fn cancellation(body: &[u8]) -> Option<Cancellation> {
    let answer: Cancellation = serde_json::from_slice(body).ok()?;
    answer.cancel.then_some(answer)
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
            event_id: format!("{}.{sequence}", identity.run_id),
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

    /// The body as it is sent; within the limit, whatever the agent printed.
    pub fn body(&self) -> Vec<u8> {
        let whole = self.json();
        if whole.len() <= BODY {
            return whole;
        }
        self.without_bulk().map_or(whole, |smaller| smaller.json())
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists are always JSON")
    }

    /// The same event without the patch and the tails; `None` where it had none.
    pub(super) fn without_bulk(&self) -> Option<Self> {
        let result = self.result.as_ref()?;
        let bulk = !result.output.tail.is_empty()
            || result
                .checks
                .iter()
                .any(|check| !check.output_tail.is_empty());
        bulk.then(|| {
            let mut smaller = self.clone();
            if let Some(result) = &mut smaller.result {
                result.shed_bulk();
            }
            smaller
        })
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
    }
}

impl Worker {
    fn new(identity: &Identity) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: identity.revision.clone(),
            hostname: identity.hostname.clone(),
            agent: identity.agent.map(task::AgentKind::word),
            machine: identity.machine.as_ref().map(|machine| Machine {
                id: machine.id.clone(),
                app: machine.app.clone(),
                region: machine.region.clone(),
                image: machine.image.clone(),
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
            turns: None,
            tool_calls: None,
            usage: None,
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
                kind: agent.kind.word(),
                model: agent.model.clone(),
                session_id: None,
                exit_code: agent.exit_code,
                turns: None,
                tool_calls: None,
                cost_usd: None,
                usage: None,
            }),
            work: None,
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

    fn shed_bulk(&mut self) {
        for check in &mut self.checks {
            check.output_tail.clear();
        }
        self.output.dropped_bytes = self.output.total_bytes;
        self.output.head.clear();
        self.output.tail.clear();
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
