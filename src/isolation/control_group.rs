//! A control group (version 2) for one program, if the worker may make one below its own. All processes in it can be
//! killed at once, however fast they fork. An agent that runs as the worker's user could leave the group, so it is only
//! an addition to the other kinds of isolation.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The file that lists the members of a group, and to which new members are written.
const MEMBERS: &str = "cgroup.procs";
/// The file that kills all members when `1` is written to it; since Linux 5.14.
const KILL: &str = "cgroup.kill";

/// Numbers the groups of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A group. Its members are killed when this is dropped.
#[derive(Debug)]
pub struct ControlGroup {
    dir: PathBuf,
}

impl ControlGroup {
    /// Makes an empty one; `None` if the worker may not, which is the usual case.
    pub fn make() -> Option<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("descartes-{}-{number}", std::process::id());
        let dir = own_group()?.join(name);
        fs::create_dir(&dir).ok()?;
        let group = Self { dir };
        // Before Linux 5.14 the members cannot be killed together, so the group would be of no use.
        let can_kill = group.dir.join(KILL).exists();
        can_kill.then_some(group)
    }

    /// The file by which a process becomes a member.
    pub(super) fn members(&self) -> PathBuf {
        self.dir.join(MEMBERS)
    }

    /// Kills all members.
    pub fn kill(&self) {
        // An error means that the group is gone, and so are its members.
        let _ = fs::write(self.dir.join(KILL), "1");
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        self.kill();
        // Fails if killed members have not ended yet. The empty group that remains needs almost no memory.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Makes this process a member of the group whose list of members is this file.
pub(super) fn join(members: &Path) {
    // After an error the program stays in the worker's group.
    let _ = fs::write(members, "0");
}

/// A description of the limits of the worker's group for memory and processes; `None` if it has none.
pub fn limits() -> Option<String> {
    let own = own_group()?;
    let limit = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(own.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let memory = limit("memory.max").map(|bytes| format!("{} MiB of memory", bytes >> 20));
    let processes = limit("pids.max").map(|count| format!("{count} processes"));
    let limits: Vec<String> = memory.into_iter().chain(processes).collect();
    (!limits.is_empty()).then(|| limits.join(" and "))
}

/// The directory of the worker's group.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    group_in(&groups, &mounts)
}

/// The directory of the worker's group, from the contents of these two files: lines like `0::/jobs/1` and
/// `cgroup2 /sys/fs/cgroup cgroup2 rw 0 0`.
fn group_in(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (dir, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(dir)
    })?;
    Some(Path::new(mount).join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_the_version_2_group_is_below_its_mount() {
        let groups = "8:pids:/\n0::/jobs/1\n";
        let mounts = "cgroup /sys/fs/cgroup/pids cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = group_in(groups, mounts);
        assert_eq!(found, Some("/sys/fs/cgroup/unified/jobs/1".into()));
        assert_eq!(group_in("8:pids:/\n", mounts), None);
        assert_eq!(group_in(groups, "proc /proc proc rw 0 0\n"), None);
    }
}
