//! What a person can choose about a dispatch.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::engine;
use super::integration::{Source, WorkerLocation};
use super::verification::Mode;
use crate::environment::Variables;
use crate::git::Access;
use crate::redact::Redactor;
use crate::terminal::Format;

/// What `dispatch` is to do.
#[derive(Debug)]
pub struct Settings {
    pub what: What,
    pub source: Source,
    pub base: Option<String>,
    /// The integration branch, instead of `descartes/<phase>`.
    pub branch: Option<String>,
    /// A branch to move forward when everything is done.
    pub into: Option<String>,
    pub phases: Phases,
    /// Only these tasks, if there are any.
    pub only: Vec<String>,
    pub jobs: usize,
    pub engines: engine::Settings,
    pub attempts: u32,
    pub max_budget_usd: Option<f64>,
    pub verify: Mode,
    pub format: Format,
    /// Where to write the report at the end.
    pub report: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    /// What workers are told to call, if it is not the address that the dispatcher listens on.
    pub url: Option<String>,
    pub state_dir: Option<PathBuf>,
    /// The directory that default state directories are in.
    pub state_root: PathBuf,
    pub start_deadline: Duration,
    pub retry_delay: Duration,
    /// The memory of a worker at its first attempt, in bytes.
    pub memory: Option<u64>,
    /// The most memory of a worker, in bytes.
    pub max_memory: u64,
    pub worker: WorkerSettings,
    /// What the agent needs and does not have.
    pub missing_agent: Option<String>,
    /// The checks that the settings name instead of the project's.
    pub checks: Option<Vec<String>>,
    /// Who commits merges.
    pub git_name: String,
    pub git_email: String,
    pub environment: Variables,
    pub access: Access,
    pub redactor: Redactor,
}

impl Settings {
    /// Which repository workers clone from and push to.
    pub fn workers(&self) -> WorkerLocation {
        match self.source {
            Source::Remote(_) if self.engines.has_remote() => WorkerLocation::Elsewhere,
            _ => WorkerLocation::OnThisMachine,
        }
    }
}

/// What every worker is started with.
#[derive(Debug)]
pub struct WorkerSettings {
    /// The settings that were given as flags, as variables.
    pub variables: Vec<(&'static str, OsString)>,
    /// The variables of this process that a worker reads.
    pub inherited: Variables,
    pub project_id: Option<String>,
    /// Whether the person has set how often workers report.
    pub has_heartbeat: bool,
    /// The time between a stop signal and a kill.
    pub stop_window: Duration,
}

/// A dispatch, or a word with one that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Run {
        fresh: Fresh,
    },
    /// Print the plan and start nothing.
    Plan,
    Status,
    Retry(String),
    Skip(String),
    /// One task, or all.
    Cancel(Option<String>),
}

/// Whether the journal of an earlier dispatch counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fresh {
    GoOn,
    BeginAnew,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phases {
    /// The active phase, or the only one.
    Active,
    Tag(String),
    All,
}
