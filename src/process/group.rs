//! A child's process group: waits for the child, and ends it with everything in its group.
//!
//! Knows neither limits nor reasons: the caller decides when the grace period is over and when to give up.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::descendants::{self, ChildState, Descendants, POLL_WHILE_KILLING};
use super::launcher::{Launcher, LeaderEnd};

/// How often to check whether the leader has ended if no SIGCHLD arrives, which is rare.
const POLL_WITHOUT_SIGCHLD: Duration = Duration::from_secs(1);

/// The leader, its process group, and the processes that left the group.
pub(super) struct Group {
    /// The pid of the leader, which is also the id of the group.
    id: Pid,
    leader: Leader,
    launcher: Option<Launcher>,
    descendants: Descendants,
    /// Whether no descendant of the worker is left.
    is_over: bool,
}

/// The state of the leader.
#[derive(Clone, Copy)]
enum Leader {
    Running,
    /// Dead, but not reaped. Until it is reaped, the kernel gives its pid to no other process or
    /// group, so a signal to the group cannot hit anything else.
    Unreaped(ExitStatus),
    /// Reaped: no signal may be sent to the group any more.
    Reaped,
}

impl Group {
    pub(super) fn of(
        leader: &Child,
        launcher: Option<Launcher>,
        descendants: Descendants,
    ) -> io::Result<Self> {
        let id = i32::try_from(leader.id()).ok().and_then(Pid::from_raw);
        Ok(Self {
            id: id.ok_or_else(|| io::Error::other("the child has no pid"))?,
            leader: Leader::Running,
            launcher,
            descendants,
            is_over: false,
        })
    }

    /// Waits until the leader has ended, or until the launcher reports the end of the program. Reaps orphans meanwhile.
    pub(super) async fn wait_for_leader_end(&mut self) -> LeaderEnd {
        loop {
            self.update_leader_and_reap_others();
            // The launcher reports before it ends, so its report must be read after the leader's state.
            if let Some(end) = self.launcher.as_mut().and_then(Launcher::reported_end) {
                return end;
            }
            match self.leader {
                Leader::Running => {
                    let death = self.descendants.wait_for_death(POLL_WITHOUT_SIGCHLD);
                    match &mut self.launcher {
                        None => death.await,
                        Some(launcher) => tokio::select! {
                            () = death => {}
                            () = launcher.wait_for_message() => {}
                        },
                    }
                }
                Leader::Unreaped(status) => return LeaderEnd::Status(Some(status)),
                Leader::Reaped => return LeaderEnd::Status(None),
            }
        }
    }

    /// Sends SIGTERM to the group, waits for the grace period, and sends SIGKILL to the group. Then sends SIGKILL to
    /// every other descendant until none is left, or until `give_up` ends: processes that fork faster than they die,
    /// or that sleep uninterruptibly, must not keep the worker from reporting.
    pub(super) async fn end(
        &mut self,
        grace: impl Future<Output = ()>,
        give_up: impl Future<Output = ()>,
    ) {
        if self.has_living_process() {
            self.terminate();
            tokio::select! {
                () = self.wait_until_empty() => {}
                () = grace => self.signal(Signal::KILL),
            }
        }
        self.leader = Leader::Reaped;
        if let Some(launcher) = &self.launcher {
            launcher.kill_control_group();
        }
        tokio::select! {
            // `biased`: even if no time is left, everything is killed once.
            biased;
            () = self.descendants.kill_all() => self.is_over = true,
            () = give_up => {
                // Kills processes that have become the worker's children since the last round.
                descendants::kill_children();
                let pids = descendants::children_to_kill();
                tracing::warn!(?pids, "processes of the agent or a check survived SIGKILL; the run goes on without waiting for them");
            }
        }
    }

    /// Sends SIGTERM to the group, or to all processes in the namespace.
    fn terminate(&mut self) {
        // In a namespace, SIGTERM to the group would end bubblewrap, and with it everything at once.
        let launcher = self.launcher.as_mut();
        if let Some(launcher) = launcher.filter(|launcher| launcher.is_namespace)
            && launcher.terminate().is_ok()
        {
            return;
        }
        self.signal(Signal::TERM);
        // A stopped process would not receive SIGTERM.
        self.signal(Signal::CONT);
    }

    /// Sends a signal to the group, unless its id may already belong to another group.
    fn signal(&self, signal: Signal) {
        // Fails only if no process is left in the group, or if the launcher has not made the group yet.
        if !matches!(self.leader, Leader::Reaped) && kill_process_group(self.id, signal).is_err() {
            let _ = kill_process(self.id, signal);
        }
    }

    /// Whether the group has a living process.
    fn has_living_process(&mut self) -> bool {
        self.update_leader_and_reap_others();
        match self.leader {
            Leader::Running => true,
            Leader::Unreaped(_) => descendants::has_living_member(self.id),
            Leader::Reaped => false,
        }
    }

    /// Waits until no process of the group is alive.
    async fn wait_until_empty(&mut self) {
        while self.has_living_process() {
            self.descendants.wait_for_death(POLL_WHILE_KILLING).await;
        }
    }

    /// Updates the state of the leader without reaping it, and reaps all other dead children.
    fn update_leader_and_reap_others(&mut self) {
        if matches!(self.leader, Leader::Running) {
            self.leader = match descendants::peek(self.id) {
                ChildState::Running => Leader::Running,
                ChildState::Dead(status) => Leader::Unreaped(status),
                ChildState::NotAChild => Leader::Reaped,
            };
        }
        descendants::reap_all_except(self.id);
    }
}

impl Drop for Group {
    /// Kills all processes that the child started: after a panic, or if the caller stops waiting.
    /// [`super::kill_leftovers`] reaps them.
    fn drop(&mut self) {
        if !self.is_over {
            self.signal(Signal::KILL);
            descendants::kill_children();
        }
    }
}

/// The exit status to use if the real one is unknown.
pub(super) fn unknown_status() -> ExitStatus {
    tracing::error!(
        "the exit status of a child is unknown: another part of the worker waited for it"
    );
    ExitStatus::from_raw(Signal::KILL.as_raw())
}
