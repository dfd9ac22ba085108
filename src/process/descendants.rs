//! What a child leaves behind: processes that outlived their parents and came to the worker.
//!
//! On Linux the worker is a child subreaper (or PID 1), so orphans become its children wherever
//! they fled to: a group, a session or a double fork away. Elsewhere the process group is all
//! there is to hold on to, and these functions find nothing.
//!
//! Only the worker's own children and the groups that they lead are ever killed here. Nobody else can reap them, so their pids
//! cannot have become somebody else's; and what is below them comes to the worker as they die.
//! The other side of it: while this is in use, no other part of the process may have children.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, kill_process, kill_process_group, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// Children that the worker was born with (an entrypoint's `service & exec worker`); not the
/// agent's, so not to be ended. Children belong to the process, and so does this.
static BYSTANDERS: OnceLock<Mutex<HashSet<Pid>>> = OnceLock::new();

fn bystanders() -> MutexGuard<'static, HashSet<Pid>> {
    let born_with = BYSTANDERS.get_or_init(|| Mutex::new(children().into_iter().collect()));
    born_with.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether nothing is left of what the worker started; an agent that forks faster than it dies
/// can outlast its end.
pub(super) fn none() -> bool {
    let bystanders = bystanders();
    children().iter().all(|pid| bystanders.contains(pid))
}

/// The processes below the worker.
pub(super) struct Descendants {
    deaths: Option<Signal>,
}

/// What [`reap`] found.
pub(super) enum Reaped {
    Dead(Pid, ExitStatus),
    /// There are children, but no dead ones.
    AllAlive,
    /// There are no children, so that nothing at all is below the worker.
    NoneLeft,
}

impl Descendants {
    /// Makes the worker the parent of all orphans below it. To be called before anything is
    /// started that is to be ended.
    pub(super) fn adopt() -> Self {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            tracing::warn!(%error, "cannot become a subreaper; what leaves its group may survive");
        }
        // Before anything is started for the first time, so that only those are in it.
        drop(bystanders());
        Self {
            deaths: signal(SignalKind::child()).ok(),
        }
    }

    /// Waits until something below may have died, at most for `patience`: not every death is told,
    /// only those of the worker's own children are, and none where the worker was started with
    /// SIGCHLD blocked.
    pub(super) async fn death(&mut self, patience: Duration) {
        let told = async {
            match &mut self.deaths {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = told => {}
            () = sleep(patience) => {}
        }
    }
}

/// Reaps one dead child, whoever's it was.
pub(super) fn reap() -> Reaped {
    match wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => {
            bystanders().remove(&pid);
            Reaped::Dead(pid, ExitStatus::from_raw(status.as_raw()))
        }
        Ok(None) => Reaped::AllAlive,
        // The one error there is: ECHILD.
        Err(_) => Reaped::NoneLeft,
    }
}

/// Kills all children but the bystanders; false where only bystanders are left.
pub(super) fn kill() -> bool {
    let ours = ours();
    for pid in &ours {
        // Refused only for what has become another user; the caller's time limit is for that.
        let _ = kill_process(*pid, rustix::process::Signal::KILL);
        // And the group that it leads, if it does: what is in there would have to come to the worker first, for which there
        // may be no time. As long as the child is not reaped, no other group can have this number.
        let _ = kill_process_group(*pid, rustix::process::Signal::KILL);
    }
    // Where there are no bystanders an empty list proves nothing: it may leave some out.
    !ours.is_empty() || bystanders().is_empty()
}

/// Those that are there and should not be.
pub(super) fn ours() -> Vec<Pid> {
    let bystanders = bystanders();
    let mut children = children();
    children.retain(|pid| !bystanders.contains(pid));
    children
}

#[cfg(not(target_os = "linux"))]
fn children() -> Vec<Pid> {
    Vec::new()
}

/// The worker's children. The kernel lists them in one file, but may leave some out while they
/// come and go; kernels built without that file make it a pass over all processes.
#[cfg(target_os = "linux")]
fn children() -> Vec<Pid> {
    let pid = |text: &str| text.parse().ok().and_then(Pid::from_raw);
    let me = std::process::id().to_string();
    // The main thread is the one that starts processes and inherits orphans.
    if let Ok(list) = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")) {
        return list.split_ascii_whitespace().filter_map(pid).collect();
    }
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = names.filter(|name| parent(name).as_ref() == Some(&me));
    pids.filter_map(|name| pid(&name)).collect()
}

#[cfg(target_os = "linux")]
fn parent(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses included.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1).map(str::to_owned)
}
