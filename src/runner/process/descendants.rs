//! What a child leaves behind: processes that outlived their parents and came to the worker.
//!
//! On Linux the worker is a child subreaper (or PID 1), so orphans become its children wherever
//! they fled to: a group, a session or a double fork away. Elsewhere the process group is all
//! there is to hold on to, and these functions find nothing.

use std::time::Duration;

use rustix::process::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

/// How long to go on killing: what forks faster than it dies, or sleeps uninterruptibly, must not
/// keep the worker from reporting. The machine's end is its end.
const SWEEP: Duration = Duration::from_secs(2);
/// How often to look again where no signal tells of a death.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Makes the worker the parent of all orphans below it.
pub(super) fn adopt() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!(%error, "cannot become a subreaper; what leaves its group may survive");
    }
}

/// Tells of deaths below the worker.
pub(super) struct Deaths(Option<Signal>);

impl Deaths {
    pub(super) fn new() -> Self {
        Self(signal(SignalKind::child()).ok())
    }

    /// Waits until a child of the worker's has died, its own or an orphan.
    pub(super) async fn of_a_child(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => sleep(LOOK_AGAIN).await,
        }
    }

    /// Waits until anything below may have died; not every such death is told.
    pub(super) async fn of_anything(&mut self) {
        tokio::select! {
            () = self.of_a_child() => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Reaps the orphans that have died, but not the child that somebody else waits for.
pub(super) fn reap_all_but(leader: Option<Pid>) {
    for process in below()
        .into_iter()
        .filter(|process| process.dead && process.ours)
    {
        if Some(process.pid) != leader {
            // Somebody else's wait may come first, which is as good.
            let _ =
                rustix::process::waitpid(Some(process.pid), rustix::process::WaitOptions::NOHANG);
        }
    }
}

/// Kills and reaps everything below the worker until there is nothing, or the time is up.
pub(super) async fn sweep() {
    let deadline = Instant::now() + SWEEP;
    let mut deaths = Deaths::new();
    loop {
        reap_all_but(None);
        let left = below();
        if left.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            let pids: Vec<_> = left
                .iter()
                .map(|process| process.pid.as_raw_pid())
                .collect();
            tracing::warn!(?pids, "these would not die");
            return;
        }
        for process in left.iter().filter(|process| !process.dead) {
            tracing::debug!(pid = process.pid.as_raw_pid(), "left behind, killed");
            let _ = rustix::process::kill_process(process.pid, rustix::process::Signal::KILL);
        }
        deaths.of_anything().await;
    }
}

/// Whether there is nothing alive below the worker.
pub(super) fn none() -> bool {
    below().iter().all(|process| process.dead)
}

struct Process {
    pid: Pid,
    /// A zombie.
    dead: bool,
    /// The worker's own child, so that it can be reaped.
    ours: bool,
}

#[cfg(not(target_os = "linux"))]
fn below() -> Vec<Process> {
    Vec::new()
}

/// Every process below the worker, from one pass over `/proc`.
#[cfg(target_os = "linux")]
fn below() -> Vec<Process> {
    let me = rustix::process::getpid().as_raw_pid();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let all: std::collections::HashMap<i32, (i32, bool)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| Some((pid, parent_and_state(pid)?)))
        .collect();
    let descends = |mut pid: i32| {
        // A bound for a table that changed while it was read.
        for _ in 0..all.len() {
            match all.get(&pid) {
                Some((parent, _)) if *parent == me => return true,
                Some((parent, _)) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    all.iter()
        .filter(|(pid, _)| descends(**pid))
        .filter_map(|(pid, (parent, dead))| {
            Some(Process {
                pid: Pid::from_raw(*pid)?,
                dead: *dead,
                ours: *parent == me,
            })
        })
        .collect()
}

/// The parent's pid, and whether the process is a zombie.
#[cfg(target_os = "linux")]
fn parent_and_state(pid: i32) -> Option<(i32, bool)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses included.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let dead = matches!(fields.next()?, "Z" | "X");
    Some((fields.next()?.parse().ok()?, dead))
}
