//! Who the kernel kills when memory runs out, and whether it did.
//!
//! Limits nothing: the machine's size is the orchestrator's business.

use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;

/// Added to the agent's badness, out of 1000: it and its children die before the worker, which
/// has to tell. Not 1000, so that the kernel still tells small processes from large ones.
const PREFERRED: i32 = 500;

/// The worker's own score.
const OWN: &str = "/proc/self/oom_score_adj";

/// What opens once, because a process that is not dumpable may not open it any more.
static OWN_FILE: OnceLock<Option<File>> = OnceLock::new();

/// To be called before the worker hardens itself.
pub fn open() -> Option<&'static File> {
    let file = OWN_FILE.get_or_init(|| File::options().write(true).open(OWN).ok());
    file.as_ref()
}

/// Starts something as the kernel's first choice. It inherits that from the worker, which is the
/// first choice itself for as long: told afterwards, its first children might have been missed.
pub(super) fn preferred<T>(start: impl FnOnce() -> T) -> T {
    let own = std::fs::read_to_string(OWN).ok();
    let own = own.and_then(|text| text.trim().parse::<i32>().ok());
    // Raising is always allowed, and so is going back; a /proc that is read-only or absent leaves
    // things as they are.
    let (Some(mut file), Some(own)) = (open(), own.filter(|own| *own < PREFERRED)) else {
        return start();
    };
    let raised = file.write_all(PREFERRED.to_string().as_bytes());
    let started = start();
    let lowered = file.write_all(own.to_string().as_bytes());
    if let Err(error) = raised.and(lowered) {
        tracing::debug!(%error, "the kernel's choice cannot be influenced");
    }
    started
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
