//! Runs git in `dispatch`, whose workers are children of the same process and must survive. [`Git::run`] cannot be used
//! there: when git has ended, it kills all other descendants of this process.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::call::{Call, GitError, GitOutput};
use super::error_output::{end_of_file, without_progress};
use super::program::Git;
use super::run::{DEFAULT_TIME_LIMIT, PreparedCall};
use crate::descriptors::Inherited;
use crate::durations::in_words;
use crate::process::Stderr;

/// The most that git may print on standard output, in bytes: as much as the largest graph, and a little more.
const MAX_OUTPUT_SIZE: u64 = 65 << 20;
/// How often to check whether a call has printed anything.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a call that contacts the remote may take, even if it makes progress.
const MAX_REMOTE_TIME: Duration = Duration::from_secs(60 * 60);

/// Kills git's process group when dropped, for example with the future that waits for git. `None` kills nothing.
struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Git<'_> {
    /// Runs git to its end, without ending other children; returns its standard output. Every exit code except 0 is an
    /// error.
    pub async fn run_keeping_children(&self, call: Call<'_>) -> Result<String, GitError> {
        let output = self
            .output_keeping_children(call)
            .await?
            .require_success()?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }

    /// Runs git to its end, without ending other children. The caller decides which exit codes are errors.
    pub async fn output_keeping_children(&self, call: Call<'_>) -> Result<GitOutput, GitError> {
        let contacts_remote = call.contacts_remote;
        let name = call.name();
        let start_error =
            |error: io::Error| GitError::from_io(&name, "could not be started", &error);
        let stderr = tempfile::tempfile().map_err(start_error)?;
        let childs_stderr = stderr.try_clone().map_err(start_error)?;
        let prepared = self.prepare(call, Stderr::WithStdout);
        let PreparedCall {
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
            .stderr(childs_stderr)
            // Ctrl-C on the terminal must not end a merge in the middle: the dispatch ends git itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(start_error)?;
        drop(lent);
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let mut group = KillOnDrop(pid.and_then(Pid::from_raw));
        let mut stdout = Vec::new();
        let ended = tokio::select! {
            ended = read_to_end(&mut child, &mut stdout) => ended.map_err(start_error)?,
            failure = wait_until_too_long(&stderr, contacts_remote, self.idle_timeout) => {
                drop(group);
                let messages = self.messages_in(stderr);
                return Err(GitError { failure, messages, ..blank_error(&name) });
            }
        };
        // git has ended, so there is nothing to kill.
        group.0 = None;
        let messages = self.messages_in(stderr);
        let Some(code) = ended.code() else {
            return Err(GitError {
                failure: format!("ended with {ended}"),
                messages,
                ..blank_error(&name)
            });
        };
        let error = GitError {
            failure: format!("failed with exit code {code}"),
            exit_code: Some(code),
            messages,
            ..blank_error(&name)
        };
        Ok(GitOutput {
            exit_code: code,
            stdout,
            error,
        })
    }

    /// The end of git's standard error, redacted, without progress lines.
    fn messages_in(&self, stderr: File) -> String {
        let text = end_of_file(stderr, self.side.max_stderr_size());
        self.redactor.mask(&without_progress(&text))
    }
}

/// An error about a command. The caller sets the other fields.
fn blank_error(command: &str) -> GitError {
    GitError {
        command: command.to_owned(),
        failure: String::new(),
        messages: String::new(),
        exit_code: None,
        was_stopped: false,
    }
}

/// Reads standard output, then waits for the end of the process.
async fn read_to_end(
    child: &mut Child,
    output: &mut Vec<u8>,
) -> io::Result<std::process::ExitStatus> {
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT_SIZE).read_to_end(output).await?;
    }
    if output.len() as u64 == MAX_OUTPUT_SIZE {
        return Err(io::Error::other(format!(
            "it printed more than {MAX_OUTPUT_SIZE} bytes"
        )));
    }
    child.wait().await
}

/// Waits until a call has taken too long: git has printed nothing to the file `stderr` during the idle timeout (only if
/// the call contacts the remote), or the call has reached its time limit. Returns [`GitError::failure`].
async fn wait_until_too_long(
    stderr: &File,
    contacts_remote: bool,
    idle_timeout: Duration,
) -> String {
    let time_limit = if contacts_remote {
        MAX_REMOTE_TIME
    } else {
        DEFAULT_TIME_LIMIT
    };
    let began = Instant::now();
    let (mut size, mut last_progress) = (0, began);
    loop {
        sleep(POLL_INTERVAL.min(idle_timeout)).await;
        let new_size = stderr.metadata().map_or(size, |metadata| metadata.len());
        if new_size != size {
            (size, last_progress) = (new_size, Instant::now());
        }
        if contacts_remote && last_progress.elapsed() >= idle_timeout {
            return format!("made no progress for {}", in_words(idle_timeout));
        }
        if began.elapsed() >= time_limit {
            return format!("was not done within {}", in_words(time_limit));
        }
    }
}
