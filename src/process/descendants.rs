//! The processes below the worker, including those that outlived their parents.
//!
//! On Linux the worker is a child subreaper (or PID 1): an orphan becomes the worker's child, even if
//! it left its process group or session, or was started by a double fork. Elsewhere only the process
//! group can be found, and the functions here find nothing.
//!
//! Only the worker's own children, and the process groups that they lead, are killed here. Only their parent can reap them, so their pids
//! cannot belong to other processes in the meantime. A grandchild becomes a child when its parent dies.
//! While this module is in use, no other part of the program may start processes.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, wait, waitid,
    waitpid,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// How often to look for dead processes while killing: the kernel reports no deaths of grandchildren.
pub(super) const POLL_WHILE_KILLING: Duration = Duration::from_millis(20);

/// How many dead children are reaped before anything else gets its turn: children can die as fast as they are reaped.
const MAX_REAPED_AT_ONCE: u32 = 1_000;

/// Children that the worker already had when it was started (an entrypoint's `service & exec worker`), and
/// helper processes of the worker. They do not belong to the agent, so they are never killed. A static, because children belong to the
/// process and not to a value in it.
static BYSTANDERS: OnceLock<Mutex<HashSet<Pid>>> = OnceLock::new();

fn bystanders() -> MutexGuard<'static, HashSet<Pid>> {
    let at_start = BYSTANDERS.get_or_init(|| Mutex::new(children().into_iter().collect()));
    at_start.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves a child of the worker alone until it is reaped.
pub(super) fn spare(child: Pid) {
    bystanders().insert(child);
}

/// Whether a child is left alone, and not reaped.
pub(super) fn is_spared(child: Pid) -> bool {
    bystanders().contains(&child)
}

/// Treats a child like all others again; false if it was reaped.
pub(super) fn stop_sparing(child: Pid) -> bool {
    bystanders().remove(&child)
}

/// The processes below the worker.
pub(super) struct Descendants {
    deaths: Option<Signal>,
}

/// What [`peek`] found.
pub(super) enum State {
    Running,
    /// It has ended, and its pid stays reserved until it is reaped.
    Dead(ExitStatus),
    /// It is not a child of this process, or it was reaped.
    NotAChild,
}

impl Descendants {
    /// Makes the worker the parent of all orphans below it. Must be called before the worker starts
    /// anything.
    pub(super) fn adopt() -> Self {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            tracing::warn!(
                %error,
                "the worker cannot become a child subreaper; processes that leave their process group may survive the agent"
            );
        }
        // Lists the bystanders now, before the worker's first child exists.
        drop(bystanders());
        Self {
            deaths: signal(SignalKind::child()).ok(),
        }
    }

    /// Waits until a descendant may have died, at most for `patience`. The kernel reports only the
    /// deaths of the worker's own children, and none if the worker was started with SIGCHLD blocked.
    pub(super) async fn wait_for_a_death(&mut self, patience: Duration) {
        let reported = async {
            match &mut self.deaths {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = reported => {}
            () = sleep(patience) => {}
        }
    }

    /// Kills and reaps until no descendant is left.
    pub(super) async fn kill_all(&mut self) {
        while reap_all() && kill_children() {
            self.wait_for_a_death(POLL_WHILE_KILLING).await;
        }
    }
}

/// Looks at a child without reaping it.
pub(super) fn peek(child: Pid) -> State {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(child), options) {
        Ok(None) => State::Running,
        Ok(Some(status)) => {
            // The encoding of waitpid(2), which `ExitStatus` is made from.
            let code = status.exit_status().map(|code| (code & 0xff) << 8);
            let raw = code.or(status.terminating_signal()).unwrap_or_default();
            State::Dead(ExitStatus::from_raw(raw))
        }
        Err(_) => State::NotAChild,
    }
}

/// Reaps every dead child except `reserved`, whose pid must stay reserved.
pub(super) fn reap_all_except(reserved: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(waitid(WaitId::All, options), Ok(Some(_))) {
        // No child is dead. This saves listing them.
        return;
    }
    for child in children() {
        if child != reserved
            && let Ok(Some(_)) = waitpid(Some(child), WaitOptions::NOHANG)
        {
            bystanders().remove(&child);
        }
    }
}

/// Reaps dead children, at most [`MAX_REAPED_AT_ONCE`]; false if no child is left.
fn reap_all() -> bool {
    for _ in 0..MAX_REAPED_AT_ONCE {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, _))) => {
                bystanders().remove(&pid);
            }
            Ok(None) => return true,
            // The only possible error is ECHILD.
            Err(_) => return false,
        }
    }
    true
}

/// Kills all children except the bystanders; false if only bystanders are left.
pub(super) fn kill_children() -> bool {
    let mut to_kill = without_bystanders();
    if to_kill.is_empty() {
        // The list may omit a child while another one ends, so one look is not enough.
        to_kill = without_bystanders();
    }
    for pid in &to_kill {
        // Fails only for a process that became another user's. The caller limits how long it tries.
        let _ = kill_process(*pid, rustix::process::Signal::KILL);
        // If it leads a group: the others in the group become the worker's children only later, and there
        // may be no time for that. Until the child is reaped, no other group can have this id.
        let _ = kill_process_group(*pid, rustix::process::Signal::KILL);
    }
    // Without bystanders there are children until `reap_all` says otherwise: the list may omit some.
    !to_kill.is_empty() || bystanders().is_empty()
}

/// Whether every descendant is dead and reaped, apart from bystanders.
pub(super) fn none_left() -> bool {
    if bystanders().is_empty() {
        // The kernel's list may omit children that come and go; the answer to this does not.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        return waitid(WaitId::All, options).is_err();
    }
    without_bystanders().is_empty()
}

/// The children that the worker is responsible for.
pub(super) fn without_bystanders() -> Vec<Pid> {
    let bystanders = bystanders();
    let mut children = children();
    children.retain(|pid| !bystanders.contains(pid));
    children
}

/// Whether a process group has a member that is alive, apart from its dead leader.
///
/// The kernel cannot be asked with `kill(-group, 0)`: that also finds the leader, which is dead but
/// not reaped.
#[cfg(target_os = "linux")]
pub(super) fn has_living_member(group: Pid) -> bool {
    // Every descendant is below a child of the worker.
    let is_outside = |child: &Pid| *child == group || is_spared(*child);
    if listed_children().is_some_and(|children| children.iter().all(is_outside)) {
        return false;
    }
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    let names = processes.filter_map(|process| process.ok()?.file_name().into_string().ok());
    let mut stats = names.filter_map(|name| Stat::of(&name)).peekable();
    // Without a usable /proc, nothing proves that the group is empty.
    stats.peek().is_none()
        || stats.any(|stat| stat.group == group.as_raw_nonzero().get() && !stat.is_dead())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn has_living_member(group: Pid) -> bool {
    // These kernels do not count dead processes here.
    rustix::process::test_kill_process_group(group).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn children() -> Vec<Pid> {
    Vec::new()
}

/// The worker's children, dead ones included.
#[cfg(target_os = "linux")]
fn children() -> Vec<Pid> {
    if let Some(children) = listed_children() {
        return children;
    }
    // A kernel that was built without the list of children.
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = processes.filter_map(|process| process.ok()?.file_name().into_string().ok());
    let children = names.filter(|name| Stat::of(name).is_some_and(|stat| stat.parent == me));
    children.filter_map(|name| parse_pid(&name)).collect()
}

/// The kernel's list of the worker's children. It may omit some while children come and go.
#[cfg(target_os = "linux")]
fn listed_children() -> Option<Vec<Pid>> {
    let me = std::process::id();
    // The main thread starts all processes and inherits the orphans.
    let list = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).ok()?;
    Some(
        list.split_ascii_whitespace()
            .filter_map(parse_pid)
            .collect(),
    )
}

#[cfg(target_os = "linux")]
fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

/// A line of `/proc/<pid>/stat`.
#[cfg(target_os = "linux")]
struct Stat {
    state: char,
    parent: i32,
    group: i32,
}

#[cfg(target_os = "linux")]
impl Stat {
    fn of(pid: &str) -> Option<Self> {
        if !pid.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name in parentheses may contain anything, parentheses included.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}
