//! Reads the processes of this machine from `/proc`.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process, described by `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// The letter of the process's state, such as `S` for sleeping.
    pub state: char,
    /// The id of the process's session.
    pub session: i32,
    /// The start time, in clock ticks since the machine started. Distinguishes a process from a later one with the same
    /// id.
    pub start_time: u64,
}

impl Process {
    /// The process with this id; `None` if there is none.
    pub fn find(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses `/proc/<pid>/stat`. The program's name in parentheses may contain parentheses and spaces itself, so the
    /// other fields are counted from the last `)`.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        // Fields 3, 6 and 22 of proc(5).
        let state = fields.next()?.chars().next()?;
        let session = fields.nth(2)?.parse().ok()?;
        let start_time = fields.nth(15)?.parse().ok()?;
        Some(Self {
            pid,
            state,
            session,
            start_time,
        })
    }

    /// All processes of this machine.
    pub fn all() -> impl Iterator<Item = Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(Self::find)
    }

    /// Whether the process has ended and its parent has not reaped it yet.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// The arguments, beginning with the program. Empty if the process has ended.
    pub fn arguments(&self) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let arguments = bytes.split(|byte| *byte == 0);
        arguments
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        // Ignore an error: then the process has ended.
        let _ = Pid::from_raw(self.pid).map(|pid| kill_process(pid, signal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_whose_name_contains_parentheses_and_spaces_is_read() {
        let stat = "42 (a) R 1) S 1 42 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9";
        let process = Process::parse(42, stat).unwrap();
        assert_eq!((process.state, process.session), ('S', 7));
        assert_eq!(process.start_time, 123_456);
    }

    #[test]
    fn this_process_is_found_with_its_arguments() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let process = Process::find(pid).unwrap();
        assert!(!process.is_zombie());
        assert!(process.arguments()[0].contains("descartes_worker"));
        assert!(Process::all().any(|other| other == process || other.pid == pid));
    }
}
