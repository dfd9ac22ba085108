//! The settings of engines.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use secrecy::SecretString;

use super::docker::client::Address;

/// The engines that runs can be placed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// Processes of this machine.
    Local,
    /// Containers of a Docker Engine.
    Docker,
    /// Workers that three command lines start, watch and stop.
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

    /// The word of `--engine`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Command => "command",
            Self::Fly => "fly",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The name of a container image: no character in it may change the path of a request. The error completes a sentence
/// that begins with the text.
pub fn image_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let is_odd = text.is_empty() || text.starts_with(['/', '.']) || text.contains("..");
    if text.chars().all(allowed) && !is_odd {
        Ok(text.to_owned())
    } else {
        Err("is not the name of an image; write it like registry.example/worker:1.0".to_owned())
    }
}

/// One value of `--engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineChoice {
    pub engine: EngineKind,
    /// How many runs may be there at a time; `None` for as many as `--jobs` allows.
    pub limit: Option<usize>,
}

/// The settings of all engines of a dispatch.
#[derive(Debug)]
pub struct Settings {
    /// The preferred engine first.
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
    /// Prints the state of a worker.
    pub look: String,
    /// Ends a worker, and removes everything that is left of it.
    pub stop: String,
    /// The image of the workers, for platforms that need one.
    pub image: Option<String>,
    /// How much of all processors a run may use, in billionths of one, for platforms that can limit it.
    pub nano_cpus: Option<u64>,
}

/// The settings of the engine `docker`.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    pub address: Address,
    /// The image of the workers, whose entrypoint is this program.
    pub image: String,
    /// How much of all processors a container may use, in billionths of one.
    pub nano_cpus: Option<u64>,
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
    pub app: String,
    /// Where machines may be, the preferred region first. Fly chooses one if there is none.
    pub regions: Vec<String>,
    /// The image of the workers, whose entrypoint is this program.
    pub image: String,
    pub cpu_kind: CpuKind,
    /// How many processors a machine has at least, in billionths of one.
    pub nano_cpus: Option<u64>,
    /// How many requests of a kind the API allows in a second.
    pub rate: u32,
    /// Whether the user has set the URL at which workers reach the dispatcher.
    pub has_configured_url: bool,
    /// The address of this machine in the private network, if this is a machine of Fly.
    pub private_ip: Option<IpAddr>,
}

/// The kind of the CPUs of a machine of Fly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuKind {
    Shared,
    Performance,
}

impl CpuKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Performance => "performance",
        }
    }
}

impl EngineChoice {
    /// Whether new runs may be placed here at all.
    pub fn is_open(&self) -> bool {
        self.limit != Some(0)
    }
}

impl Settings {
    /// Whether new runs may be placed on an engine.
    pub fn is_open(&self, engine: EngineKind) -> bool {
        let mut choices = self.choices.iter();
        choices.any(|choice| choice.engine == engine && choice.is_open())
    }

    /// Whether an engine is used, even if no new run may be placed there.
    pub fn uses(&self, engine: EngineKind) -> bool {
        self.choices.iter().any(|choice| choice.engine == engine)
    }

    /// Whether an engine is used whose workers are not processes of this machine.
    pub fn has_remote(&self) -> bool {
        self.choices
            .iter()
            .any(|choice| choice.engine != EngineKind::Local)
    }

    /// How many runs all engines together may have, if every engine has a limit.
    pub fn total_limit(&self) -> Option<usize> {
        self.choices.iter().map(|choice| choice.limit).sum()
    }
}
