//! The engine `local`: runs are processes of this machine, each in a separate session and with its output in files. A
//! worker can outlive its dispatcher. The next dispatcher finds the worker by its process id and start time, or by the
//! run's id among the worker's arguments.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use eyre::WrapErr;
use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use super::processes::Process;
use super::spec::RunSpec;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::WorkerState;

/// The pause between two checks whether a process has ended.
const END_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The workers of one dispatch that are processes of this machine.
#[derive(Debug)]
pub struct Local {
    /// The path of this program, which is also the worker.
    program: PathBuf,
    /// The directory with one directory for the output of each run.
    runs_dir: PathBuf,
    /// The id of the dispatch. The id of every run begins with it.
    dispatch: String,
    /// The workers that this process has started, by the id of the run.
    children: HashMap<String, Child>,
    /// Workers of released runs that may not have ended yet.
    released: Vec<Child>,
}

impl Local {
    pub fn new(program: PathBuf, runs_dir: PathBuf, dispatch: String) -> Self {
        Self {
            program,
            runs_dir,
            dispatch,
            children: HashMap::new(),
            released: Vec::new(),
        }
    }

    /// Starts the worker of a run.
    pub fn start(&mut self, run: &str, spec: &RunSpec) -> eyre::Result<Handle> {
        let dir = self.runs_dir.join(run);
        let context = || format!("cannot use the directory of the run {}", dir.display());
        fs::create_dir_all(&dir).wrap_err_with(context)?;
        let open = |path: PathBuf| File::options().create(true).append(true).open(path);
        let mut command = Command::new(&self.program);
        for name in &spec.removed_variables {
            command.env_remove(name);
        }
        command
            .args(["--run-id", run])
            .envs(spec.variables.iter().map(|(name, value)| (name, value)))
            .env("DESCARTES_NEW_SESSION", "true")
            .stdin(Stdio::null())
            .stdout(open(dir.join("stdout")).wrap_err_with(context)?)
            .stderr(open(dir.join("log")).wrap_err_with(context)?);
        let child = command
            .spawn()
            .wrap_err_with(|| format!("cannot start {}", self.program.display()))?;
        let pid = i32::try_from(child.id()).wrap_err("the process id is out of range")?;
        // Even if the process has ended already, its entry in `/proc` exists until this process reaps it.
        let start_time = Process::find(pid).map_or(0, |process| process.start_time);
        self.children.insert(run.to_owned(), child);
        Ok(Handle::Local { pid, start_time })
    }

    /// The state of a run's worker.
    pub fn state_of(&mut self, run: &str, handle: &Handle) -> WorkerState {
        if let Some(child) = self.children.get_mut(run) {
            return match child.try_wait() {
                Ok(None) => WorkerState::Running,
                Ok(Some(status)) => WorkerState::Ended(status.code().into()),
                Err(_) => WorkerState::Unknown,
            };
        }
        match find_process(handle) {
            Some(_) => WorkerState::Running,
            None => WorkerState::Gone,
        }
    }

    /// Sends SIGTERM to a worker. If it has not ended after the grace period, kills it and all processes of its
    /// session.
    pub async fn stop(handle: &Handle, grace: Duration) {
        let Some(process) = find_process(handle) else {
            return;
        };
        process.signal(Signal::TERM);
        if timeout(grace, Self::wait_for_end(handle)).await.is_ok() {
            return;
        }
        let members = Process::all().filter(|other| other.session == process.pid);
        let members: Vec<Process> = members.collect();
        // The worker may have ended meanwhile, and another process may have its id.
        find_process(handle).inspect(|process| process.signal(Signal::KILL));
        for member in members {
            member.signal(Signal::KILL);
        }
    }

    /// Waits until a worker has ended.
    pub async fn wait_for_end(handle: &Handle) {
        while find_process(handle).is_some() {
            sleep(END_POLL_INTERVAL).await;
        }
    }

    /// The ids and handles of the runs of this dispatch whose workers run. Finds the workers by their arguments.
    pub fn find_runs(&self) -> Vec<(String, Handle)> {
        let prefix = format!("{}-", self.dispatch);
        let running = Process::all().filter(|process| !process.is_zombie());
        let workers = running.filter_map(|process| {
            let arguments = process.arguments();
            let flag = arguments
                .iter()
                .position(|argument| argument == "--run-id")?;
            let run = arguments.get(flag + 1)?;
            let handle = Handle::Local {
                pid: process.pid,
                start_time: process.start_time,
            };
            run.starts_with(&prefix).then(|| (run.clone(), handle))
        });
        workers.collect()
    }

    /// Releases a run: the dispatcher does not ask for its state any more.
    pub fn release(&mut self, run: &str) {
        self.released.extend(self.children.remove(run));
    }

    /// Reaps released workers that have ended. Otherwise they would stay in the kernel's process table.
    pub fn reap(&mut self) {
        let is_running = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        self.released.retain_mut(is_running);
    }
}

/// The process of a handle, if it still runs.
fn find_process(handle: &Handle) -> Option<Process> {
    let Handle::Local { pid, start_time } = handle else {
        return None;
    };
    let process = Process::find(*pid)?;
    (process.start_time == *start_time && !process.is_zombie()).then_some(process)
}
