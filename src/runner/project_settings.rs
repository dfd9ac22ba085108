//! The settings in a project's `.descartes.toml`.
//!
//! Such a setting applies if neither a flag nor a variable sets the same thing. `config` knows the keys of the file,
//! and `project_file` reads the file.

use std::time::Duration;

use serde::Serialize;

use super::agent;
use crate::gateway::services_behind_gateway;

/// The values in a project's file that apply to a run: `None` for a setting that the file does not have, or that a flag
/// or a variable sets.
#[derive(Debug, Clone, Default)]
pub struct ProjectSettings {
    /// The kind of agent.
    pub agent: Option<&'static agent::Kind>,
    /// The command line of an agent of the kind `command`.
    pub agent_command: Option<String>,
    pub model: Option<String>,
    pub max_turns: Option<u32>,
    pub max_budget_usd: Option<f64>,
    pub max_tokens: Option<u64>,
    pub task_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub checks: Option<Vec<String>>,
    /// How often a failed check starts another round of the agent.
    pub repairs: Option<u32>,
    /// The directory of a sample project, relative to the file's directory.
    pub sample: Option<String>,
    /// The settings that apply, with their lines in the file, for messages.
    pub sources: Vec<FileSource>,
}

/// A setting of the file and its line.
#[derive(Debug, Clone, Serialize)]
pub struct FileSource {
    /// The name of the variable that would set the same.
    pub variable: &'static str,
    /// The value as a variable would have it.
    pub value: String,
    pub line: usize,
}

/// Turns the text of the file into settings. All mistakes are found at once.
#[derive(Debug, Clone)]
pub struct ProjectSettingsReader {
    /// Reads a text. The second argument is `already_set`; the errors are all mistakes in the text.
    pub read: fn(&str, &[&'static str]) -> Result<ProjectSettings, Vec<String>>,
    /// The names of the variables whose settings a flag or a variable has set, so that the file cannot change them.
    pub already_set: Vec<&'static str>,
}

impl ProjectSettingsReader {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// All mistakes in the text, as one sentence.
    pub fn read(&self, text: &str) -> Result<ProjectSettings, String> {
        (self.read)(text, &self.already_set).map_err(|mistakes| mistakes.join("; "))
    }
}

impl agent::Settings {
    /// These settings, changed by the project's settings.
    pub fn with_project_settings(&self, project: &ProjectSettings) -> Self {
        let mut settings = self.clone();
        settings.kind = project.agent.or(settings.kind);
        if project.agent_command.is_some() {
            settings.command.clone_from(&project.agent_command);
        }
        let is_command = settings.kind.is_none_or(|kind| kind.word == agent::COMMAND);
        if project.agent_command.is_some() && is_command {
            // The project's author must not get a key that only the operator's agents should have. The gateway keeps
            // its keys from every agent.
            let behind_gateway = services_behind_gateway(&self.model_access, self.gateway.mode);
            settings.model_access.services = behind_gateway.into_iter().cloned().collect();
            settings.model_access.oauth_token = None;
        }
        if project.model.is_some() {
            settings.model.clone_from(&project.model);
        }
        let limits = &mut settings.limits;
        limits.turns = project.max_turns.or(limits.turns);
        limits.usd = project.max_budget_usd.or(limits.usd);
        limits.tokens = project.max_tokens.or(limits.tokens);
        if project.idle_timeout.is_some() {
            settings.idle_timeout = project.idle_timeout;
        }
        settings
    }
}
