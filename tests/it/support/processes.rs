//! Processes, identified by pid and start time: the kernel soon gives the pid of an ended process to another one.

use std::fmt;
use std::fs;
use std::path::Path;

/// A process as `/proc` described it at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// In clock ticks since the machine started.
    start_time: u64,
    /// The letter of the state; `Z` is a dead process that was not reaped.
    pub state: char,
    name: String,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid, state, name, ..
        } = self;
        write!(f, "{name} ({pid}, {state})")
    }
}

impl Process {
    /// The process with this pid; `None` if there is none.
    pub fn with_pid(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name in parentheses may contain anything, parentheses included.
        let (before, after) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = after.split(' ').collect();
        Some(Self {
            pid,
            parent: fields[1].parse().expect("a parent"),
            start_time: fields[19].parse().expect("a start time"),
            state: fields[0].chars().next().expect("a state"),
            name: before.split_once('(').expect("a name").1.to_owned(),
        })
    }

    /// Whether the process still exists, alive or as a zombie.
    pub fn exists(&self) -> bool {
        self.now().is_some()
    }

    /// Whether the process still exists and is not a zombie.
    pub fn is_alive(&self) -> bool {
        self.now().is_some_and(|now| now.state != 'Z')
    }

    /// The process as it is now; `None` if it does not exist any more.
    fn now(&self) -> Option<Self> {
        let now = Self::with_pid(self.pid);
        now.filter(|now| now.start_time == self.start_time)
    }
}

/// The processes that `/proc` lists.
fn all_processes() -> Vec<Process> {
    let names = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = names.filter_map(|name| name.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::with_pid).collect()
}

/// The processes whose working directory is this one. A dead process has no working directory.
pub fn processes_with_working_directory(dir: &Path) -> Vec<Process> {
    let dir = dir.canonicalize().expect("the directory");
    let mut processes = all_processes();
    processes.retain(|process| {
        let cwd = fs::read_link(format!("/proc/{}/cwd", process.pid));
        cwd.is_ok_and(|cwd| cwd == dir)
    });
    processes
}

/// The children of a process, dead or alive.
pub fn children(parent: i32) -> Vec<Process> {
    let mut processes = all_processes();
    processes.retain(|process| process.parent == parent);
    processes
}
