//! The project's own settings: the checks of `.scud/config.toml`, the agents of `.scud/agents/`.
//!
//! The wire structs are private and hold what SCUD requires, no more: other keys are other programs' business.
//! It runs nothing, guesses no checks where none are set, and knows none of SCUD's built-in agents.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::lexer::{Flaw, excerpt};
use super::{FileError, Malformed, Project, files};
use crate::task::{Priority, Task};

const CONFIG: &[&str] = &[".scud", "config.toml"];
/// Settings are written by hand; a prompt template may be long.
const LIMIT: u64 = 1 << 20;

/// The commands that must pass before work counts as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    pub commands: Vec<String>,
    /// Whether the first failure makes the rest pointless.
    pub stop_on_failure: bool,
    /// For each command.
    pub timeout: Duration,
}

impl Default for Checks {
    /// SCUD's defaults: nothing to run.
    fn default() -> Self {
        Self {
            commands: Vec::new(),
            stop_on_failure: stop_on_failure(),
            timeout: Duration::from_secs(timeout_secs()),
        }
    }
}

/// An agent that tasks are assigned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentDefinition {
    pub name: String,
    pub description: Option<String>,
    /// The program that runs the agent, as SCUD calls it (`claude`, `opencode`, …); SCUD's default is `rho`.
    pub harness: Option<String>,
    pub model: Option<String>,
    /// The prompt with placeholders, whether it stood in the definition or in a file that it names.
    pub template: Option<String>,
}

/// Why the project's settings cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    File(FileError),
    #[error(transparent)]
    Malformed(Malformed),
    #[error("{} is no name of an agent", excerpt(name))]
    AgentName { name: String },
    #[error("{} names the template {}, which is not below its directory", path.display(), excerpt(template))]
    TemplatePath { path: PathBuf, template: String },
}

#[derive(Deserialize)]
struct Config {
    swarm: Option<Swarm>,
}

#[derive(Deserialize)]
struct Swarm {
    backpressure: Option<Backpressure>,
}

#[derive(Deserialize)]
struct Backpressure {
    commands: Vec<String>,
    #[serde(default = "stop_on_failure")]
    stop_on_failure: bool,
    #[serde(default = "timeout_secs")]
    timeout_secs: u64,
}

fn stop_on_failure() -> bool {
    true
}

fn timeout_secs() -> u64 {
    300
}

#[derive(Deserialize)]
struct Definition {
    agent: Agent,
    model: Model,
    #[serde(default)]
    prompt: Prompt,
}

#[derive(Deserialize)]
struct Agent {
    name: String,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Model {
    harness: Option<String>,
    model: Option<String>,
}

#[derive(Deserialize, Default)]
struct Prompt {
    template: Option<String>,
    template_file: Option<String>,
}

impl Project {
    /// The project's own checks; none where it sets none.
    pub fn checks(&self) -> Result<Checks, SettingsError> {
        let config: Option<Config> = self.settings(CONFIG)?;
        let set = config.and_then(|config| config.swarm?.backpressure);
        Ok(set.map_or_else(Checks::default, |set| Checks {
            commands: set.commands,
            stop_on_failure: set.stop_on_failure,
            timeout: Duration::from_secs(set.timeout_secs),
        }))
    }

    /// The agent that the graph calls `name`, if the project defines it.
    pub fn agent(&self, name: &str) -> Result<Option<AgentDefinition>, SettingsError> {
        // The graph is anybody's writing: its words become part of a path only if they stay one name.
        let odd = |c: char| c == '/' || c == '\\' || c.is_control();
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || name.contains(odd) {
            return Err(SettingsError::AgentName {
                name: name.to_owned(),
            });
        }
        let file = format!("{name}.toml");
        let components = [".scud", "agents", &file];
        let Some(definition) = self.settings::<Definition>(&components)? else {
            return Ok(None);
        };
        let Prompt {
            template,
            template_file,
        } = definition.prompt;
        // Without this order a definition that has both would mean something else to SCUD.
        let template = match (template, template_file) {
            (Some(template), _) => Some(template),
            (None, Some(file)) => Some(self.template(&self.path(&components), &file)?),
            (None, None) => None,
        };
        Ok(Some(AgentDefinition {
            name: definition.agent.name,
            description: definition.agent.description,
            harness: definition.model.harness,
            model: definition.model.model,
            template,
        }))
    }

    fn template(&self, definition: &Path, file: &str) -> Result<String, SettingsError> {
        let mut components = vec![".scud", "agents"];
        components.extend(
            file.split('/')
                .filter(|part| !part.is_empty() && *part != "."),
        );
        if file.starts_with('/') || components[2..].contains(&"..") || components.len() == 2 {
            return Err(SettingsError::TemplatePath {
                path: definition.to_owned(),
                template: file.to_owned(),
            });
        }
        self.text(&components)
    }

    fn settings<T: DeserializeOwned>(&self, at: &[&str]) -> Result<Option<T>, SettingsError> {
        let text = match self.text(at) {
            Ok(text) => text,
            Err(SettingsError::File(FileError::Missing { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        toml::from_str(&text).map(Some).map_err(|error| {
            let begin = error.span().map_or(0, |span| span.start);
            let line = 1 + text
                .bytes()
                .take(begin)
                .filter(|byte| *byte == b'\n')
                .count();
            let what = error.message().to_owned();
            SettingsError::Malformed(Malformed::new(&self.path(at), Flaw { line, what }))
        })
    }

    fn text(&self, at: &[&str]) -> Result<String, SettingsError> {
        let path = self.path(at);
        let bytes = files::open(&self.root, at, files::Access::Read)
            .and_then(|file| files::read(&file, &path, LIMIT))
            .map_err(SettingsError::File)?;
        String::from_utf8(bytes).map_err(|error| {
            SettingsError::File(FileError::Unreadable {
                path,
                source: io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
            })
        })
    }
}

impl AgentDefinition {
    /// The agent's own prompt for a task, if it has one. One pass: what a task says is never expanded again,
    /// and braces that mean nothing to SCUD stay as they are.
    pub fn render(&self, task: &Task) -> Option<String> {
        let template = self.template.as_deref()?;
        let mut prompt = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(brace) = rest.find('{') {
            prompt.push_str(&rest[..brace]);
            rest = &rest[brace..];
            let known = PLACEHOLDERS.iter().find(|(name, _)| rest.starts_with(name));
            if let Some((name, value)) = known {
                prompt.push_str(&value(task));
                rest = &rest[name.len()..];
            } else {
                prompt.push('{');
                rest = &rest[1..];
            }
        }
        prompt.push_str(rest);
        Some(prompt)
    }
}

type Value = fn(&Task) -> String;

/// What SCUD's templates know; what the task does not say is empty there, too.
const PLACEHOLDERS: &[(&str, Value)] = &[
    ("{task.id}", |task| task.id.clone()),
    ("{task.title}", |task| task.title.clone()),
    ("{task.description}", |task| {
        or_empty(task.description.as_ref())
    }),
    ("{task.details}", |task| or_empty(task.details.as_ref())),
    ("{task.test_strategy}", |task| {
        or_empty(task.test_strategy.as_ref())
    }),
    ("{task.complexity}", |task| task.complexity.to_string()),
    ("{task.priority}", |task| {
        capitalized(task.priority).to_owned()
    }),
    ("{task.dependencies}", |task| {
        let ids: Vec<_> = task
            .dependencies
            .iter()
            .map(|one| one.id.as_str())
            .collect();
        ids.join(", ")
    }),
    ("{tag}", |task| task.phase.clone()),
];

fn or_empty(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

/// SCUD's templates know the priorities with a capital.
fn capitalized(priority: Priority) -> &'static str {
    match priority {
        Priority::Critical => "Critical",
        Priority::High => "High",
        Priority::Medium => "Medium",
        Priority::Low => "Low",
    }
}

#[cfg(test)]
mod tests;
