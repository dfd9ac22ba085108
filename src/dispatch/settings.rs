//! The settings of `dispatch`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::engine;
use super::integration::{Source, WorkerLocation};
use super::verification::VerifyMode;
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
    /// The branch, tag or commit that the integration branch begins at, instead of the project's HEAD.
    pub base: Option<String>,
    /// The integration branch, instead of `descartes/<phase>`.
    pub branch: Option<String>,
    /// A branch to move forward to the integration branch at the end.
    pub into: Option<String>,
    pub phases: Phases,
    /// The ids of the tasks to work on; all tasks of the phases if the list is empty.
    pub only: Vec<String>,
    /// The maximum number of live runs.
    pub jobs: usize,
    pub engines: engine::Settings,
    /// The maximum number of attempts at a task.
    pub attempts: u32,
    /// No new run starts when all runs together have cost this much, in US dollars.
    pub max_budget_usd: Option<f64>,
    /// When the project's checks run on merged work.
    pub verify: VerifyMode,
    /// The format of the output.
    pub format: Format,
    /// Where to write the report at the end.
    pub report: Option<PathBuf>,
    /// The address to listen on for the events of workers.
    pub listen: Option<SocketAddr>,
    /// The callback URL of workers, if it differs from the address that the dispatcher listens on.
    pub callback_url: Option<String>,
    /// The state directory, instead of the default one.
    pub state_dir: Option<PathBuf>,
    /// The parent of the default state directories.
    pub state_root: PathBuf,
    /// How long after its start a run may take to claim its task.
    pub start_deadline: Duration,
    /// The pause before the second attempt at a task.
    pub retry_delay: Duration,
    /// The memory limit of a worker in the first attempt, in bytes.
    pub memory: Option<u64>,
    /// The highest memory limit of a worker in any attempt, in bytes.
    pub max_memory: u64,
    pub worker: WorkerSettings,
    /// The agent of the workers, unless the project chooses another one.
    pub agent: AgentOfWorkers,
    /// Reads the settings in the project's `.descartes.toml`.
    pub project_settings: ProjectSettingsReader,
    /// Check commands that replace the project's.
    pub checks: Option<Vec<String>>,
    /// The name of the author of merge commits.
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
    /// The agent that these settings choose. The preflight looks for it on this machine.
    Settings(Box<agent::Settings>),
    /// The environment of the workers chooses an agent that is known to exist.
    Exists,
}

impl Settings {
    /// Where to print the records of the journal: with `--json` to standard output, and only for subcommands that may
    /// become a dispatcher. The other subcommands print only their answer.
    pub fn json_lines(&self) -> JsonLines {
        let format = match self.subcommand {
            Subcommand::Run { .. } | Subcommand::Cancel(None) => self.format,
            _ => Format::Lines,
        };
        JsonLines::new(format, &self.redactor)
    }

    /// Where the workers run. If all workers run on this machine, they use the bare repository even for a remote
    /// project.
    pub fn worker_location(&self) -> WorkerLocation {
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
    /// The project id for the workers, instead of the name of the project.
    pub project_id: Option<String>,
    /// Whether the user has set `DESCARTES_HEARTBEAT`.
    pub has_heartbeat_interval: bool,
    /// The time that a worker may take after a stop signal before it is killed.
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
    /// Gives a task new attempts. The text is the id of the task, as the user has written it.
    Retry(String),
    Skip(String),
    /// Cancels one task, or all tasks if there is no id.
    Cancel(Option<String>),
}

/// What happens with the journal of an earlier dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierJournal {
    /// The dispatch continues from it.
    Continue,
    /// The journal is renamed, and a new dispatch begins with an empty one (`--fresh`).
    Rename,
}

/// The phases of the graph to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phases {
    /// The active phase, or the only one.
    Active,
    /// The phase with this name.
    Tag(String),
    All,
}
