//! The `bash` tool: one shell process for the whole conversation, so that its directory, variables
//! and functions persist.
//!
//! The shell leads a process group. A command that takes too long ends with the whole group, and so
//! does everything that still runs when the agent ends. Processes that left the group are killed by
//! the worker.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::arguments::string_argument;
use super::command_output::{CommandOutput, with_exit_code, with_note};
use crate::environment::Variables;
use crate::line_splitter::{LineEnd, LineSplitter};
use crate::programs::on_path;

/// How long one command may take: enough for a large build. Shorter if the idle timeout is short.
const MAX_TIME_LIMIT: Duration = Duration::from_secs(10 * 60);
/// A command may take at most this share of the idle timeout, so that a command that prints nothing is ended before the
/// worker ends the whole agent.
const IDLE_TIMEOUT_SHARE: f64 = 0.75;
/// The time between SIGTERM and SIGKILL for processes whose results are not needed. It is shorter if the time limit is
/// short.
const SHORT_GRACE: Duration = Duration::from_secs(1);
/// The short grace period is at most this fraction (one eighth) of the time limit.
const SHORT_GRACE_DIVISOR: u32 = 8;
/// How long to wait for the shell's exit status after SIGKILL.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often to check whether the process group is empty.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The size of one read, in bytes.
const READ_SIZE: usize = 16 * 1024;
/// The longest line that is read from the shell's standard error, in bytes.
const MAX_STATUS_LINE_SIZE: usize = 16 * 1024;
/// How many reads collect the output that is in the pipe when a command ends. A background process
/// may keep printing forever.
const MAX_FINAL_READS: usize = 64;

/// The shell of one conversation; it is started with the first command.
#[derive(Debug)]
pub struct Shell {
    program: OsString,
    dir: PathBuf,
    environment: Variables,
    time_limit: Duration,
    process: Option<ShellProcess>,
}

/// A running shell. It reads commands from its standard input.
#[derive(Debug)]
struct ShellProcess {
    child: Child,
    group: Pid,
    stdin: ChildStdin,
    /// Standard output of the shell. Its commands write standard output and standard error here.
    output: pipe::Receiver,
    /// Standard error of the shell: the exit statuses of commands, and the shell's own messages.
    /// Separate from the output, in which a command could forge a status.
    status: pipe::Receiver,
    status_lines: LineSplitter,
    /// The first word of a line with an exit status.
    status_marker: String,
}

/// How a command ended.
enum CommandEnd {
    ExitCode(i32),
    /// The shell itself ended, with this exit status.
    ShellExited(String),
    TimedOut,
}

impl Shell {
    pub fn new(
        dir: PathBuf,
        path: &OsStr,
        environment: Variables,
        idle_timeout: Option<Duration>,
    ) -> Self {
        let bash = on_path(path, "bash");
        let time_limit = idle_timeout.map_or(MAX_TIME_LIMIT, |idle_timeout| {
            MAX_TIME_LIMIT.min(idle_timeout.mul_f64(IDLE_TIMEOUT_SHARE))
        });
        Self {
            program: bash.map_or_else(|| "/bin/sh".into(), Into::into),
            dir,
            environment,
            time_limit,
            process: None,
        }
    }

    /// Runs one tool call: a command, a restart, or both.
    pub async fn call(
        &mut self,
        input: &Value,
        on_output: &mut dyn FnMut(),
    ) -> Result<String, String> {
        if input["restart"].as_bool().unwrap_or(false) {
            self.close_with_short_grace().await;
            if input["command"].is_null() {
                return Ok("the shell was restarted".to_owned());
            }
        }
        let command = string_argument(input, "command")?;
        if command.contains('\0') {
            return Err("the command contains a NUL character".to_owned());
        }
        self.run(command, on_output)
            .await
            .map_err(|error| format!("the shell cannot be used: {error}"))?
    }

    /// Runs a command. The outer error means that there is no shell; the inner error is for the model.
    async fn run(
        &mut self,
        command: &str,
        on_output: &mut dyn FnMut(),
    ) -> io::Result<Result<String, String>> {
        let process = match self.process.take() {
            Some(process) => process,
            None => self.start()?,
        };
        // Stays in `self` while the command runs: if this future is dropped, `close` still ends it.
        let process = self.process.insert(process);
        let mut output = CommandOutput::new();
        let deadline = Instant::now() + self.time_limit;
        let end = process.run(command, deadline, &mut output, on_output).await;
        process.read_pending_output(&mut output);
        let output = output.text();
        Ok(match end {
            CommandEnd::ExitCode(code) => Ok(with_exit_code(&output, code)),
            CommandEnd::ShellExited(status) => {
                self.close_with_short_grace().await;
                let note = format!("[the shell ended ({status}); the next command gets a new one]");
                Err(with_note(&output, &note))
            }
            CommandEnd::TimedOut => {
                self.close_with_short_grace().await;
                let note = format!(
                    "[killed: it did not end within {} s, and the next command gets a new shell; \
                     run longer commands in the background, with their output in a file]",
                    self.time_limit.as_secs()
                );
                Err(with_note(&output, &note))
            }
        })
    }

    /// Starts a shell. Its standard error is separate, because the exit statuses come from there.
    fn start(&self) -> io::Result<ShellProcess> {
        let (output, stdout) = io::pipe()?;
        let (status, stderr) = io::pipe()?;
        let mut command = Command::new(&self.program);
        if self.program.to_string_lossy().ends_with("bash") {
            command.args(["--noprofile", "--norc"]);
        }
        command
            .current_dir(&self.dir)
            .env_clear()
            .envs(self.environment.iter().cloned())
            // No one can answer a prompt, and no one sees colours.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        // `command` holds the writing ends of the pipes; while they are open, reads do not end.
        drop(command);
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let group = pid.and_then(Pid::from_raw);
        let group = group.ok_or_else(|| io::Error::other("it has no process id"))?;
        let stdin = child.stdin.take();
        let stdin = stdin.ok_or_else(|| io::Error::other("it has no standard input"))?;
        let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(ShellProcess {
            child,
            group,
            stdin,
            output: pipe::Receiver::from_owned_fd(output.into())?,
            status: pipe::Receiver::from_owned_fd(status.into())?,
            status_lines: LineSplitter::new(LineEnd::Newline, MAX_STATUS_LINE_SIZE),
            status_marker: format!("status-{random:016x}"),
        })
    }

    /// Ends the process group: SIGTERM, and SIGKILL once `grace` is over.
    pub async fn close(&mut self, grace: impl Future<Output = ()>) {
        if let Some(process) = &mut self.process {
            process.end(grace).await;
        }
        self.process = None;
    }

    /// Ends the process group with the short grace period.
    pub async fn close_with_short_grace(&mut self) {
        let grace = SHORT_GRACE.min(self.time_limit / SHORT_GRACE_DIVISOR);
        self.close(sleep(grace)).await;
    }
}

impl ShellProcess {
    /// Runs a command, and appends its output to `command_output`.
    async fn run(
        &mut self,
        command: &str,
        deadline: Instant,
        command_output: &mut CommandOutput,
        on_output: &mut dyn FnMut(),
    ) -> CommandEnd {
        let script = self.script(command).into_bytes();
        let mut unwritten = script.as_slice();
        let (mut output, mut status) = (vec![0; READ_SIZE], vec![0; READ_SIZE]);
        let mut is_output_open = true;
        loop {
            tokio::select! {
                // Concurrent with the reads: a shell that echoes its input blocks until it is read.
                written = self.stdin.write(unwritten), if !unwritten.is_empty() => match written {
                    Ok(count) => unwritten = &unwritten[count..],
                    Err(error) => return self.handle_closed_stream(&error).await,
                },
                read = self.output.read(&mut output), if is_output_open => match read {
                    Ok(0) | Err(_) => is_output_open = false,
                    Ok(count) => {
                        on_output();
                        command_output.push(&output[..count]);
                    }
                },
                read = self.status.read(&mut status) => match read {
                    Ok(0) | Err(_) => return self.handle_closed_stream(&"it closed its streams").await,
                    Ok(count) => {
                        if let Some(code) = self.exit_code(&status[..count], command_output) {
                            return CommandEnd::ExitCode(code);
                        }
                    }
                },
                status = self.child.wait() => {
                    let status = status.map(|status| status.to_string());
                    return CommandEnd::ShellExited(status.unwrap_or_else(|error| error.to_string()));
                }
                () = sleep_until(deadline) => return CommandEnd::TimedOut,
            }
        }
    }

    /// The exit code in the shell's standard error, if it has arrived. Other lines are messages of the shell, for
    /// example about a killed job. They are added to the output.
    fn exit_code(&mut self, mut bytes: &[u8], output: &mut CommandOutput) -> Option<i32> {
        while let Some(line) = self.status_lines.next_line(&mut bytes) {
            let text = String::from_utf8_lossy(&line.bytes);
            let code = text.trim_end().strip_prefix(&self.status_marker);
            if let Some(code) = code.and_then(|code| code.trim().parse().ok()) {
                return Some(code);
            }
            output.push(&line.bytes);
            output.push(b"\n");
        }
        None
    }

    /// The script for the shell: the command without standard input and with both output streams in
    /// one, then the report of its exit status. The shell reads the script from standard input and not
    /// from a file, because commands may have deleted or filled every directory for temporary files.
    fn script(&self, command: &str) -> String {
        let command = command.replace('\'', r"'\''");
        let marker = &self.status_marker;
        format!(
            "command eval '{command}' </dev/null 2>&1; command printf '%s %d\\n' {marker} \"$?\" >&2\n"
        )
    }

    /// Handles a stream that the shell has closed: returns the shell's exit status, or `reason` if it has
    /// not exited.
    async fn handle_closed_stream(&mut self, reason: &dyn Display) -> CommandEnd {
        match timeout(EXIT_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) => CommandEnd::ShellExited(status.to_string()),
            _ => CommandEnd::ShellExited(reason.to_string()),
        }
    }

    /// Reads the bytes that are already in the output pipe.
    fn read_pending_output(&mut self, output: &mut CommandOutput) {
        let mut buffer = vec![0; READ_SIZE];
        for _ in 0..MAX_FINAL_READS {
            match self.output.try_read(&mut buffer) {
                Ok(count) if count > 0 => output.push(&buffer[..count]),
                _ => return,
            }
        }
    }

    /// Ends the process group: SIGTERM, and SIGKILL once `grace` is over.
    async fn end(&mut self, grace: impl Future<Output = ()>) {
        if kill_process_group(self.group, Signal::TERM).is_ok() {
            // A stopped process handles SIGTERM only after SIGCONT.
            let _ = kill_process_group(self.group, Signal::CONT);
            tokio::select! {
                () = self.wait_for_empty_group() => {}
                () = grace => {
                    // An error means that the last process has just ended.
                    let _ = kill_process_group(self.group, Signal::KILL);
                }
            }
        }
        let _ = timeout(EXIT_TIMEOUT, self.child.wait()).await;
    }

    /// Waits until the process group has no members. Reads and drops their output, because a process
    /// that writes to a full pipe cannot end.
    async fn wait_for_empty_group(&mut self) {
        let mut buffer = vec![0; READ_SIZE];
        let mut is_output_open = true;
        loop {
            // A zombie is a member of the group, so the shell must be reaped.
            let _ = self.child.try_wait();
            if test_kill_process_group(self.group).is_err() {
                return;
            }
            tokio::select! {
                read = self.output.read(&mut buffer), if is_output_open => {
                    is_output_open = matches!(read, Ok(1..));
                }
                () = sleep(POLL_INTERVAL) => {}
            }
        }
    }
}

impl Drop for ShellProcess {
    fn drop(&mut self) {
        // Once the shell is reaped, its process id may belong to another process.
        if self.child.id().is_some() {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }
}
