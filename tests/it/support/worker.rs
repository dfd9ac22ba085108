//! The worker as an orchestrator starts it: the real binary, with all settings in its environment.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::output_stream::OutputStream;
use super::terminal::Terminal;
use super::{Project, Receiver};

/// How long the worker of a failed test has to end its agent before it gets SIGKILL.
const END_LIMIT_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// The stop window for tests that stop a worker and do not test how long that takes.
pub const LONG_STOP_WINDOW: &str = "1h";
/// The request timeout for tests whose receiver answers: the answer may be slow on a busy machine.
pub const LONG_CALLBACK_TIMEOUT: &str = "10m";
/// The claim deadline for tests in which the claim is finally granted or refused.
pub const LONG_CLAIM_DEADLINE: &str = "10m";

/// A worker before its start. Its environment contains only `PATH` and the variables that the test sets.
pub struct Worker {
    command: Command,
    terminal: Option<Terminal>,
}

/// A worker that is running.
pub struct RunningWorker {
    child: Child,
    stdout: OutputStream,
    stderr: OutputStream,
    start: Instant,
}

/// A worker that has ended.
#[derive(Debug)]
pub struct FinishedWorker {
    /// The exit code; `None` if a signal killed the worker.
    pub code: Option<i32>,
    /// The signal that killed the worker.
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// The time from the start of the worker to its end.
    pub duration: Duration,
}

/// The `PATH` of the tests, for the worker and its agent.
pub fn path() -> OsString {
    #[expect(
        clippy::disallowed_methods,
        reason = "machines keep sh and git in different places"
    )]
    std::env::var_os("PATH").expect("a PATH")
}

/// A `PATH` with all programs of the tests' `PATH` except one: fills the directory `links` with symbolic links, and returns its
/// path.
pub fn path_without(program: &str, links: &Path) -> OsString {
    std::fs::create_dir_all(links).expect("a directory");
    for place in std::env::split_paths(&path()) {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            if entry.file_name() != program {
                let link = links.join(entry.file_name());
                // Fails for the second program with the same name: a shell would use the first one, too.
                let _ = std::os::unix::fs::symlink(entry.path(), link);
            }
        }
    }
    links.into()
}

impl Worker {
    /// The program without any settings.
    pub fn without_settings() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_descartes-worker"));
        command.env_clear().env("PATH", path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            command,
            terminal: None,
        }
    }

    /// Task 8 of a project, reported to a receiver. The caller must choose an agent.
    pub fn new(receiver: &Receiver, project: &Project) -> Self {
        Self::without_settings()
            .env("TASK_ID", "8")
            .env("PROJECT_ID", "proj-456")
            .env("CALLBACK_URL", receiver.url())
            .env("DESCARTES_WORKSPACE", project.dir())
            .env("DESCARTES_HEARTBEAT", "0")
            .env("DESCARTES_STOP_WINDOW", LONG_STOP_WINDOW)
            .env("DESCARTES_CALLBACK_TIMEOUT", LONG_CALLBACK_TIMEOUT)
            .env("DESCARTES_CLAIM_DEADLINE", LONG_CLAIM_DEADLINE)
    }

    /// Sets the agent, a shell script.
    pub fn agent(self, script: impl AsRef<OsStr>) -> Self {
        self.env("DESCARTES_AGENT_COMMAND", script)
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Turns isolation off: then the agent's parent process is the worker, and the agent can see the worker's processes.
    pub fn without_isolation(self) -> Self {
        self.env("DESCARTES_ISOLATION", "off")
    }

    /// Removes a variable from the environment.
    pub fn remove_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets the directory that the worker starts in.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Starts this copy of the worker's program.
    pub fn program(self, program: &Path) -> Self {
        self.started_by(program, |_| Vec::new())
    }

    /// Starts another program, which starts the worker. `args` makes the arguments of this program from the worker's path.
    pub fn started_by(
        mut self,
        program: impl AsRef<OsStr>,
        args: impl FnOnce(&OsStr) -> Vec<OsString>,
    ) -> Self {
        let mut command = Command::new(program);
        command.args(args(self.command.get_program())).env_clear();
        for (name, value) in self.command.get_envs() {
            command.env(name, value.expect("a value"));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.command = command;
        self
    }

    /// Starts the worker without root's right to read every file. Changes nothing if the tests do not run as root.
    pub fn without_root_privileges(self) -> Self {
        if !rustix::process::getuid().is_root() {
            return self;
        }
        self.started_by("setpriv", |program| {
            let privileges = "--bounding-set=-dac_override,-dac_read_search";
            vec![privileges.into(), program.into()]
        })
    }

    /// Changes the command in ways that few tests need.
    pub fn change_command(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts the worker on a terminal with this many columns; its standard output is what the terminal shows.
    pub fn on_terminal(self, columns: u16) -> Self {
        self.on(Terminal::with_columns(columns))
    }

    /// Starts the worker on this terminal; its standard output is what the terminal shows.
    pub fn on(mut self, terminal: Terminal) -> Self {
        self.terminal = Some(terminal);
        self
    }

    pub fn start(mut self) -> RunningWorker {
        let terminal = self.terminal.take();
        let terminal = terminal.map(|terminal| terminal.attach(&mut self.command));
        end_ignoring_of_sighup();
        let start = Instant::now();
        let mut child = self.command.spawn().expect("the worker starts");
        // The command has open copies of the streams that a test has passed to it; while they are open, the output does not end.
        drop(self.command);
        let stdout = match terminal {
            Some(terminal) => OutputStream::collect(Some(terminal)),
            None => OutputStream::collect(child.stdout.take()),
        };
        let stderr = OutputStream::collect(child.stderr.take());
        RunningWorker {
            child,
            stdout,
            stderr,
            start,
        }
    }

    pub fn run(self) -> FinishedWorker {
        self.start().wait()
    }
}

/// Lets workers get SIGHUP also if the tests were started by `nohup`: programs inherit ignored signals, but not those that
/// have a handler in the process that starts them.
fn end_ignoring_of_sighup() {
    static INSTALL_HANDLER: Once = Once::new();
    INSTALL_HANDLER.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        // SIGHUP is signal 1, the lowest bit.
        if ignored.is_some_and(|mask| mask & 1 == 1) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            let handler = async { signal(SignalKind::hangup()).map(drop) };
            runtime
                .and_then(|runtime| runtime.block_on(handler))
                .expect("a handler");
        }
    });
}

impl RunningWorker {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the worker is there");
    }

    /// Waits until a line of standard error contains `what`; returns the line.
    #[track_caller]
    pub fn wait_for_log(&self, what: &str) -> String {
        self.stderr.wait_for_line(what)
    }

    /// Waits until standard output contains `what`.
    #[track_caller]
    pub fn wait_for_output(&self, what: &str) {
        self.stdout.wait_for_text(what);
    }

    /// Waits until standard output contains `what` this many times.
    #[track_caller]
    pub fn wait_for_repeated_output(&self, what: &str, count: usize) {
        self.stdout.wait_for_match(what, |text| {
            (text.matches(what).count() >= count).then_some(())
        });
    }

    /// Waits until a line of standard output contains `what`; returns the line.
    #[track_caller]
    pub fn wait_for_output_line(&self, what: &str) -> String {
        self.stdout.wait_for_line(what)
    }

    /// Waits until the live area of the terminal (the output after the last newline) contains `what`; returns the whole output.
    #[track_caller]
    pub fn wait_for_live_area(&self, what: &str) -> String {
        self.stdout.wait_for_match(what, |text| {
            let live_area = text.rsplit('\n').next().unwrap_or_default();
            live_area.contains(what).then(|| text.to_owned())
        })
    }

    /// How many bytes were printed to standard output so far.
    pub fn output_size(&self) -> usize {
        self.stdout.size()
    }

    /// Waits until the worker ends; fails if that takes too long.
    #[track_caller]
    pub fn wait(mut self) -> FinishedWorker {
        assert!(
            self.stdout.wait_for_end(),
            "the worker does not end: {}",
            self.stderr.text()
        );
        let status = self.child.wait().expect("the worker can be waited for");
        let duration = self.start.elapsed();
        assert!(
            self.stderr.wait_for_end(),
            "a process holds its output open"
        );
        FinishedWorker {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            duration,
        }
    }
}

impl Drop for RunningWorker {
    /// Ends the worker of a failed test: the worker gets time to end its agent, and then SIGKILL. Without the
    /// SIGKILL, it would try to reach the test's receiver for many minutes.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // The second signal skips the agent's grace period.
        for _ in 0..2 {
            let _ = kill_process(self.pid(), Signal::TERM);
        }
        self.stdout.wait_for_end_within(END_LIMIT_AFTER_FAILURE);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl FinishedWorker {
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

    /// The only terminal event; asserts that the task failed for this reason.
    #[track_caller]
    pub fn assert_failed(&self, receiver: &Receiver, reason: &str) -> Value {
        self.assert_code(1);
        assert_eq!(receiver.routes(), ["started", "failed"]);
        let event = receiver.only_event("failed");
        assert_eq!(event["failure"]["reason"], reason, "{event:#}");
        event
    }

    /// The only terminal event; asserts that the task is completed.
    #[track_caller]
    pub fn assert_completed(&self, receiver: &Receiver) -> Value {
        self.assert_code(0);
        receiver.assert_routes(&["started", "completed"]);
        receiver.only_event("completed")
    }

    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}
