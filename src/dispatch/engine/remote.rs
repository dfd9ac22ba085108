//! The engines that answer in the background.

use std::net::IpAddr;
use std::time::Duration;

use super::calls::{Found, Look, StartFailure};
use super::command::CommandLines;
use super::docker::Docker;
use super::fly::Fly;
use super::settings::EngineKind;
use super::spec::Spec;
use crate::dispatch::journal::Handle;

/// An engine that is asked over a network, or by a program.
/// Every call has a time limit. An error says why there is no answer; the call may be repeated.
#[derive(Debug)]
pub enum Remote {
    Docker(Box<Docker>),
    Command(CommandLines),
    Fly(Box<Fly>),
}

impl Remote {
    pub fn kind(&self) -> EngineKind {
        match self {
            Self::Docker(_) => EngineKind::Docker,
            Self::Command(_) => EngineKind::Command,
            Self::Fly(_) => EngineKind::Fly,
        }
    }

    /// Makes sure that the engine answers and has what every run needs. Returns the address at which its workers
    /// reach this machine, if it is not the loopback interface.
    pub async fn prepare(&mut self, say: &dyn Fn(&str)) -> eyre::Result<Option<IpAddr>> {
        match self {
            Self::Docker(docker) => docker.prepare(say).await,
            Self::Command(_) => Ok(None),
            Self::Fly(fly) => fly.prepare(say).await,
        }
    }

    /// Starts a run, or finds it again by its name.
    pub async fn start(&self, run: &str, spec: &Spec) -> Result<Handle, StartFailure> {
        match self {
            Self::Docker(docker) => docker.start(run, spec).await,
            Self::Command(command) => command.start(run, spec).await,
            Self::Fly(fly) => fly.start(run, spec).await,
        }
    }

    /// Asks for the states of runs. When a run is reported as ended, its output is already in its files.
    pub async fn look(&self, asked: &[(String, Handle)]) -> Result<Vec<Look>, String> {
        match self {
            Self::Docker(docker) => docker.look(asked).await,
            Self::Command(command) => command.look(asked).await,
            Self::Fly(fly) => fly.look(asked).await,
        }
    }

    /// Sends a stop signal to a worker, and kills it if it has not ended after the grace period. Waits for its end.
    pub async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), String> {
        match self {
            Self::Docker(docker) => docker.stop(handle, grace).await,
            Self::Command(command) => command.stop(handle, grace).await,
            Self::Fly(fly) => fly.stop(handle, grace).await,
        }
    }

    /// Waits until a run has ended.
    pub async fn ended(&self, handle: &Handle) -> Result<(), String> {
        match self {
            Self::Docker(docker) => docker.ended(handle).await,
            Self::Command(command) => command.ended(handle).await,
            Self::Fly(fly) => fly.ended(handle).await,
        }
    }

    /// Writes the output of a run to its files.
    pub async fn harvest(&self, run: &str, handle: &Handle) -> Result<(), String> {
        match self {
            Self::Docker(docker) => docker.harvest(run, handle).await,
            // The command `look` has written the files. The Machines API has no output.
            Self::Command(_) | Self::Fly(_) => Ok(()),
        }
    }

    /// Makes the engine forget a run, whether it has ended or not.
    pub async fn remove(&self, run: &str, handle: &Handle) -> Result<(), String> {
        match self {
            Self::Docker(docker) => docker.remove(handle).await,
            Self::Command(command) => command.remove(run, handle).await,
            Self::Fly(fly) => fly.remove(handle).await,
        }
    }

    /// Removes things of this dispatch from the engine that do not belong to a single run.
    pub async fn clear(&self) -> Result<(), String> {
        match self {
            Self::Docker(_) | Self::Command(_) => Ok(()),
            Self::Fly(fly) => fly.clear().await,
        }
    }

    /// The pause between two questions about runs.
    pub fn look_pause(&self) -> Duration {
        match self {
            Self::Docker(_) | Self::Command(_) => Duration::from_secs(1),
            Self::Fly(fly) => fly.look_pause(),
        }
    }

    /// All runs of this dispatch that exist in the engine.
    pub async fn sweep(&self) -> Result<Vec<Found>, String> {
        match self {
            Self::Docker(docker) => docker.sweep().await,
            Self::Command(command) => Ok(command.sweep()),
            Self::Fly(fly) => fly.sweep().await,
        }
    }

    /// What the user must do about things of the dispatch that were not removed, for the reason `why`.
    pub fn leftovers(&self, why: &str) -> String {
        format!(
            "the engine {} may still have something of this dispatch ({why}); {}",
            self.kind(),
            self.how_to_remove()
        )
    }

    /// How the user removes what is left.
    fn how_to_remove(&self) -> String {
        match self {
            Self::Docker(docker) => docker.how_to_remove(),
            Self::Command(command) => command.how_to_remove(),
            Self::Fly(fly) => fly.how_to_remove(),
        }
    }
}
