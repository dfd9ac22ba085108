//! The processes below the worker, including those that outlived their parents.
//!
//! On Linux the worker is a child subreaper (or PID 1): an orphan becomes the worker's child, even if
//! it left its process group or session, or was started by a double fork. Elsewhere only the process
//! group can be found, and the functions here find nothing.
//!
//! Only the worker's own children, and the process groups that they lead, are killed here. Only the worker can
//! reap them, so their pids cannot belong to other processes in the meantime. A grandchild becomes a child
//! when its parent dies.
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

/// How often to look for dead processes while killing. The kernel does not report deaths of grandchildren.
pub(super) const POLL_WHILE_KILLING: Duration = Duration::from_millis(20);

/// How many dead children are reaped without a pause. Children can die as fast as they are reaped; without this limit,
/// reaping them would delay everything else.
const MAX_REAPED_AT_ONCE: u32 = 1_000;

/// Children that are never killed, because they do not belong to the agent: those that the worker already
/// had when it was started (an entrypoint's `service & exec worker`), and helper processes of the worker.
/// This is a static, because children belong to the whole process.
static EXEMPT_CHILDREN: OnceLock<Mutex<HashSet<Pid>>> = OnceLock::new();

/// The list of exempt children. The first call fills it with the children that exist at that time.
fn exempt_children() -> MutexGuard<'static, HashSet<Pid>> {
    let exempt_children =
        EXEMPT_CHILDREN.get_or_init(|| Mutex::new(children().into_iter().collect()));
    exempt_children
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Exempts a child of the worker from being killed, until the child is reaped.
pub(super) fn exempt(child: Pid) {
    exempt_children().insert(child);
}

/// Whether a child is exempt and not reaped yet.
pub(super) fn is_exempt(child: Pid) -> bool {
    exempt_children().contains(&child)
}

/// Ends the exemption of a child; false if the child was already reaped.
pub(super) fn end_exemption(child: Pid) -> bool {
    exempt_children().remove(&child)
}

/// The processes below the worker.
pub(super) struct Descendants {
    /// `None` if the signal handler cannot be registered.
    sigchld: Option<Signal>,
}

/// The state of a child that [`peek`] returns.
pub(super) enum ChildState {
    Running,
    /// The child has ended. Its pid stays reserved until it is reaped.
    Dead(ExitStatus),
    /// The pid is not that of a child of this process, or the child was reaped.
    NotAChild,
}

impl Descendants {
    /// Makes the worker the parent of all orphans below it. Must be called before the worker starts a program.
    pub(super) fn adopt() -> Self {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            tracing::warn!(
                %error,
                "the worker cannot become a child subreaper; processes that leave their process group may survive the agent"
            );
        }
        // Initializes the list of exempt children now, before the worker's first child exists.
        drop(exempt_children());
        Self {
            sigchld: signal(SignalKind::child()).ok(),
        }
    }

    /// Waits until a descendant may have died, at most for `timeout`. The kernel reports only the
    /// deaths of the worker's own children, and none if the worker was started with SIGCHLD blocked.
    pub(super) async fn wait_for_death(&mut self, timeout: Duration) {
        let reported = async {
            match &mut self.sigchld {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = reported => {}
            () = sleep(timeout) => {}
        }
    }

    /// Kills and reaps until no descendant is left.
    pub(super) async fn kill_all(&mut self) {
        while reap_all() && kill_children() {
            self.wait_for_death(POLL_WHILE_KILLING).await;
        }
    }
}

/// Looks at a child without reaping it.
pub(super) fn peek(child: Pid) -> ChildState {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(child), options) {
        Ok(None) => ChildState::Running,
        Ok(Some(status)) => {
            // `ExitStatus` needs the encoding of waitpid(2).
            let code = status.exit_status().map(|code| (code & 0xff) << 8);
            let raw = code.or(status.terminating_signal()).unwrap_or_default();
            ChildState::Dead(ExitStatus::from_raw(raw))
        }
        Err(_) => ChildState::NotAChild,
    }
}

/// Reaps every dead child except `reserved`, whose pid must stay reserved.
pub(super) fn reap_all_except(reserved: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(waitid(WaitId::All, options), Ok(Some(_))) {
        // No child is dead, so there is no need to list the children.
        return;
    }
    for child in children() {
        if child != reserved
            && let Ok(Some(_)) = waitpid(Some(child), WaitOptions::NOHANG)
        {
            exempt_children().remove(&child);
        }
    }
}

/// Reaps dead children, at most [`MAX_REAPED_AT_ONCE`]; false if no child is left.
fn reap_all() -> bool {
    for _ in 0..MAX_REAPED_AT_ONCE {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, _))) => {
                exempt_children().remove(&pid);
            }
            Ok(None) => return true,
            // The only possible error is ECHILD.
            Err(_) => return false,
        }
    }
    true
}

/// Kills all children except the exempt ones; false if only exempt children are left.
pub(super) fn kill_children() -> bool {
    let mut to_kill = children_to_kill();
    if to_kill.is_empty() {
        // The kernel's list may omit a child while another one ends, so read it twice.
        to_kill = children_to_kill();
    }
    for pid in &to_kill {
        // Fails only if the process now runs as another user. The caller limits how long it tries.
        let _ = kill_process(*pid, rustix::process::Signal::KILL);
        // If the child leads a process group, kill the whole group: its other members become the worker's
        // children only later, and there may be no time for that. Until the child is reaped, no other
        // group can have this id.
        let _ = kill_process_group(*pid, rustix::process::Signal::KILL);
    }
    // Without exempt children, `reap_all` decides whether children are left: the list may omit some.
    !to_kill.is_empty() || exempt_children().is_empty()
}

/// Whether every descendant is dead and reaped, apart from exempt children.
pub(super) fn no_descendants_left() -> bool {
    if exempt_children().is_empty() {
        // The kernel's list may omit children while others start and end; waitid(2) misses none.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        return waitid(WaitId::All, options).is_err();
    }
    children_to_kill().is_empty()
}

/// The children without the exempt ones.
pub(super) fn children_to_kill() -> Vec<Pid> {
    let exempt_children = exempt_children();
    let mut children = children();
    children.retain(|pid| !exempt_children.contains(pid));
    children
}

/// Whether a process group has a living member. Its leader must be dead, but not reaped.
///
/// `kill(-group, 0)` cannot answer this, because it also finds the dead leader.
#[cfg(target_os = "linux")]
pub(super) fn has_living_member(group: Pid) -> bool {
    // If all children are the leader or exempt, no other process is left: every descendant is below a child.
    let is_leader_or_exempt = |child: &Pid| *child == group || is_exempt(*child);
    if listed_children().is_some_and(|children| children.iter().all(is_leader_or_exempt)) {
        return false;
    }
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    let names = processes.filter_map(|process| process.ok()?.file_name().into_string().ok());
    let mut stats = names.filter_map(|name| Stat::of(&name)).peekable();
    // Without a usable /proc, assume that the group has a living member.
    stats.peek().is_none()
        || stats.any(|stat| stat.group == group.as_raw_nonzero().get() && !stat.is_dead())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn has_living_member(group: Pid) -> bool {
    // On these kernels the system call does not find dead processes.
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
    // The kernel was built without the list of children.
    let own_pid = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = processes.filter_map(|process| process.ok()?.file_name().into_string().ok());
    let children = names.filter(|name| Stat::of(name).is_some_and(|stat| stat.parent == own_pid));
    children.filter_map(|name| parse_pid(&name)).collect()
}

/// The kernel's list of the worker's children. It may omit some while children come and go.
#[cfg(target_os = "linux")]
fn listed_children() -> Option<Vec<Pid>> {
    let own_pid = std::process::id();
    // The main thread starts all processes and inherits the orphans.
    let list = std::fs::read_to_string(format!("/proc/{own_pid}/task/{own_pid}/children")).ok()?;
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
    /// Reads the line of the process whose pid is this text.
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

    /// Whether the process is a zombie or is being removed.
    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}
