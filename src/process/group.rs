//! The child and everything in its process group, and how they are ended.
//!
//! Knows no limits and no reasons: it is told when grace is over, and when to give up.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::descendants::{self, Descendants, Reaped};

/// How often to look for the leader's end where no signal tells of it, which is rare.
const UNTOLD: Duration = Duration::from_secs(1);
/// How often to look whether what was told to end has ended: deaths of grandchildren are not told.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The leader, its group, and what escaped from it.
pub(super) struct Group {
    /// The leader's pid. Once the leader is reaped this is the group's id alone, which nobody else
    /// can get as long as the group has a member.
    id: Pid,
    leader: Leader,
    descendants: Descendants,
    /// Nothing is left, or what is left cannot be ended.
    over: bool,
}

#[derive(Clone, Copy)]
enum Leader {
    Alive,
    Dead(ExitStatus),
    /// Somebody else reaped it.
    Lost,
}

impl Group {
    pub(super) fn of(leader: &Child, descendants: Descendants) -> io::Result<Self> {
        let id = i32::try_from(leader.id()).ok().and_then(Pid::from_raw);
        Ok(Self {
            id: id.ok_or_else(|| io::Error::other("the child has no pid"))?,
            leader: Leader::Alive,
            descendants,
            over: false,
        })
    }

    /// Waits for the leader, and reaps what else has become the worker's to reap meanwhile.
    ///
    /// `None` where its status is nowhere to be had.
    pub(super) async fn leader_ended(&mut self) -> Option<ExitStatus> {
        loop {
            self.reap();
            match self.leader {
                Leader::Alive => self.descendants.death(UNTOLD).await,
                Leader::Dead(status) => return Some(status),
                Leader::Lost => return None,
            }
        }
    }

    /// SIGTERM, grace, SIGKILL to the group, then whatever escaped the group, until nothing is
    /// left or it is time to `give_up`: what forks faster than it dies, or sleeps
    /// uninterruptibly, must not keep the worker from reporting. The machine's end is its end.
    pub(super) async fn end(
        &mut self,
        grace: impl Future<Output = ()>,
        give_up: impl Future<Output = ()>,
    ) {
        if self.signal(Signal::TERM) {
            // What is stopped would not hear the other signal.
            self.signal(Signal::CONT);
            tokio::select! {
                () = self.emptied() => {}
                () = grace => {
                    self.signal(Signal::KILL);
                }
            }
        }
        tokio::select! {
            // In its order: even if there is no time left, everything is killed once.
            biased;
            () = self.swept() => {}
            () = give_up => {
                // What has become the worker's child since the last time.
                descendants::kill();
                tracing::warn!(pids = ?descendants::ours(), "these would not die");
            }
        }
        self.over = true;
    }

    /// Sends a signal to the group; false where nothing is left of it.
    fn signal(&self, signal: Signal) -> bool {
        kill_process_group(self.id, signal).is_ok()
    }

    /// Waits until the group has no member.
    async fn emptied(&mut self) {
        loop {
            self.reap();
            if test_kill_process_group(self.id).is_err() {
                return;
            }
            self.descendants.death(LOOK_AGAIN).await;
        }
    }

    /// Kills and reaps until nothing is left below the worker.
    async fn swept(&mut self) {
        while self.reap() && descendants::kill() {
            self.descendants.death(LOOK_AGAIN).await;
        }
    }

    /// Reaps everything that is dead; false where nothing is left alive below the worker.
    fn reap(&mut self) -> bool {
        loop {
            match descendants::reap() {
                Reaped::Dead(pid, status) if pid == self.id && self.is_alive() => {
                    self.leader = Leader::Dead(status);
                }
                Reaped::Dead(..) => {}
                Reaped::AllAlive => return true,
                Reaped::NoneLeft => {
                    if self.is_alive() {
                        self.leader = Leader::Lost;
                    }
                    return false;
                }
            }
        }
    }

    fn is_alive(&self) -> bool {
        matches!(self.leader, Leader::Alive)
    }
}

impl Drop for Group {
    /// The worker panicked, or nobody waits any more: what was started must not survive that.
    fn drop(&mut self) {
        if !self.over {
            self.signal(Signal::KILL);
            descendants::kill();
        }
    }
}

/// The exit status to go on with where the real one is lost.
pub(super) fn lost() -> ExitStatus {
    tracing::error!("the exit status was lost: somebody else waited for the child");
    ExitStatus::from_raw(Signal::KILL.as_raw())
}
