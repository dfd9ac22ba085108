//! The settings of the callbacks: their URL, their time limits, and the facts about this run that they
//! report.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::credentials;
use crate::isolation::Isolation;
use crate::redact::Redactor;

/// Everything that the callbacks of one run need.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The base URL; `/started` and the other routes are appended to its path.
    pub url: Url,
    /// The longest time that one request may take.
    pub request_timeout: Duration,
    /// How long the claim is repeated until there is a usable answer (`DESCARTES_CLAIM_DEADLINE`).
    pub claim_timeout: Duration,
    /// How long the worker tries to deliver the terminal event (`DESCARTES_FINISH_DEADLINE`).
    pub finish_timeout: Duration,
    /// The time between two heartbeats; `None` turns heartbeats off.
    pub heartbeat_interval: Option<Duration>,
    pub credentials: credentials::Settings,
    /// The header of every callback that names the trace of this run: a validated W3C `traceparent`.
    pub traceparent: Option<HeaderValue>,
    /// A PEM file with private certificate authorities, trusted in addition to the public ones.
    pub authorities: Option<PathBuf>,
    pub identity: Identity,
    pub limits: Limits,
}

/// The worker and the task that the events are about.
#[derive(Debug, Clone)]
pub struct Identity {
    pub task_id: String,
    pub project_id: String,
    pub run_id: String,
    /// The kind of agent, if the settings alone decide it.
    pub agent: Option<&'static str>,
    /// The isolation between the agent and the worker; set as soon as the runner's settings are known.
    pub isolation: Option<Isolation>,
    pub hostname: String,
    /// The git revision that this worker was built from, if its image names one.
    pub revision: Option<String>,
    pub machine: Option<Machine>,
}

impl Identity {
    /// The same identity with secrets masked in the values that come from the platform. The ids of the task,
    /// the project and the run are not masked, because they identify the run.
    pub fn masked(self, redactor: &Redactor) -> Self {
        let optional = |text: Option<String>| text.map(|text| redactor.mask(&text));
        Self {
            hostname: redactor.mask(&self.hostname),
            revision: optional(self.revision),
            machine: self.machine.map(|machine| Machine {
                id: optional(machine.id),
                app: optional(machine.app),
                region: optional(machine.region),
                image: optional(machine.image),
                memory_mb: machine.memory_mb,
            }),
            ..self
        }
    }
}

/// The platform's data about the machine.
#[derive(Debug, Clone)]
pub struct Machine {
    pub id: Option<String>,
    pub app: Option<String>,
    pub region: Option<String>,
    pub image: Option<String>,
    /// In MiB.
    pub memory_mb: Option<u64>,
}

/// The limits of the run, which the claim reports to the orchestrator. This module does not
/// enforce them.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// How long the agent and the checks may take together.
    pub task_timeout: Duration,
    /// `None` if the agent may be silent forever.
    pub idle_timeout: Option<Duration>,
    /// The time between a stop signal and the end of the worker.
    pub stop_window: Duration,
    pub max_turns: Option<u32>,
    pub max_budget_usd: Option<f64>,
    pub max_tokens: Option<u64>,
}
