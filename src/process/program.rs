//! A program to start, its limits, and the errors of starting it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::descriptors::Inherited;
use crate::environment::Variables;
use crate::isolation::Launch;

/// A program to start.
#[derive(Debug)]
pub struct Program {
    pub program: OsString,
    pub args: Vec<OsString>,
    /// The working directory; it must exist.
    pub dir: PathBuf,
    /// The whole environment: nothing is inherited.
    pub env: Variables,
    /// Standard input; empty if this is `None`. A file and not a pipe, because writing to a pipe
    /// blocks while the program does not read.
    pub stdin: Option<File>,
    /// The destination of standard error.
    pub stderr: Stderr,
    /// Descriptors that the program inherits in addition to its standard streams.
    pub inherited: Option<Inherited>,
    /// How the program is isolated from the worker; `None` for the worker's own programs.
    pub launch: Option<Launch>,
}

/// The destination of standard error.
#[derive(Debug)]
pub enum Stderr {
    /// Into the same pipe as standard output, so that the order of both stays exact.
    WithStdout,
    /// Into a separate pipe, so that it cannot break the lines of a protocol.
    Separate,
    /// Into a separate pipe, and its bytes do not count as activity: a program that prints only errors counts as idle.
    SeparateWithoutActivity,
}

impl Program {
    /// A command line that `sh -c` runs.
    pub fn shell(command: &str, dir: PathBuf, env: Variables, launch: Option<Launch>) -> Self {
        let args = vec!["-c".into(), command.into()];
        Self {
            program: "/bin/sh".into(),
            args,
            dir,
            env,
            stdin: None,
            stderr: Stderr::WithStdout,
            inherited: None,
            launch,
        }
    }
}

/// How long a program may run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest run time, by the wall clock.
    pub run_time: Duration,
    /// The longest time without activity; `None` is unlimited.
    pub idle_timeout: Option<Duration>,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the program {program} does not exist")]
    NotFound { program: String },
    #[error("the program {program} is not executable")]
    NotExecutable { program: String },
    #[error("cannot use the working directory {dir}")]
    Directory { dir: String, source: io::Error },
    #[error("cannot start {program}")]
    Other { program: String, source: io::Error },
}

impl StartError {
    /// The error if executing `program` failed with `source`.
    pub(super) fn of(program: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { program },
            io::ErrorKind::PermissionDenied => Self::NotExecutable { program },
            _ => Self::Other { program, source },
        }
    }
}
