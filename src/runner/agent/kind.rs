//! The type of a kind of agent, the settings of agents, and the trait that all agents implement.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::environment::{Variables, VariablesFile};
use crate::gateway;
use crate::isolation::{Launch, User};
use crate::model::{ANTHROPIC, Access, Limits, Provider};
use crate::process::{AfterRead, Ending, Program, StartError};
use crate::programs::on_path;
use crate::runner::output::AgentOutput;
use crate::scud::AgentDefinition;
use crate::task::{AgentReport, Failure};

/// A kind of agent.
pub struct Kind {
    /// The name of the kind in the settings and in events.
    pub word: &'static str,
    /// The provider of the only service that agents of this kind use; `None` if they can use any.
    pub(super) only_provider: Option<&'static Provider>,
    /// Whether `auto` considers this kind.
    pub(super) is_candidate: fn(&Settings) -> bool,
    /// Creates an agent.
    pub(super) create: fn(&Settings, Option<&AgentDefinition>) -> NewAgent,
}

/// A new agent; an error if something that it needs is missing.
pub(super) type NewAgent = Result<Box<dyn Agent>, Failure>;

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word)
    }
}

/// The settings of the agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None` selects the kind automatically.
    pub kind: Option<&'static Kind>,
    /// The command line of the kind `command`.
    pub command: Option<String>,
    /// The model that the operator wants; `None` selects the model of the agent definition, or the agent's default.
    pub model: Option<String>,
    /// The limits of turns, dollars and tokens for the whole run.
    pub limits: Limits,
    /// How the agent reaches its model, with the credentials. The checks do not get them.
    pub model_access: Access,
    /// The settings of the model gateway.
    pub gateway: gateway::Settings,
    /// The search path for programs.
    pub path: OsString,
    /// Whether the agent runs as root.
    pub root_status: RootStatus,
    /// How long the agent may print nothing; `None` is unlimited.
    pub idle_timeout: Option<Duration>,
}

/// Whether the agent runs as root, for agents that refuse to do so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootStatus {
    /// The agent runs as another user.
    NotRoot,
    /// The agent runs as root, and `IS_SANDBOX` declares that nothing on this machine needs protection.
    RootInSandbox,
    /// The agent runs as root, and `IS_SANDBOX` is not set.
    Root,
}

/// An agent works on a prompt in a round; each failed check starts another round.
pub trait Agent {
    /// Everything that is known about the agent so far, for the run's report.
    fn report(&self) -> AgentReport;

    /// The program of the next round. The caller adds the prompt: on standard input, and as a file.
    ///
    /// # Errors
    /// If a limit is used up.
    fn program(&mut self, context: ProgramContext<'_>) -> Result<Program, Failure>;

    /// Reads a part of the program's standard output and passes it on to `output`; returns whether the program has
    /// finished its work.
    fn read_output(&mut self, bytes: &[u8], output: &mut AgentOutput<'_>) -> AfterRead;

    /// Decides whether the round succeeded, by the way in which the program ended.
    ///
    /// # Errors
    /// The failure of the round.
    fn judge(&mut self, ending: Result<Ending, StartError>) -> Result<(), Failure>;

    /// The agent's final message, if it marks one as such.
    fn final_message(&self) -> Option<String>;
}

/// The directories, the environment and the credentials for an agent's program.
#[derive(Debug)]
pub struct ProgramContext<'a> {
    /// The workspace.
    pub dir: &'a Path,
    /// A private directory of the run, for files that the agent keeps from one round to the next.
    pub state_dir: PathBuf,
    /// The environment of the program, without the variables that the agent adds.
    pub environment: Variables,
    /// The agent's user, if it is not the worker's.
    pub user: Option<&'a User>,
    /// How the agent is isolated from the worker.
    pub launch: Option<Launch>,
    /// `environment` without the variables of `variables_file`, for the built-in agent.
    pub environment_without_variables_file: Variables,
    /// The file with variables for the agent's commands, if there is one.
    pub variables_file: Option<&'a VariablesFile>,
    /// How the agent reaches its model.
    pub model_access: &'a Access,
}

impl Settings {
    /// The same settings with a key for the Messages API that is not valid, to find out which agent a valid key would
    /// select.
    pub fn with_placeholder_key(&self) -> Self {
        let mut settings = self.clone();
        for service in &mut settings.model_access.services {
            if service.provider == &ANTHROPIC && !service.has_key() {
                service.api_key = Some(SecretString::from(ANTHROPIC.placeholder));
            }
        }
        settings
    }

    /// The path of a program in the search path.
    pub(super) fn find_program(&self, program: &str) -> Option<PathBuf> {
        on_path(&self.path, program)
    }
}

/// The model that the settings name, or else the model of the agent definition. The definition's model counts only if
/// the definition is for one of `harnesses`, because other harnesses have other names for models.
pub(super) fn requested_model(
    settings: &Settings,
    definition: Option<&AgentDefinition>,
    harnesses: &[&str],
) -> Option<String> {
    let defined = || {
        let definition = definition?;
        let model = definition.model.clone()?;
        let is_for_this_agent = definition
            .harness
            .as_deref()
            .is_none_or(|harness| harnesses.contains(&harness));
        if !is_for_this_agent {
            tracing::warn!(
                model,
                harness = definition.harness,
                "the agent definition's model is for another harness, so it is ignored"
            );
        }
        is_for_this_agent.then_some(model)
    };
    settings.model.clone().or_else(defined)
}
