//! What to start and with which limits, and why it could not be started.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::environment::Variables;

/// What to start.
#[derive(Debug)]
pub struct Program {
    pub program: OsString,
    pub args: Vec<OsString>,
    /// The working directory; it must exist.
    pub dir: PathBuf,
    /// The whole environment: nothing is inherited.
    pub env: Variables,
    /// What it reads from standard input; nothing where this is `None`. A file and not a pipe,
    /// so that nobody has to write while it does not read.
    pub stdin: Option<File>,
    pub stderr: Stderr,
}

/// Where standard error goes.
#[derive(Debug)]
pub enum Stderr {
    /// Into the same pipe as standard output, which keeps their order exactly.
    WithStdout,
    /// Into a pipe of its own, so that it cannot break the lines of a protocol.
    Apart,
    File(File),
}

impl Program {
    /// A command line for `sh -c`.
    pub fn shell(command: &str, dir: PathBuf, env: Variables) -> Self {
        let args = vec!["-c".into(), command.into()];
        Self {
            program: "/bin/sh".into(),
            args,
            dir,
            env,
            stdin: None,
            stderr: Stderr::WithStdout,
        }
    }
}

/// How long it may go on.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Wall clock.
    pub wall: Duration,
    /// Without any output; `None` where silence is no sign.
    pub idle: Option<Duration>,
}

/// Why it could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{program} is not there")]
    NotFound { program: String },
    #[error("{program} is not executable")]
    NotExecutable { program: String },
    #[error("the directory {dir} cannot be worked in")]
    Directory { dir: String, source: io::Error },
    #[error("{program} could not be started")]
    Other { program: String, source: io::Error },
}
