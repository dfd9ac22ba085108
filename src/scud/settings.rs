//! The project's own settings: reads their files, and finds the checks in `.scud/config.toml`.
//!
//! The private structs for the content of the files require the keys that SCUD requires, and ignore all other keys.
//! This module runs nothing, and adds no checks.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::files::{self, FileError};
use super::graph_file::Malformed;
use super::lexer::{SyntaxError, quote};
use super::project::Project;
use crate::excerpt::visible;

/// The components of the path of the file with the checks.
const CONFIG_COMPONENTS: &[&str] = &[".scud", "config.toml"];
/// The largest file that is read, in bytes. Settings are written by hand, but a prompt template may be long.
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
        let Some(backpressure) = config.swarm.and_then(|swarm| swarm.backpressure) else {
            return Ok(default);
        };
        let commands = backpressure.commands.unwrap_or_default();
        if let Some(command) = commands.iter().find(|command| command.contains('\0')) {
            return Err(SettingsError::NulInCheck {
                path: path.to_owned(),
                command: command.clone(),
            });
        }
        Ok(Self {
            commands,
            stop_on_failure: backpressure
                .stop_on_failure
                .unwrap_or(default.stop_on_failure),
            timeout: backpressure
                .timeout_secs
                .map_or(default.timeout, Duration::from_secs),
        })
    }
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
    #[error("{} is not a valid name for an agent definition", quote(name))]
    AgentName { name: String },
    #[error("{}: the template file {} is not below .scud/agents", path.display(), quote(template))]
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

/// A value of the expected type, or of any other type.
#[derive(Deserialize)]
#[serde(untagged)]
enum Typed<T> {
    Right(T),
    Wrong(IgnoredAny),
}

/// Reads a value; a value of another type is an error with this message.
fn read_typed<'de, T, D>(from: D, message: &str) -> Result<Option<T>, D::Error>
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
    read_typed(
        from,
        "`commands` must be a list of strings, for example commands = [\"cargo test\"]",
    )
}

fn stop_on_failure<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    read_typed(from, "`stop_on_failure` must be true or false")
}

fn timeout_secs<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    read_typed(
        from,
        "`timeout_secs` must be a whole number of seconds, for example timeout_secs = 300",
    )
}

impl Project {
    /// The project's own checks; no commands if the project sets none.
    pub fn checks(&self) -> Result<Checks, SettingsError> {
        match self.read_optional_text(CONFIG_COMPONENTS, MAX_FILE_SIZE)? {
            Some(text) => Checks::parse(&text, &self.path(CONFIG_COMPONENTS)),
            None => Ok(Checks::default()),
        }
    }

    /// The text of a file with settings; `None` if there is no such file.
    pub fn read_optional_text(
        &self,
        components: &[&str],
        limit: u64,
    ) -> Result<Option<String>, SettingsError> {
        match self.read_text(components, limit) {
            Ok(text) => Ok(Some(text)),
            Err(SettingsError::File(FileError::Missing { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The text of a file.
    pub(super) fn read_text(
        &self,
        components: &[&str],
        limit: u64,
    ) -> Result<String, SettingsError> {
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
pub(super) fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, SettingsError> {
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

#[cfg(test)]
mod tests;
