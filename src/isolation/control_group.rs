//! A control group (version 2) for one program, if the worker may make one below its own. All processes in it can be
//! killed at once, however fast they fork. An agent that runs as the worker's user could leave the group, so it is only
//! an addition to the other kinds of isolation.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The file that lists the members of a group, and to which new members are written.
const MEMBERS_FILE: &str = "cgroup.procs";
/// The file that kills all members when `1` is written to it; since Linux 5.14.
const KILL_FILE: &str = "cgroup.kill";

/// Where systemd and container runtimes mount the groups of version 2. The second place is used if groups of version 1
/// are mounted too.
const USUAL_MOUNT_POINTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The kernel's number for this file system (`CGROUP2_SUPER_MAGIC`).
#[cfg(target_os = "linux")]
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// The number in the name of the next group that this process makes.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(0);

/// A group. Its members are killed when this value is dropped.
#[derive(Debug)]
pub struct ControlGroup {
    dir: PathBuf,
}

impl ControlGroup {
    /// Creates an empty group; `None` if the worker is not allowed to create one, which is the usual case.
    pub fn create() -> Option<Self> {
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("descartes-{}-{number}", std::process::id());
        let dir = worker_group_dir()?.join(name);
        fs::create_dir(&dir).ok()?;
        let group = Self { dir };
        // Before Linux 5.14 the members cannot be killed together, so the group would be of no use.
        let can_kill = group.dir.join(KILL_FILE).exists();
        can_kill.then_some(group)
    }

    /// The file to which a process writes to become a member.
    pub(super) fn members_file(&self) -> PathBuf {
        self.dir.join(MEMBERS_FILE)
    }

    /// Kills all members.
    pub fn kill(&self) {
        // An error means that the group is gone, and so are its members.
        let _ = fs::write(self.dir.join(KILL_FILE), "1");
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        self.kill();
        // Fails if killed members have not ended yet. The empty group that remains needs almost no memory.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Makes this process a member of a group. `members` is the file that lists the group's members.
pub(super) fn join(members: &Path) {
    // After an error the program stays in the worker's group.
    let _ = fs::write(members, "0");
}

/// A description of the limits of the worker's group for memory and processes; `None` if it has none.
pub fn describe_limits() -> Option<String> {
    let dir = worker_group_dir()?;
    let limit = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(dir.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let memory = limit("memory.max").map(|bytes| format!("{} MiB of memory", bytes >> 20));
    let processes = limit("pids.max").map(|count| format!("{count} processes"));
    let limits: Vec<String> = memory.into_iter().chain(processes).collect();
    (!limits.is_empty()).then(|| limits.join(" and "))
}

/// The directory of the worker's group.
fn worker_group_dir() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = group_path_in(&groups)?;
    Some(mount_point()?.join(path))
}

/// Where the groups are mounted. The list of mounts is read only if they are not at the usual places: on a machine with
/// many containers it is long, and the kernel takes longer to write it than everything else at the start of a run.
fn mount_point() -> Option<PathBuf> {
    let usual = USUAL_MOUNT_POINTS.map(Path::new);
    let found = usual.into_iter().find(|dir| is_mount_point(dir));
    found.map(Path::to_owned).or_else(|| {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        mount_point_in(&mounts).map(PathBuf::from)
    })
}

#[cfg(target_os = "linux")]
fn is_mount_point(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|status| status.f_type == CGROUP2_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_mount_point(_: &Path) -> bool {
    false
}

/// The path of a group of version 2 in lines like `0::/jobs/1`.
fn group_path_in(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The mount point in lines like `cgroup2 /sys/fs/cgroup cgroup2 rw 0 0`.
fn mount_point_in(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (dir, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(dir)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_the_version_2_group_is_below_its_mount() {
        let groups = "8:pids:/\n0::/jobs/1\n";
        let mounts = "cgroup /sys/fs/cgroup/pids cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(group_path_in(groups), Some("jobs/1"));
        assert_eq!(group_path_in("8:pids:/\n"), None);
        assert_eq!(mount_point_in(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point_in("proc /proc proc rw 0 0\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_usual_mount_point_is_recognized_exactly_if_the_list_of_mounts_has_it() {
        let mounts = fs::read("/proc/self/mounts").unwrap();
        let mounts = String::from_utf8_lossy(&mounts);
        let version_2_mounts: Vec<&str> = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .filter(|fields| fields.get(2) == Some(&"cgroup2"))
            .map(|fields| fields[1])
            .collect();
        for usual in USUAL_MOUNT_POINTS {
            let is_listed = version_2_mounts.contains(&usual);
            assert_eq!(is_mount_point(Path::new(usual)), is_listed, "{usual}");
        }
        assert!(!is_mount_point(Path::new("/proc")));
    }
}
