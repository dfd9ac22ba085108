//! `bash`: one shell for the whole conversation, so that directory, variables and functions stay.
//!
//! The shell leads a process group of its own and is killed with it where a command takes too long;
//! what escapes from the group is swept up by the worker when the agent ends.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep_until, timeout};

use super::{RESULT, text};
use crate::environment::Variables;
use crate::programs::on_path;
use crate::ring_buffer::RingBuffer;

/// The most one command may take: a large build fits, a forgotten server does not.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// The share of the patience with a silent agent that a silent command gets: it is ended before
/// anybody takes its silence for the agent's.
const SHARE: f64 = 0.75;
/// How long a shell may take to be gone once it is killed.
const BURIAL: Duration = Duration::from_secs(2);
/// What is kept of the beginning and of the end of what a command prints, in bytes each; the rest
/// of a result is for what is said about it.
const KEPT: usize = RESULT / 2 - 1_000;
/// One read.
const CHUNK: usize = 16 * 1024;

#[derive(Debug)]
pub struct Shell {
    program: OsString,
    dir: PathBuf,
    environment: Variables,
    limit: Duration,
    running: Option<Running>,
}

/// A shell that waits for commands.
#[derive(Debug)]
struct Running {
    child: Child,
    group: Option<Pid>,
    stdin: ChildStdin,
    output: pipe::Receiver,
    /// Where it says how a command ended. Not among the output, where a command could say so too.
    status: pipe::Receiver,
    /// What such a line begins with; the shell's own complaints come the same way.
    mark: String,
}

/// How a command ended.
enum End {
    Code(i32),
    /// The shell itself is gone, and this was its status.
    Gone(String),
    TooLate,
}

/// The first and the last of what a command printed.
struct Heard {
    head: Vec<u8>,
    tail: RingBuffer,
    lost: u64,
}

impl Shell {
    pub fn new(
        dir: PathBuf,
        path: &OsStr,
        environment: Variables,
        patience: Option<Duration>,
    ) -> Self {
        let bash = on_path(path, "bash");
        Self {
            program: bash.map_or_else(|| "/bin/sh".into(), Into::into),
            dir,
            environment,
            limit: patience.map_or(LIMIT, |patience| LIMIT.min(patience.mul_f64(SHARE))),
            running: None,
        }
    }

    /// One call of the tool: a command, a restart, or both.
    pub async fn call(&mut self, input: &Value, alive: &mut dyn FnMut()) -> Result<String, String> {
        let restart = input["restart"].as_bool().unwrap_or(false);
        if restart {
            self.close().await;
            if input["command"].is_null() {
                return Ok("the shell is a new one".to_owned());
            }
        }
        let command = text(input, "command")?;
        if command.contains('\0') {
            return Err("the command holds a NUL character".to_owned());
        }
        self.run(command, alive)
            .await
            .map_err(|error| format!("the shell cannot be used: {error}"))?
    }

    async fn run(
        &mut self,
        command: &str,
        alive: &mut dyn FnMut(),
    ) -> io::Result<Result<String, String>> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        let mut heard = Heard::nothing();
        let deadline = Instant::now() + self.limit;
        let end = running.run(command, deadline, &mut heard, alive).await;
        running.drain(&mut heard);
        let output = heard.text();
        Ok(match end {
            End::Code(code) => {
                self.running = Some(running);
                Ok(told(&output, code))
            }
            End::Gone(how) => {
                running.bury().await;
                let how = format!("[the shell ended ({how}); the next command gets a new one]");
                Err(after(&output, &how))
            }
            End::TooLate => {
                running.bury().await;
                let how = format!(
                    "[killed: it was not done within {} s, and the next command gets a new shell; \
                     what takes longer can run in the background, with its output in a file]",
                    self.limit.as_secs()
                );
                Err(after(&output, &how))
            }
        })
    }

    fn start(&self) -> io::Result<Running> {
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
            // Nobody is there to be asked, and nobody looks at colours.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        // The command still holds the writing ends.
        drop(command);
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let stdin = child
            .stdin
            .take()
            .ok_or_else(|| io::Error::other("no stdin"))?;
        let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Running {
            child,
            group,
            stdin,
            output: pipe::Receiver::from_owned_fd(output.into())?,
            status: pipe::Receiver::from_owned_fd(status.into())?,
            mark: format!("status-{random:016x}"),
        })
    }

    /// Ends the shell and its group.
    pub async fn close(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.bury().await;
        }
    }
}

impl Running {
    async fn run(
        &mut self,
        command: &str,
        deadline: Instant,
        heard: &mut Heard,
        alive: &mut dyn FnMut(),
    ) -> End {
        let line = self.line(command).into_bytes();
        let mut left = line.as_slice();
        let (mut output, mut status) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut told = Vec::new();
        let mut open = true;
        loop {
            tokio::select! {
                // While it is read from, too: a shell that prints what it reads would wait for that.
                count = self.stdin.write(left), if !left.is_empty() => match count {
                    Ok(count) => left = &left[count..],
                    Err(error) => return self.gone(&error).await,
                },
                count = self.output.read(&mut output), if open => match count {
                    Ok(0) | Err(_) => open = false,
                    Ok(count) => {
                        alive();
                        heard.push(&output[..count]);
                    }
                },
                count = self.status.read(&mut status) => match count {
                    Ok(0) | Err(_) => return self.gone(&"it closed its streams").await,
                    Ok(count) => {
                        told.extend_from_slice(&status[..count]);
                        if let Some(code) = self.code(&mut told, heard) {
                            return End::Code(code);
                        }
                    }
                },
                status = self.child.wait() => {
                    return End::Gone(status.map_or_else(|error| error.to_string(), |status| status.to_string()));
                }
                () = sleep_until(deadline) => return End::TooLate,
            }
        }
    }

    /// The exit code, once it is told. Other lines there are the shell's own complaints, of a job
    /// that was killed for instance.
    fn code(&self, told: &mut Vec<u8>, heard: &mut Heard) -> Option<i32> {
        while let Some(end) = told.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = told.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            let code = text.trim_end().strip_prefix(&self.mark);
            if let Some(code) = code.and_then(|code| code.trim().parse().ok()) {
                return Some(code);
            }
            heard.push(&line);
        }
        // What is longer than any line of the shell's is something else's.
        if told.len() > CHUNK {
            heard.push(told);
            told.clear();
        }
        None
    }

    /// What the shell is told: the command reads nothing, and both its streams are one. Handed over
    /// whole, and not by a file, because the command may have removed or filled any place for one.
    fn line(&self, command: &str) -> String {
        let command = command.replace('\'', r"'\''");
        let mark = &self.mark;
        format!(
            "command eval '{command}' </dev/null 2>&1; command printf '%s %d\\n' {mark} \"$?\" >&2\n"
        )
    }

    async fn gone(&mut self, why: &dyn std::fmt::Display) -> End {
        match timeout(BURIAL, self.child.wait()).await {
            Ok(Ok(status)) => End::Gone(status.to_string()),
            _ => End::Gone(why.to_string()),
        }
    }

    /// Takes what has been printed and not been read yet.
    fn drain(&mut self, heard: &mut Heard) {
        let mut buffer = vec![0; CHUNK];
        // A background process may print for ever.
        for _ in 0..64 {
            match self.output.try_read(&mut buffer) {
                Ok(count) if count > 0 => heard.push(&buffer[..count]),
                _ => return,
            }
        }
    }

    async fn bury(&mut self) {
        if let Some(group) = self.group {
            // Where it is gone already there is nothing to do.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = timeout(BURIAL, self.child.wait()).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (Some(group), Some(_)) = (self.group, self.child.id()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Heard {
    fn nothing() -> Self {
        Self {
            head: Vec::new(),
            tail: RingBuffer::new(KEPT),
            lost: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = (KEPT - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.lost += self.tail.push(&bytes[room..]);
    }

    /// The two ends, with a word on what was lost between them.
    fn text(&self) -> String {
        let tail = self.tail.bytes();
        let bytes = if self.lost == 0 {
            [self.head.as_slice(), &tail].concat()
        } else {
            let gap = format!("\n[... {} bytes left out ...]\n", self.lost);
            [self.head.as_slice(), gap.as_bytes(), &tail].concat()
        };
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

/// What the model gets to read of a command that ended.
fn told(output: &str, code: i32) -> String {
    match (output, code) {
        ("", 0) => "[no output]".to_owned(),
        (output, 0) => output.to_owned(),
        ("", code) => format!("[no output; exit code {code}]"),
        (output, code) => after(output, &format!("[exit code {code}]")),
    }
}

/// A word of ours behind what was printed.
fn after(output: &str, word: &str) -> String {
    if output.is_empty() {
        word.to_owned()
    } else {
        format!("{output}\n{word}")
    }
}
