//! The settings of `dispatch`.

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
use crate::runner::agent;
use crate::runner::project_settings::ProjectSettingsReader;
use crate::telemetry;
use crate::terminal::{Format, JsonLines};

/// The settings of one invocation of `dispatch`.
#[derive(Debug)]
pub struct Settings {
    pub subcommand: Subcommand,
    pub source: Source,
    pub base: Option<String>,
    /// The integration branch, instead of `descartes/<phase>`.
    pub branch: Option<String>,
    /// A branch to move forward when everything is done.
    pub into: Option<String>,
    pub phases: Phases,
    /// The ids of the tasks to work on; all tasks of the phases if the list is empty.
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
    /// The callback URL of workers, if it is not the address that the dispatcher listens on.
    pub url: Option<String>,
    pub state_dir: Option<PathBuf>,
    /// The parent of the default state directories.
    pub state_root: PathBuf,
    pub start_deadline: Duration,
    pub retry_delay: Duration,
    /// The memory limit of a worker in the first attempt, in bytes.
    pub memory: Option<u64>,
    /// The highest memory limit of a worker in any attempt, in bytes.
    pub max_memory: u64,
    pub worker: WorkerSettings,
    /// The agent of the workers, unless the project chooses another one.
    pub agent: AgentOfWorkers,
    /// How to read the settings that the project brings along.
    pub project_settings: ProjectSettingsReader,
    /// Check commands that replace the project's.
    pub checks: Option<Vec<String>>,
    /// The author of merge commits.
    pub git_name: String,
    pub git_email: String,
    pub environment: Variables,
    pub access: Access,
    pub redactor: Redactor,
    pub telemetry: telemetry::Settings,
}

/// The agent of the workers.
#[derive(Debug)]
pub enum AgentOfWorkers {
    Settings(Box<agent::Settings>),
    /// The variables for the workers name an agent that exists.
    Exists,
}

impl Settings {
    /// Prints the journal with `--json`, for a run and for `cancel`, which becomes a dispatcher if none runs. The other
    /// subcommands print only their answer.
    pub fn json_lines(&self) -> JsonLines {
        let format = match self.subcommand {
            Subcommand::Run { .. } | Subcommand::Cancel(None) => self.format,
            _ => Format::Lines,
        };
        JsonLines::new(format, &self.redactor)
    }

    /// Whether workers use the bare repository of this machine or the remote.
    pub fn workers(&self) -> WorkerLocation {
        match self.source {
            Source::Remote(_) if self.engines.uses_remote_engine() => WorkerLocation::Elsewhere,
            _ => WorkerLocation::OnThisMachine,
        }
    }
}

/// The settings that are passed on to every worker.
#[derive(Debug)]
pub struct WorkerSettings {
    /// The worker settings from the command line, as environment variables.
    pub variables: Vec<(&'static str, OsString)>,
    /// The variables of this process that a worker reads.
    pub inherited: Variables,
    pub project_id: Option<String>,
    /// Whether the user has set `DESCARTES_HEARTBEAT`.
    pub has_heartbeat: bool,
    /// The time between a stop signal and a kill.
    pub stop_window: Duration,
}

/// A subcommand of `dispatch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subcommand {
    /// Works through the graph.
    Run {
        earlier_journal: EarlierJournal,
    },
    /// Prints the plan and starts nothing.
    Plan,
    Status,
    Retry(String),
    Skip(String),
    /// Cancels one task, or all.
    Cancel(Option<String>),
}

/// The use of the journal of an earlier dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierJournal {
    /// The dispatch continues from it.
    Continue,
    /// The journal is renamed, and the dispatch begins with an empty one (`--fresh`).
    PutAside,
}

/// The phases of the graph to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phases {
    /// The active phase, or the only one.
    Active,
    Tag(String),
    All,
}
