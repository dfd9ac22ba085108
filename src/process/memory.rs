//! Makes the kernel kill the agent before the worker when memory runs out, and finds out whether the kernel has killed
//! a process for that reason.
//!
//! Sets no memory limit: the orchestrator chooses the machine's size.

use std::fs::{File, read_to_string};
use std::io::Write;
use std::sync::OnceLock;

/// The agent's `oom_score_adj`, out of 1000: the agent and its children die before the worker, which has
/// to report. Below 1000, so that the kernel still kills large processes before small ones.
const AGENT_SCORE: i32 = 500;

/// The path of the worker's own score.
const OWN_SCORE_PATH: &str = "/proc/self/oom_score_adj";

/// The file with the machine's counter of processes that were killed because memory ran out.
const MACHINE_COUNTER: &str = "/proc/vmstat";

/// The open file of the worker's own score. A process that is not dumpable cannot open it.
static OWN_SCORE_FILE: OnceLock<Option<File>> = OnceLock::new();

/// Opens the file of the worker's own score, once. Must be called before the worker makes itself
/// undumpable.
pub fn open_own_score() -> Option<&'static File> {
    let file = OWN_SCORE_FILE.get_or_init(|| File::options().write(true).open(OWN_SCORE_PATH).ok());
    file.as_ref()
}

/// Starts a process with the agent's score. The worker sets its own score to that value, so that the process
/// inherits it, and then restores its own: if the score were set after the start, the first grandchildren
/// could have the old one.
pub(super) fn with_raised_score<T>(start: impl FnOnce() -> T) -> T {
    let own_score = read_to_string(OWN_SCORE_PATH).ok();
    let own_score = own_score.and_then(|text| text.trim().parse::<i32>().ok());
    // Raising the score and restoring it is always allowed. With a read-only or absent /proc the
    // scores stay as they are.
    let own_score = own_score.filter(|score| *score < AGENT_SCORE);
    let (Some(mut file), Some(own_score)) = (open_own_score(), own_score) else {
        return start();
    };
    let raise_result = file.write_all(AGENT_SCORE.to_string().as_bytes());
    let started = start();
    let restore_result = file.write_all(own_score.to_string().as_bytes());
    if let Err(error) = raise_result.and(restore_result) {
        tracing::debug!(%error, "the out-of-memory score cannot be set");
    }
    started
}

/// Whether the kernel killed a process of this run because memory ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutOfMemory {
    No,
    /// The machine's counter shows that the kernel killed a process. That process may belong to another run.
    Possibly,
    /// The kernel killed a process in the worker's control group.
    Certainly,
}

/// How many processes the kernel has killed so far because memory ran out.
#[derive(Debug)]
pub(super) enum OomKills {
    /// The counter of the worker's control group, and its file.
    InGroup { file: String, count: u64 },
    /// The counter of the machine, if the group has none. Reading this counter takes longer.
    OnMachine(u64),
    /// The kernel has no counter.
    Unknown,
}

impl OomKills {
    /// Reads the most specific counter that there is.
    pub(super) fn count() -> Self {
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        let in_group = counter_files(&groups).into_iter().find_map(|file| {
            let count = read_counter(&file)?;
            Some(Self::InGroup { file, count })
        });
        in_group
            .unwrap_or_else(|| read_counter(MACHINE_COUNTER).map_or(Self::Unknown, Self::OnMachine))
    }

    /// Reads the same counter again, and compares.
    pub(super) fn compare_with_now(&self) -> OutOfMemory {
        let now = match self {
            Self::InGroup { file, .. } => read_counter(file),
            Self::OnMachine(_) => read_counter(MACHINE_COUNTER),
            Self::Unknown => None,
        };
        now.map_or(OutOfMemory::No, |now| self.compare_with(now))
    }

    /// Compares with a later value of the same counter.
    fn compare_with(&self, later: u64) -> OutOfMemory {
        match self {
            Self::InGroup { count, .. } if later > *count => OutOfMemory::Certainly,
            Self::OnMachine(count) if later > *count => OutOfMemory::Possibly,
            _ => OutOfMemory::No,
        }
    }
}

/// The files that may contain the counter of the worker's control group. `groups` is the text of
/// `/proc/self/cgroup`; in a container, its paths may be those on the host.
fn counter_files(groups: &str) -> Vec<String> {
    // Lines like `4:cpu,memory:/jobs/1`.
    let group_of = |controller: &str| {
        let mut lines = groups.lines().map(|line| line.splitn(3, ':'));
        lines.find_map(|mut fields| {
            let is_controlled = fields.nth(1)?.split(',').any(|name| name == controller);
            fields.next().filter(|_| is_controlled)
        })
    };
    let mut files = Vec::new();
    // Version 1, if the memory controller is mounted; the root group counts the whole machine.
    if let Some(group) = group_of("memory").filter(|group| *group != "/") {
        files.push(format!("/sys/fs/cgroup/memory{group}/memory.oom_control"));
        // In a container, `group` is the path on the host, and the container's own group is mounted here.
        files.push("/sys/fs/cgroup/memory/memory.oom_control".to_owned());
    }
    // Version 2. The root group of the machine does not have this file.
    if let Some(group) = group_of("") {
        files.push(format!("/sys/fs/cgroup{group}/memory.events"));
        files.push("/sys/fs/cgroup/memory.events".to_owned());
    }
    files
}

/// The number of kills in a counter file; `None` if the file is missing or has no such number.
fn read_counter(file: &str) -> Option<u64> {
    parse_counter(&read_to_string(file).ok()?)
}

/// The number of kills in the text of a counter file.
fn parse_counter(text: &str) -> Option<u64> {
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_group(count: u64) -> OomKills {
        let file = "/does/not/exist".to_owned();
        OomKills::InGroup { file, count }
    }

    #[test]
    fn a_kill_in_the_workers_control_group_is_certain() {
        assert_eq!(in_group(0).compare_with(1), OutOfMemory::Certainly);
    }

    #[test]
    fn a_kill_that_only_the_machine_counts_is_only_possible() {
        let before = OomKills::OnMachine(7);
        assert_eq!(before.compare_with(8), OutOfMemory::Possibly);
    }

    #[test]
    fn no_kill_is_found_if_the_counter_is_unchanged_or_cannot_be_read() {
        assert_eq!(in_group(1).compare_with(1), OutOfMemory::No);
        assert_eq!(OomKills::OnMachine(7).compare_with(7), OutOfMemory::No);
        assert_eq!(in_group(1).compare_with_now(), OutOfMemory::No);
        assert_eq!(OomKills::Unknown.compare_with_now(), OutOfMemory::No);
    }

    #[test]
    fn the_counter_of_the_machine_is_not_read_if_the_control_group_has_one() {
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        let has_group = counter_files(&groups)
            .iter()
            .any(|file| read_counter(file).is_some());
        let is_in_group = matches!(OomKills::count(), OomKills::InGroup { .. });
        assert_eq!(is_in_group, has_group);
    }

    #[test]
    fn the_counter_is_read_from_both_versions_of_control_groups() {
        let first = "9:name=systemd:/\n4:cpu,memory:/jobs/1\n0::/\n";
        assert_eq!(
            counter_files(first),
            [
                "/sys/fs/cgroup/memory/jobs/1/memory.oom_control",
                "/sys/fs/cgroup/memory/memory.oom_control",
                "/sys/fs/cgroup//memory.events",
                "/sys/fs/cgroup/memory.events"
            ]
        );
        assert_eq!(
            counter_files("0::/user.slice\n"),
            [
                "/sys/fs/cgroup/user.slice/memory.events",
                "/sys/fs/cgroup/memory.events"
            ]
        );
        assert_eq!(counter_files("4:memory:/\n"), [""; 0]);
        assert_eq!(
            parse_counter("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            Some(3)
        );
        assert_eq!(
            parse_counter("oom 2\noom_group_kill 0\noom_kill 1\n"),
            Some(1)
        );
        assert_eq!(parse_counter("under_oom 0\n"), None);
    }
}
