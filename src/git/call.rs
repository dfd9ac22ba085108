//! One call of git, and the error of a call that failed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use super::error_kind::GitErrorKind;
use super::error_output::most_useful_lines;
use super::unnamed_file::UnnamedFile;
use crate::environment::Variables;

/// One call of git: a command such as `fetch`, with its arguments, directory, variables, configuration and input.
#[derive(Debug)]
pub struct Call<'a> {
    pub(super) args: Vec<OsString>,
    pub(super) dir: &'a Path,
    pub(super) variables: Variables,
    pub(super) configuration: Vec<(String, String)>,
    pub(super) stdin: Option<File>,
    /// Set by [`Call::contacts_remote`].
    pub(super) contacts_remote: bool,
    /// Set by [`Call::shows_progress`].
    pub(super) shows_progress: bool,
}

/// The failure of a call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("git {command} {failure}")]
pub struct GitError {
    /// The name of the git command, such as `fetch`.
    pub command: String,
    /// What happened, as the end of a sentence about the command, such as "made no progress for 1m".
    pub failure: String,
    /// The end of git's standard error, redacted, without progress lines. If the worker could not start git, the
    /// reason.
    pub messages: String,
    /// The exit code, if git exited by itself.
    pub exit_code: Option<i32>,
    /// Whether the worker ended git because of a stop signal or a cancellation.
    pub was_stopped: bool,
}

/// The result of a call in which git exited by itself.
#[derive(Debug)]
pub struct GitOutput {
    pub exit_code: i32,
    pub stdout: Vec<u8>,
    /// The error to report if the caller does not expect this exit code.
    pub(super) error: GitError,
}

impl GitOutput {
    /// Standard output. Every exit code except 0 is an error.
    pub fn require_success(self) -> Result<Vec<u8>, GitError> {
        if self.exit_code == 0 {
            Ok(self.stdout)
        } else {
            Err(self.error)
        }
    }
}

/// The system's error message without " (os error 13)". Otherwise [`GitErrorKind::of`] would take "Permission denied
/// (os error 13)" for ssh's message "Permission denied (publickey)", which is about credentials.
pub(super) fn message_without_number(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error ").unwrap_or(text.len());
    text[..end].to_owned()
}

impl GitError {
    /// The failure of an operation that the worker does before or after a call of git. `failure` is the end of a
    /// sentence about the command.
    pub fn from_io(command: &str, failure: &str, error: &io::Error) -> Self {
        Self {
            command: command.to_owned(),
            failure: failure.to_owned(),
            messages: message_without_number(error),
            exit_code: None,
            was_stopped: false,
        }
    }

    /// The kind of error that the messages describe.
    pub fn kind(&self) -> GitErrorKind {
        GitErrorKind::of(&self.messages)
    }

    /// The error in one line: the command and its failure, the kind of error, and a message of the remote or of git.
    pub fn summary(&self) -> String {
        let quote = most_useful_lines(&self.messages, |line| {
            GitErrorKind::of(line) != GitErrorKind::Transient
        });
        let phrase = self.kind().phrase().map(str::to_owned);
        let parts = [Some(self.to_string()), phrase, Some(quote)];
        let parts: Vec<String> = parts
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        parts.join(": ")
    }
}

impl<'a> Call<'a> {
    /// A call of git with these arguments in the directory `dir`.
    pub fn new(dir: &'a Path, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self {
            args,
            dir,
            variables: Vec::new(),
            configuration: Vec::new(),
            stdin: None,
            contacts_remote: false,
            shows_progress: false,
        }
    }

    /// The name of the command, such as `fetch`, for messages: the first argument that is not an option.
    pub(super) fn name(&self) -> String {
        let mut args = self.args.iter();
        let name = args.find(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
        name.map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = OsString>) -> Self {
        self.args.extend(args);
        self
    }

    /// Adds environment variables.
    pub fn variables(mut self, variables: &Variables) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    /// Adds configuration for this call, as keys and values.
    pub fn configuration(mut self, pairs: &[(String, String)]) -> Self {
        self.configuration.extend_from_slice(pairs);
        self
    }

    /// Gives git a text as standard input.
    pub fn input(mut self, text: &[u8]) -> io::Result<Self> {
        let mut file = UnnamedFile::new();
        file.write_all(text)?;
        self.stdin = Some(file.into_file()?);
        Ok(self)
    }

    /// Gives git a file as standard input, from its beginning.
    pub fn input_file(mut self, file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        self.stdin = Some(file);
        Ok(self)
    }

    /// Marks a local call that prints progress lines on standard error.
    pub fn shows_progress(mut self) -> Self {
        self.shows_progress = true;
        self
    }

    /// Marks a call that contacts the remote. git gets the credential, and is ended if it makes no progress during the
    /// idle timeout.
    pub fn contacts_remote(mut self) -> Self {
        self.contacts_remote = true;
        self
    }
}
