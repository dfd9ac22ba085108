//! The agents: each one builds a command and judges how it ended.
//!
//! An agent knows no signals and spawns nothing by itself; `process` does both. A further kind is
//! one file beside `command.rs` and one line in [`choose`].

mod command;

use std::path::Path;

use super::Variables;
use super::process::{Ending, Program, StartError};
use crate::scud::AgentDefinition;
use crate::task::{AgentReport, Failure, Reason};

/// What the settings say about the agent.
#[derive(Debug, Clone)]
pub struct Settings {
    pub choice: Choice,
    pub command: Option<String>,
    pub model: Option<String>,
    /// What it needs to reach its model; the checks don't get these.
    pub variables: Variables,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// A command if one is given.
    Auto,
    Command,
}

/// Something that can be set to work on a prompt.
pub trait Agent {
    /// What is known of it before it has run.
    fn report(&self) -> AgentReport;

    /// What to start. The prompt is added by the caller: on stdin, and as a file.
    fn program(&self, dir: &Path, environment: Variables) -> Program;

    /// What its end means.
    fn judge(&self, ending: Result<Ending, StartError>) -> (AgentReport, Result<(), Failure>);
}

/// The agent that the settings and the agent definition ask for.
pub fn choose(
    settings: &Settings,
    definition: Option<&AgentDefinition>,
) -> Result<Box<dyn Agent>, Failure> {
    let defined = definition.and_then(|definition| definition.model.clone());
    let model = settings.model.clone().or(defined);
    match (settings.choice, &settings.command) {
        (Choice::Auto | Choice::Command, Some(command)) => Ok(Box::new(command::Shell::new(
            command.clone(),
            model,
            settings.variables.clone(),
        ))),
        (Choice::Auto | Choice::Command, None) => Err(Failure::new(
            Reason::AgentNotFound,
            "there is no agent to run: set DESCARTES_AGENT_COMMAND to the command that starts one",
        )),
    }
}
