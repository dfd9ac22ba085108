//! The worker as an orchestrator starts it: the real binary, told everything by its environment.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Project, Receiver};

/// A worker about to start. Its environment is empty but for `PATH`.
pub struct Worker {
    command: Command,
}

/// A worker that is running.
pub struct Running {
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    began: Instant,
}

/// A worker that has ended.
#[derive(Debug)]
pub struct Ended {
    /// None where it died of a signal.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// Where the tests' programs are: not everywhere in /usr/bin.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is no worker, and has no configuration"
)]
fn path() -> OsString {
    std::env::var_os("PATH").expect("PATH is set")
}

impl Worker {
    /// The program with nothing set.
    pub fn bare() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_descartes-worker"));
        command.env_clear().env("PATH", path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command }
    }

    /// Task 8 of a project, reported to a receiver; an agent is still to be chosen.
    pub fn new(receiver: &Receiver, project: &Project) -> Self {
        Self::bare()
            .env("TASK_ID", "8")
            .env("PROJECT_ID", "proj-456")
            .env("CALLBACK_URL", receiver.url())
            .env("DESCARTES_WORKSPACE", project.dir())
            .env("DESCARTES_HEARTBEAT", "0")
    }

    /// An agent that is a shell script.
    pub fn agent(self, script: &str) -> Self {
        self.env("DESCARTES_AGENT_COMMAND", script)
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Starts in a directory.
    pub fn dir(mut self, dir: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Changes the command in ways that few tests need.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    pub fn start(mut self) -> Running {
        let began = Instant::now();
        let mut child = self.command.spawn().expect("the worker starts");
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Running {
            child,
            stdout,
            stderr,
            began,
        }
    }

    pub fn run(self) -> Ended {
        self.start().wait()
    }
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the worker is there");
    }

    pub fn wait(mut self) -> Ended {
        let status = self.child.wait().expect("the worker can be waited for");
        let took = self.began.elapsed();
        let text = |thread: JoinHandle<Vec<u8>>| {
            let bytes = thread.join().expect("a reader that does not panic");
            String::from_utf8(bytes).expect("the worker speaks UTF-8")
        };
        Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: text(self.stdout),
            stderr: text(self.stderr),
            took,
        }
    }
}

impl Ended {
    /// The event of the `descartes-result` line, which must be the only line.
    #[track_caller]
    pub fn result_line(&self) -> Value {
        let lines: Vec<&str> = self.stdout.lines().collect();
        assert_eq!(lines.len(), 1, "{self:#?}");
        let json = lines[0]
            .strip_prefix("descartes-result ")
            .expect("a result line");
        serde_json::from_str(json).expect("JSON on the result line")
    }

    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("a pipe");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}
