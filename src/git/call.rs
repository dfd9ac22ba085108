//! One git command, and the error of a command that failed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::trouble::Trouble;
use super::words::quote;
use crate::environment::Variables;

/// One command.
#[derive(Debug)]
pub struct Call<'a> {
    pub(super) args: Vec<OsString>,
    pub(super) dir: &'a Path,
    pub(super) variables: Variables,
    pub(super) configuration: Vec<(String, String)>,
    pub(super) stdin: Option<File>,
    pub(super) transfer: bool,
    pub(super) shows_progress: bool,
}

/// Why a command failed, in git's own words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("git {command} {how}")]
pub struct GitError {
    pub command: String,
    pub how: String,
    /// The end of git's standard error, redacted, without progress lines.
    pub words: String,
    /// The exit status, if git ended by itself.
    pub code: Option<i32>,
    /// The run was told to stop, and git with it.
    pub stopped: bool,
    /// git printed nothing for too long, or was not done in time.
    pub timed_out: bool,
}

impl GitError {
    /// An operation of the worker around a git command failed.
    pub fn around(command: &str, how: &str, error: &io::Error) -> Self {
        Self {
            command: command.to_owned(),
            how: how.to_owned(),
            words: error.to_string(),
            code: None,
            stopped: false,
            timed_out: false,
        }
    }

    /// What kind of trouble git's words describe.
    pub fn trouble(&self) -> Trouble {
        Trouble::of(&self.words)
    }

    /// The error in one line: what failed, the kind of trouble, and the most telling words of the
    /// remote or of git.
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

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = OsString>) -> Self {
        self.args.extend(args);
        self
    }

    pub fn variables(mut self, variables: &Variables) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    /// Further configuration for this command.
    pub fn configured(mut self, pairs: &[(String, String)]) -> Self {
        self.configuration.extend_from_slice(pairs);
        self
    }

    /// The text that the command reads from standard input.
    pub fn input(mut self, text: &[u8]) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(text)?;
        file.seek(SeekFrom::Start(0))?;
        self.stdin = Some(file);
        Ok(self)
    }

    /// A file that the command reads from its beginning.
    pub fn input_file(mut self, file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        self.stdin = Some(file);
        Ok(self)
    }

    /// The command works on this machine and prints progress lines.
    pub fn shows_progress(mut self) -> Self {
        self.shows_progress = true;
        self
    }

    /// The command talks to the remote: the credential goes with it, and silence ends it.
    pub fn transfer(mut self) -> Self {
        self.transfer = true;
        self
    }
}
