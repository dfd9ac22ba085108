//! One git command, and the error of a command that failed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use super::trouble::Trouble;
use super::unnamed_file::UnnamedFile;
use super::words::quote;
use crate::environment::Variables;

/// One git command.
#[derive(Debug)]
pub struct Call<'a> {
    pub(super) args: Vec<OsString>,
    pub(super) dir: &'a Path,
    pub(super) variables: Variables,
    pub(super) configuration: Vec<(String, String)>,
    pub(super) stdin: Option<File>,
    /// Whether the command contacts the remote: see [`Call::transfer`].
    pub(super) transfer: bool,
    /// Whether the command is local and prints progress lines.
    pub(super) shows_progress: bool,
}

/// The failure of a command.
#[derive(Debug, Clone, thiserror::Error)]
#[error("git {command} {how}")]
pub struct GitError {
    /// The name of the git command, such as `fetch`.
    pub command: String,
    /// The end of a sentence about the command, such as "made no progress for 1m".
    pub how: String,
    /// The end of git's standard error, redacted, without progress lines. If the worker could not start git, the
    /// system's error message.
    pub words: String,
    /// The exit status, if git ended by itself.
    pub code: Option<i32>,
    /// Whether the worker ended git because of a stop signal or a cancellation.
    pub stopped: bool,
    /// Whether the worker ended git because git made no progress for too long, or reached its time limit.
    pub timed_out: bool,
}

/// The result of a command that exited by itself.
#[derive(Debug)]
pub struct Finished {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub output: Vec<u8>,
    pub(super) error: GitError,
}

impl Finished {
    /// The output, if the exit code is 0.
    pub fn success(self) -> Result<Vec<u8>, GitError> {
        if self.code == 0 {
            Ok(self.output)
        } else {
            Err(self.error)
        }
    }
}

/// The system's error message without its number in parentheses. [`Trouble`] must not take "Permission denied (os
/// error 13)" for ssh's message "Permission denied (publickey)", which is about credentials.
pub(super) fn words_of(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error ").unwrap_or(text.len());
    text[..end].to_owned()
}

impl GitError {
    /// The failure of an operation that the worker does before or after a git command.
    pub fn from_io(command: &str, how: &str, error: &io::Error) -> Self {
        Self {
            command: command.to_owned(),
            how: how.to_owned(),
            words: words_of(error),
            code: None,
            stopped: false,
            timed_out: false,
        }
    }

    /// The kind of trouble, according to git's error output.
    pub fn trouble(&self) -> Trouble {
        Trouble::of(&self.words)
    }

    /// The error in one line: the command, the kind of trouble, and a quote from the remote or from git.
    pub fn summary(&self) -> String {
        let quote = quote(&self.words, |line| Trouble::of(line) != Trouble::Transient);
        let phrase = self.trouble().phrase().map(str::to_owned);
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
            transfer: false,
            shows_progress: false,
        }
    }

    /// The name of the command, for messages.
    pub(super) fn name(&self) -> String {
        let mut words = self.args.iter();
        let name = words.find(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
        name.map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Appends an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Appends arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = OsString>) -> Self {
        self.args.extend(args);
        self
    }

    /// Adds environment variables.
    pub fn variables(mut self, variables: &Variables) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    /// Adds configuration for this command, as keys and values.
    pub fn configured(mut self, pairs: &[(String, String)]) -> Self {
        self.configuration.extend_from_slice(pairs);
        self
    }

    /// Gives the command a text as standard input.
    pub fn input(mut self, text: &[u8]) -> io::Result<Self> {
        let mut file = UnnamedFile::new();
        file.write_all(text)?;
        self.stdin = Some(file.into_file()?);
        Ok(self)
    }

    /// Gives the command a file as standard input, from its beginning.
    pub fn input_file(mut self, file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        self.stdin = Some(file);
        Ok(self)
    }

    /// Marks a local command that prints progress lines.
    pub fn shows_progress(mut self) -> Self {
        self.shows_progress = true;
        self
    }

    /// Marks a command that contacts the remote: it gets the credential, and ends if it makes no progress.
    pub fn transfer(mut self) -> Self {
        self.transfer = true;
        self
    }
}
