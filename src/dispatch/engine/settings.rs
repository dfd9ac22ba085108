//! The settings of engines.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use secrecy::SecretString;

use super::docker::client::Address;
use crate::dispatch::journal::Handle;

/// The engines that can execute runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// Processes of this machine.
    Local,
    /// Containers of a Docker Engine.
    Docker,
    /// Workers on any platform. Three command lines of the user start them, ask for their states, and stop them.
    Command,
    /// Machines of Fly.
    Fly,
}

impl EngineKind {
    pub const ALL: [Self; 4] = [Self::Local, Self::Docker, Self::Command, Self::Fly];

    /// The engine with this name in `--engine`.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The name in `--engine`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Command => "command",
            Self::Fly => "fly",
        }
    }

    /// The engine that executes the run with this handle.
    pub fn of_handle(handle: &Handle) -> Self {
        match handle {
            Handle::Local { .. } => Self::Local,
            Handle::Docker { .. } => Self::Docker,
            Handle::Command { .. } => Self::Command,
            Handle::Fly { .. } => Self::Fly,
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Checks the name of a container image: it becomes a part of the path of requests, so it must not contain characters
/// or components that would change the path. The error completes a sentence that begins with the text.
pub fn parse_image_name(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let is_unsafe = text.is_empty() || text.starts_with(['/', '.']) || text.contains("..");
    if text.chars().all(is_allowed) && !is_unsafe {
        Ok(text.to_owned())
    } else {
        Err("is not the name of an image; write it like registry.example/worker:1.0".to_owned())
    }
}

/// One value of the flag `--engine`, which can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineChoice {
    pub engine: EngineKind,
    /// How many runs the engine may have at a time; `None` if only `--jobs` limits them. 0 means that the engine starts
    /// no new runs, and that the runs of an earlier dispatcher go on there.
    pub limit: Option<usize>,
}

/// The settings of all engines of a dispatch.
#[derive(Debug)]
pub struct Settings {
    /// The engines to use, the preferred one first.
    pub choices: Vec<EngineChoice>,
    /// The settings of the engine `docker`; `None` if it is not used.
    pub docker: Option<DockerSettings>,
    /// The settings of the engine `command`; `None` if it is not used.
    pub command: Option<CommandSettings>,
    /// The settings of the engine `fly`; `None` if it is not used.
    pub fly: Option<FlySettings>,
}

/// The settings of the engine `command`: command lines for a shell.
#[derive(Debug, Clone)]
pub struct CommandSettings {
    /// Starts a worker.
    pub start: String,
    /// Prints the state of a worker: `running`, for example.
    pub look: String,
    /// Ends a worker, and removes it from its platform.
    pub stop: String,
    /// The image of the workers, for platforms that need one.
    pub image: Option<String>,
    /// How many processors a run may use, in billionths of one, for platforms that can limit it.
    pub nano_cpus: Option<u64>,
}

/// The settings of the engine `docker`.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    pub address: Address,
    /// The image of the workers, whose entrypoint is this program.
    pub image: String,
    /// How many processors a container may use, in billionths of one. `None` for no limit.
    pub nano_cpus: Option<u64>,
    /// The name of the Docker network of the containers.
    pub network: String,
    /// Whether the user has set the URL at which workers reach the dispatcher.
    pub has_configured_url: bool,
}

/// The settings of the engine `fly`.
#[derive(Debug, Clone)]
pub struct FlySettings {
    /// The address of the Machines API.
    pub api: Url,
    pub token: SecretString,
    /// The name of the app that the machines belong to.
    pub app: String,
    /// The regions in which machines may be, the preferred one first. If the list is empty, Fly chooses the region.
    pub regions: Vec<String>,
    /// The image of the workers, whose entrypoint is this program.
    pub image: String,
    pub cpu_kind: CpuKind,
    /// How many processors a machine has at least, in billionths of one. `None` for the smallest number.
    pub nano_cpus: Option<u64>,
    /// How many requests the API allows per second, for each kind of requests that it limits.
    pub rate: u32,
    /// Whether the user has set the URL at which workers reach the dispatcher.
    pub has_configured_url: bool,
    /// The address of this machine in the private network, if this is a machine of Fly.
    pub private_ip: Option<IpAddr>,
}

/// How a machine of Fly uses its CPUs: shared with other machines, or alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuKind {
    Shared,
    Performance,
}

impl CpuKind {
    /// The name in the Machines API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Performance => "performance",
        }
    }
}

impl EngineChoice {
    /// Whether new runs may be placed on this engine.
    pub fn accepts_new_runs(&self) -> bool {
        self.limit != Some(0)
    }
}

impl Settings {
    /// Whether the dispatch uses an engine and may place new runs on it.
    pub fn accepts_new_runs(&self, engine: EngineKind) -> bool {
        let mut choices = self.choices.iter();
        choices.any(|choice| choice.engine == engine && choice.accepts_new_runs())
    }

    /// Whether the dispatch uses an engine, even if it may not place new runs on it.
    pub fn uses(&self, engine: EngineKind) -> bool {
        self.choices.iter().any(|choice| choice.engine == engine)
    }

    /// Whether the dispatch uses an engine other than `local`.
    pub fn uses_remote_engine(&self) -> bool {
        self.choices
            .iter()
            .any(|choice| choice.engine != EngineKind::Local)
    }

    /// How many runs all engines together may have at a time; `None` if an engine has no limit.
    pub fn total_limit(&self) -> Option<usize> {
        self.choices.iter().map(|choice| choice.limit).sum()
    }
}
