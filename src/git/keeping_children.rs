//! Runs git in `dispatch`, whose workers are children of the same process and must survive. [`Git::run`] cannot be used
//! there: it kills every process below the worker when git has ended.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::call::{Call, Finished, GitError};
use super::program::Git;
use super::run::{DEFAULT_LIMIT, Prepared};
use super::words::{last_words, without_progress};
use crate::descriptors::Inherited;
use crate::durations::in_words;
use crate::process::Stderr;

/// The most that a command may print on standard output, in bytes: as much as the largest graph, and a little more.
const MAX_OUTPUT: u64 = 65 << 20;
/// How often to look whether a transfer makes progress.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a transfer may take, even if it makes progress.
const MAX_TRANSFER_TIME: Duration = Duration::from_secs(60 * 60);

/// Kills git and what it has started if the future that waits for it is dropped.
struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Git<'_> {
    /// Runs a command to its end, without ending other children. A command that fails is an error.
    pub async fn run_keeping_children(&self, call: Call<'_>) -> Result<String, GitError> {
        let output = self.finish_keeping_children(call).await?.success()?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }

    /// Runs a command to its end, without ending other children. The caller decides about the exit code.
    pub async fn finish_keeping_children(&self, call: Call<'_>) -> Result<Finished, GitError> {
        let transfer = call.transfer;
        let name = call.name();
        let start_error =
            |error: io::Error| GitError::from_io(&name, "could not be started", &error);
        let stderr = tempfile::tempfile().map_err(start_error)?;
        let errors = stderr.try_clone().map_err(start_error)?;
        let prepared = self.prepare(call, Stderr::WithStdout);
        let Prepared {
            program,
            authorities: _authorities,
        } = prepared.map_err(start_error)?;
        let lent = program
            .inherited
            .as_ref()
            .map(Inherited::let_children_inherit);
        let lent = lent.transpose().map_err(start_error)?;
        let mut child = Command::new(&program.program)
            .args(&program.args)
            .current_dir(&program.dir)
            .env_clear()
            .envs(program.env)
            .stdin(program.stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(errors)
            // Ctrl-C on the terminal must not end a merge in the middle: the dispatch ends git itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(start_error)?;
        drop(lent);
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let mut group = KillOnDrop(pid.and_then(Pid::from_raw));
        let mut output = Vec::new();
        let ended = tokio::select! {
            ended = read_to_end(&mut child, &mut output) => ended.map_err(start_error)?,
            how = too_long(&stderr, transfer, self.silence_limit) => {
                drop(group);
                let words = self.words(stderr);
                return Err(GitError { how, words, timed_out: true, ..blank(&name) });
            }
        };
        group.0 = None;
        let words = self.words(stderr);
        let Some(code) = ended.code() else {
            let how = format!("ended with {ended}");
            return Err(GitError {
                how,
                words,
                ..blank(&name)
            });
        };
        let error = GitError {
            how: format!("failed with exit code {code}"),
            code: Some(code),
            words,
            ..blank(&name)
        };
        Ok(Finished {
            code,
            output,
            error,
        })
    }

    /// The end of git's standard error, redacted, without progress lines.
    fn words(&self, stderr: File) -> String {
        let text = last_words(stderr, self.side.max_stderr_size());
        self.redactor.text(&without_progress(&text))
    }
}

/// An error about a command, whose other fields the caller sets.
fn blank(command: &str) -> GitError {
    GitError {
        command: command.to_owned(),
        how: String::new(),
        words: String::new(),
        code: None,
        stopped: false,
        timed_out: false,
    }
}

/// Reads standard output, then waits for the end of the process.
async fn read_to_end(
    child: &mut Child,
    output: &mut Vec<u8>,
) -> io::Result<std::process::ExitStatus> {
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT).read_to_end(output).await?;
    }
    if output.len() as u64 == MAX_OUTPUT {
        return Err(io::Error::other(format!(
            "it printed more than {MAX_OUTPUT} bytes"
        )));
    }
    child.wait().await
}

/// Waits until a command has taken too long: a transfer has printed no progress for `silence_limit`, or any command has
/// reached its time limit. Returns the end of a sentence about it.
async fn too_long(stderr: &File, transfer: bool, silence_limit: Duration) -> String {
    let limit = if transfer {
        MAX_TRANSFER_TIME
    } else {
        DEFAULT_LIMIT
    };
    let began = Instant::now();
    let (mut size, mut last_progress) = (0, began);
    loop {
        sleep(POLL_INTERVAL.min(silence_limit)).await;
        let now_size = stderr.metadata().map_or(size, |found| found.len());
        if now_size != size {
            (size, last_progress) = (now_size, Instant::now());
        }
        if transfer && last_progress.elapsed() >= silence_limit {
            return format!("made no progress for {}", in_words(silence_limit));
        }
        if began.elapsed() >= limit {
            return format!("was not done within {}", in_words(limit));
        }
    }
}
