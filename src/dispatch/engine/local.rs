//! The engine `local`: runs are processes of this machine, each in a separate session and with its output in files. A
//! worker outlives its dispatcher. The next dispatcher finds a worker by its process id and start time, or by the
//! run's id among its arguments.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use eyre::WrapErr;
use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use super::processes::Process;
use super::spec::Spec;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::Seen;

/// How often to look whether a process that must end has ended.
const POLL: Duration = Duration::from_millis(10);

/// The workers of one dispatch that are processes of this machine.
#[derive(Debug)]
pub struct Local {
    program: PathBuf,
    dir: PathBuf,
    /// The id of the dispatch. The name of every run begins with it.
    dispatch: String,
    /// The workers that this process has started.
    children: HashMap<String, Child>,
    /// Workers that have not ended yet, although their runs need no further attention.
    released: Vec<Child>,
}

impl Local {
    pub fn new(program: PathBuf, dir: PathBuf, dispatch: String) -> Self {
        Self {
            program,
            dir,
            dispatch,
            children: HashMap::new(),
            released: Vec::new(),
        }
    }

    /// Starts the worker of a run.
    pub fn start(&mut self, name: &str, spec: &Spec) -> eyre::Result<Handle> {
        let dir = self.dir.join(name);
        let in_dir = || format!("cannot use the directory of the run {}", dir.display());
        fs::create_dir_all(&dir).wrap_err_with(in_dir)?;
        let file = |path: PathBuf| File::options().create(true).append(true).open(path);
        let mut command = Command::new(&self.program);
        for name in &spec.removed {
            command.env_remove(name);
        }
        command
            .args(["--run-id", name])
            .envs(spec.variables.iter().map(|(name, value)| (name, value)))
            .env("DESCARTES_NEW_SESSION", "true")
            .stdin(Stdio::null())
            .stdout(file(dir.join("stdout")).wrap_err_with(in_dir)?)
            .stderr(file(dir.join("log")).wrap_err_with(in_dir)?);
        let child = command
            .spawn()
            .wrap_err_with(|| format!("cannot start {}", self.program.display()))?;
        let pid = i32::try_from(child.id()).wrap_err("the process id is out of range")?;
        // If the process has ended already, its entry in `/proc` exists until it is reaped.
        let start_time = Process::find(pid).map_or(0, |process| process.start_time);
        self.children.insert(name.to_owned(), child);
        Ok(Handle::Local { pid, start_time })
    }

    /// The state of a run's worker.
    pub fn look(&mut self, name: &str, handle: &Handle) -> Seen {
        if let Some(child) = self.children.get_mut(name) {
            return match child.try_wait() {
                Ok(None) => Seen::Running,
                Ok(Some(status)) => Seen::Ended(status.code().into()),
                Err(_) => Seen::Unknown,
            };
        }
        match find(handle) {
            Some(_) => Seen::Running,
            None => Seen::Gone,
        }
    }

    /// Sends a stop signal, and kills what has not ended after the grace period.
    pub async fn stop(handle: &Handle, grace: Duration) {
        let Some(process) = find(handle) else { return };
        process.signal(Signal::TERM);
        if timeout(grace, Self::ended(handle)).await.is_ok() {
            return;
        }
        // What the worker has started is in its session.
        let members = Process::all().filter(|other| other.session == process.pid);
        let members: Vec<Process> = members.collect();
        find(handle).inspect(|process| process.signal(Signal::KILL));
        for member in members {
            member.signal(Signal::KILL);
        }
    }

    /// Waits until a worker has ended.
    pub async fn ended(handle: &Handle) {
        while find(handle).is_some() {
            sleep(POLL).await;
        }
    }

    /// All running workers of this dispatch, found by their arguments.
    pub fn sweep(&self) -> Vec<(String, Handle)> {
        let prefix = format!("{}-", self.dispatch);
        let found = Process::all().filter(|process| !process.is_dead());
        let named = found.filter_map(|process| {
            let arguments = process.arguments();
            let flag = arguments
                .iter()
                .position(|argument| argument == "--run-id")?;
            let name = arguments.get(flag + 1)?;
            let handle = Handle::Local {
                pid: process.pid,
                start_time: process.start_time,
            };
            name.starts_with(&prefix).then(|| (name.clone(), handle))
        });
        named.collect()
    }

    /// Marks a run as one that needs no further attention.
    pub fn release(&mut self, name: &str) {
        self.released.extend(self.children.remove(name));
    }

    /// Reaps released workers that have ended. Otherwise they would stay in the kernel's table of processes.
    pub fn reap(&mut self) {
        let is_running = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        self.released.retain_mut(is_running);
    }
}

/// The process of a handle, if it still runs.
fn find(handle: &Handle) -> Option<Process> {
    let Handle::Local { pid, start_time } = handle else {
        return None;
    };
    let process = Process::find(*pid)?;
    (process.start_time == *start_time && !process.is_dead()).then_some(process)
}
