//! The project's own settings: the checks in `.scud/config.toml`, the agents in `.scud/agents/`.
//!
//! The structs that mirror the files are private; they require the keys that SCUD requires and ignore all other keys.
//! This module runs nothing, adds no checks, and does not know SCUD's built-in agents.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::files::{self, FileError};
use super::graph_file::Malformed;
use super::lexer::{SyntaxError, excerpt};
use super::project::Project;
use crate::excerpt::visible;
use crate::task::{Priority, Task};

const CONFIG: &[&str] = &[".scud", "config.toml"];
/// The largest file that is read, in bytes. Settings are written by hand; a prompt template may be long.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// The commands that must pass before work counts as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    pub commands: Vec<String>,
    /// Whether the commands after a failed one are skipped.
    pub stop_on_failure: bool,
    /// The limit for each command.
    pub timeout: Duration,
}

impl Default for Checks {
    /// SCUD's defaults: no commands.
    fn default() -> Self {
        Self {
            commands: Vec::new(),
            stop_on_failure: true,
            timeout: Duration::from_secs(300),
        }
    }
}

impl Checks {
    /// The checks in the text of the file at `path`; no commands if it sets none.
    ///
    /// # Errors
    /// If the text has a mistake, or a command contains a NUL character, which no process can get as an argument.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let config: Config = parse(text, path)?;
        let default = Self::default();
        let Some(set) = config.swarm.and_then(|swarm| swarm.backpressure) else {
            return Ok(default);
        };
        let commands = set.commands.unwrap_or_default();
        if let Some(command) = commands.iter().find(|command| command.contains('\0')) {
            return Err(SettingsError::NulInCheck {
                path: path.to_owned(),
                command: command.clone(),
            });
        }
        Ok(Self {
            commands,
            stop_on_failure: set.stop_on_failure.unwrap_or(default.stop_on_failure),
            timeout: set
                .timeout_secs
                .map_or(default.timeout, Duration::from_secs),
        })
    }
}

/// The definition of an agent that tasks are assigned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentDefinition {
    pub name: String,
    pub description: Option<String>,
    /// The program that runs the agent, as SCUD calls it (`claude`, `opencode`, …); SCUD's default is `rho`.
    pub harness: Option<String>,
    pub model: Option<String>,
    /// The prompt with placeholders, from the definition or from the template file that the definition names.
    pub template: Option<String>,
}

/// Why the project's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    File(FileError),
    #[error(transparent)]
    Malformed(Malformed),
    #[error("the check `{}` in {} contains a NUL character; remove it", visible(command), path.display())]
    NulInCheck { path: PathBuf, command: String },
    #[error("{} is not a valid name for an agent definition", excerpt(name))]
    AgentName { name: String },
    #[error("{}: the template file {} is not below .scud/agents", path.display(), excerpt(template))]
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

/// Every key may be missing: about half of the files in public projects set other keys, but no `commands`.
#[derive(Deserialize)]
struct Backpressure {
    #[serde(default, deserialize_with = "commands")]
    commands: Option<Vec<String>>,
    #[serde(default, deserialize_with = "stop_on_failure")]
    stop_on_failure: Option<bool>,
    #[serde(default, deserialize_with = "timeout_secs")]
    timeout_secs: Option<u64>,
}

/// A value of the right type, or of any other type.
#[derive(Deserialize)]
#[serde(untagged)]
enum Typed<T> {
    Right(T),
    Wrong(IgnoredAny),
}

/// Reads a value; a value of another type is an error with this message.
fn typed<'de, T, D>(from: D, message: &str) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    match Typed::deserialize(from)? {
        Typed::Right(value) => Ok(Some(value)),
        Typed::Wrong(_) => Err(D::Error::custom(message)),
    }
}

fn commands<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    typed(
        from,
        "`commands` must be a list of strings, for example commands = [\"cargo test\"]",
    )
}

fn stop_on_failure<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    typed(from, "`stop_on_failure` must be true or false")
}

fn timeout_secs<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    typed(
        from,
        "`timeout_secs` must be a whole number of seconds, for example timeout_secs = 300",
    )
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
    /// The project's own checks; no commands if the project sets none.
    pub fn checks(&self) -> Result<Checks, SettingsError> {
        match self.text_of(CONFIG, MAX_FILE_SIZE)? {
            Some(text) => Checks::parse(&text, &self.path(CONFIG)),
            None => Ok(Checks::default()),
        }
    }

    /// The definition of the agent that the graph calls `name`, if the project has one.
    pub fn agent(&self, name: &str) -> Result<Option<AgentDefinition>, SettingsError> {
        // The graph is untrusted: this name becomes part of a path, so it must be a plain file name.
        let forbidden = |c: char| c == '/' || c == '\\' || c.is_control();
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || name.contains(forbidden)
        {
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
        // If a definition has both, SCUD uses the template.
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

    /// Reads the template file that a definition names.
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
        self.text(&components, MAX_FILE_SIZE)
    }

    /// The text of a file with settings; `None` if there is no such file.
    pub fn text_of(
        &self,
        components: &[&str],
        limit: u64,
    ) -> Result<Option<String>, SettingsError> {
        match self.text(components, limit) {
            Ok(text) => Ok(Some(text)),
            Err(SettingsError::File(FileError::Missing { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn settings<T: DeserializeOwned>(
        &self,
        components: &[&str],
    ) -> Result<Option<T>, SettingsError> {
        let text = self.text_of(components, MAX_FILE_SIZE)?;
        text.map(|text| parse(&text, &self.path(components)))
            .transpose()
    }

    fn text(&self, components: &[&str], limit: u64) -> Result<String, SettingsError> {
        let path = self.path(components);
        let bytes = files::open(&self.root, components, files::Access::Read)
            .and_then(|file| files::read(&file, &path, limit))
            .map_err(SettingsError::File)?;
        String::from_utf8(bytes).map_err(|error| {
            SettingsError::File(FileError::NotReadable {
                path,
                source: io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
            })
        })
    }
}

/// Reads the text of the file at `path`.
fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, SettingsError> {
    toml::from_str(text).map_err(|error| {
        let begin = error.span().map_or(0, |span| span.start);
        let line = 1 + text
            .bytes()
            .take(begin)
            .filter(|byte| *byte == b'\n')
            .count();
        let message = error.message().to_owned();
        SettingsError::Malformed(Malformed::new(path, SyntaxError { line, message }))
    })
}

impl SettingsError {
    /// Whether the files themselves are wrong, so that another attempt would fail in the same way.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::File(error) => error.is_permanent(),
            Self::Malformed(_)
            | Self::NulInCheck { .. }
            | Self::AgentName { .. }
            | Self::TemplatePath { .. } => true,
        }
    }
}

/// The largest prompt, in bytes: no model reads more, and a template can repeat a large description
/// thousands of times.
pub const MAX_PROMPT_SIZE: usize = 8 * 1024 * 1024;

impl AgentDefinition {
    /// The agent's own prompt for a task, if it has one. The text of the task is not expanded again, and
    /// braces that are not a placeholder of SCUD stay as they are.
    pub fn render(&self, task: &Task) -> Option<String> {
        let template = self.template.as_deref()?;
        let mut prompt = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(brace) = rest.find('{') {
            // The caller reports a prompt that is too large.
            if prompt.len() > MAX_PROMPT_SIZE {
                return Some(prompt);
            }
            prompt.push_str(&rest[..brace]);
            rest = &rest[brace..];
            let placeholder = PLACEHOLDERS.iter().find(|(name, _)| rest.starts_with(name));
            if let Some((name, value)) = placeholder {
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

/// The placeholders of SCUD's templates. A missing field becomes an empty text, as in SCUD.
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

/// SCUD's templates write the priorities with a capital letter.
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
