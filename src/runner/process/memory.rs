//! Who the kernel kills when memory runs out, and whether it did.
//!
//! Limits nothing: the machine's size is the orchestrator's business.

use rustix::process::Pid;

/// Added to the agent's badness, out of 1000: it and its children die before the worker, which
/// has to tell. Not 1000, so that the kernel still tells small processes from large ones.
const OOM_SCORE_ADJ: &str = "500";

/// Makes a process, and what it will start, the kernel's first choice.
pub(super) fn prefer_for_oom_kill(pid: Pid) {
    #[cfg(target_os = "linux")]
    {
        // Raising is always allowed; a /proc that is read-only or absent leaves things as they are.
        let path = format!("/proc/{}/oom_score_adj", pid.as_raw_pid());
        if let Err(error) = std::fs::write(&path, OOM_SCORE_ADJ) {
            tracing::debug!(path, %error, "cannot be raised");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (pid, OOM_SCORE_ADJ);
}

/// How many processes the kernel has killed for memory so far: in the worker's control group where
/// there is one, else on the machine. Zero where nobody counts.
pub(super) fn oom_kills() -> u64 {
    own_group().or_else(machine).unwrap_or(0)
}

/// `memory.events` of the worker's cgroup (v2); the root group has none.
fn own_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    counter(&format!("/sys/fs/cgroup{own}/memory.events"))
        .or_else(|| counter("/sys/fs/cgroup/memory.events"))
}

fn machine() -> Option<u64> {
    counter("/proc/vmstat")
}

fn counter(path: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}
