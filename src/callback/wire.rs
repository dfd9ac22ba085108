//! The JSON of the protocol, version 1. Only this module and its submodules know the names of the fields.
//!
//! docs/protocol.md describes the fields and docs/callback.schema.json defines them; other programs rely on both. Within version 1,
//! fields are added and never removed. Unknown numbers are `null`, never 0.

mod cancellation;
mod limits;
mod progress;
mod result;
mod text;
mod usage;

use jiff::Timestamp;
use percent_encoding::{CONTROLS, utf8_percent_encode};
use serde::Serialize;

use super::settings::{Identity, Settings};
use crate::progress::{OutputWindow, Snapshot};
use crate::redact::Redactor;
use crate::task::{Outcome, Verdict};
pub use cancellation::cancellation;
use limits::StartedFields;
use progress::Progress;
use result::{Failure, TaskResult};
use text::one_line;

/// The version of the protocol.
const VERSION: u32 = 1;
/// The maximum size of a body, in bytes.
const MAX_BODY_SIZE: usize = 256 * 1024;

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Started,
    Progress,
    Completed,
    Failed,
}

impl Kind {
    /// The last part of the URL that the event is sent to.
    pub fn route(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The field `event`.
    fn event(self) -> &'static str {
        match self {
            Self::Started => "task.started",
            Self::Progress => "task.progress",
            Self::Completed => "task.completed",
            Self::Failed => "task.failed",
        }
    }

    /// The field `status`.
    fn status(self) -> &'static str {
        match self {
            Self::Progress => "running",
            other => other.route(),
        }
    }
}

/// One event. All retries send the same event.
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
    #[serde(flatten)]
    started: Option<StartedFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<TaskResult>>,
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
    isolation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_user: Option<String>,
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

impl Event {
    pub fn new(kind: Kind, identity: &Identity, sequence: u64, message: &str) -> Self {
        Self {
            task_id: identity.task_id.clone(),
            project_id: identity.project_id.clone(),
            status: kind.status(),
            message: one_line(message),
            version: VERSION,
            event: kind.event(),
            // The id is also sent in a header, and headers must be ASCII.
            event_id: format!(
                "{}.{sequence}",
                utf8_percent_encode(&identity.run_id, CONTROLS)
            ),
            run_id: identity.run_id.clone(),
            sequence,
            timestamp: format!("{:.3}", Timestamp::now()),
            worker: Worker::new(identity),
            started: None,
            progress: None,
            result: None,
            failure: None,
            kind,
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn id(&self) -> &str {
        &self.event_id
    }

    /// The body of the request.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists are always JSON")
    }

    /// Adds the heartbeat interval and the limits to a `started` event.
    pub fn add_limits(&mut self, settings: &Settings) {
        self.started = Some(StartedFields::new(settings));
    }

    /// Adds the progress to a heartbeat.
    pub fn add_progress(
        &mut self,
        snapshot: &Snapshot,
        window: Option<&OutputWindow>,
        redactor: &Redactor,
    ) {
        self.progress = Some(Progress::new(snapshot, window, redactor));
    }

    /// Adds the result and the failure to a terminal event. Drops parts of the result if the body is too large.
    pub fn add_outcome(&mut self, outcome: &Outcome, redactor: &Redactor) {
        self.result = Some(Box::new(TaskResult::new(&outcome.report, redactor)));
        if let Verdict::Failed(failure) = &outcome.verdict {
            self.failure = Some(Failure::new(failure, redactor));
        }
        self.shrink_to_fit();
    }

    /// The same event without the patch, the prompts and the output; `None` if it has none of them.
    pub fn without_patch_prompts_and_output(&self) -> Option<Self> {
        let mut smaller = self.clone();
        let result = smaller.result.as_mut()?;
        if !result.has_patch_prompts_or_output() {
            return None;
        }
        result.drop_patch_prompts_and_output();
        Some(smaller)
    }

    /// Drops parts of the result until the body is small enough, the least important parts first. The limits of the
    /// parts do not suffice, because one byte of output can take six bytes in JSON.
    fn shrink_to_fit(&mut self) {
        for drop_part in [
            TaskResult::drop_output_of_passed_checks,
            TaskResult::drop_prompts,
            TaskResult::drop_patch,
            TaskResult::drop_patch_prompts_and_output,
            TaskResult::drop_summary_and_shorten_commands,
        ] {
            if self.body().len() <= MAX_BODY_SIZE {
                return;
            }
            self.result.as_deref_mut().map(drop_part);
        }
    }
}

impl Worker {
    fn new(identity: &Identity) -> Self {
        let isolation = identity.isolation.as_ref();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: identity.revision.as_deref().map(one_line),
            hostname: one_line(&identity.hostname),
            agent: identity.agent,
            isolation: isolation.map(|isolation| isolation.kind().word()),
            agent_user: isolation
                .and_then(|isolation| isolation.user.as_ref())
                .map(|user| one_line(&user.name)),
            machine: identity.machine.as_ref().map(|machine| Machine {
                id: machine.id.as_deref().map(one_line),
                app: machine.app.as_deref().map(one_line),
                region: machine.region.as_deref().map(one_line),
                image: machine.image.as_deref().map(one_line),
                memory_mb: machine.memory_mb,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
