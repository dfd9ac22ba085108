//! The engines to which requests are sent in the background: all except `local`.

use std::net::IpAddr;
use std::time::Duration;

use super::answers::{FoundRun, RunState, StartFailure};
use super::command::CommandLines;
use super::docker::Docker;
use super::fly::Fly;
use super::settings::EngineKind;
use super::spec::RunSpec;
use crate::dispatch::journal::Handle;

/// An engine that is reached over a network or by command lines.
///
/// Every call has a time limit. An error says why there is no answer. Every call can be repeated.
#[derive(Debug)]
pub enum RemoteEngine {
    Docker(Box<Docker>),
    Command(CommandLines),
    Fly(Box<Fly>),
}

impl RemoteEngine {
    pub fn kind(&self) -> EngineKind {
        match self {
            Self::Docker(_) => EngineKind::Docker,
            Self::Command(_) => EngineKind::Command,
            Self::Fly(_) => EngineKind::Fly,
        }
    }

    /// Makes sure that the engine answers and has what every run needs. `say` shows messages to the user. Returns the
    /// address at which its workers reach this machine, if it is not the loopback interface.
    pub async fn prepare(&mut self, say: &dyn Fn(&str)) -> eyre::Result<Option<IpAddr>> {
        match self {
            Self::Docker(docker) => docker.prepare(say).await,
            Self::Command(_) => Ok(None),
            Self::Fly(fly) => fly.prepare(say).await,
        }
    }

    /// Starts a run. If the engine has a run with this id already, returns its handle.
    pub async fn start(&self, run: &str, spec: &RunSpec) -> Result<Handle, StartFailure> {
        match self {
            Self::Docker(docker) => docker.start(run, spec).await,
            Self::Command(command) => command.start(run, spec).await,
            Self::Fly(fly) => fly.start(run, spec).await,
        }
    }

    /// Asks for the states of runs, each given by its id and handle. When the state says that a run has ended, its
    /// output is already in its files.
    pub async fn states_of(&self, runs: &[(String, Handle)]) -> Result<Vec<RunState>, String> {
        match self {
            Self::Docker(docker) => docker.states_of(runs).await,
            Self::Command(command) => command.states_of(runs).await,
            Self::Fly(fly) => fly.states_of(runs).await,
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

    /// Waits until a run has ended. An error can also mean that the run has not ended within the time limit.
    pub async fn wait_for_end(&self, handle: &Handle) -> Result<(), String> {
        match self {
            Self::Docker(docker) => docker.wait_for_end(handle).await,
            Self::Command(command) => command.wait_for_end(handle).await,
            Self::Fly(fly) => fly.wait_for_end(handle).await,
        }
    }

    /// Writes the output of a run to its files.
    pub async fn save_output(&self, run: &str, handle: &Handle) -> Result<(), String> {
        match self {
            Self::Docker(docker) => docker.save_output(run, handle).await,
            // The platform's command lines write the files themselves. The Machines API does not return output.
            Self::Command(_) | Self::Fly(_) => Ok(()),
        }
    }

    /// Removes a run from the engine, even if it has not ended.
    pub async fn remove(&self, run: &str, handle: &Handle) -> Result<(), String> {
        match self {
            Self::Docker(docker) => docker.remove(handle).await,
            Self::Command(command) => command.remove(run, handle).await,
            Self::Fly(fly) => fly.remove(handle).await,
        }
    }

    /// Removes the secrets of this dispatch from the engine, if the engine stores secrets.
    pub async fn remove_secrets(&self) -> Result<(), String> {
        match self {
            Self::Docker(_) | Self::Command(_) => Ok(()),
            Self::Fly(fly) => fly.remove_secrets().await,
        }
    }

    /// The pause between two requests for the states of runs.
    pub fn poll_interval(&self) -> Duration {
        match self {
            Self::Docker(_) | Self::Command(_) => Duration::from_secs(1),
            Self::Fly(fly) => fly.poll_interval(),
        }
    }

    /// All runs of this dispatch that exist in the engine.
    pub async fn find_runs(&self) -> Result<Vec<FoundRun>, String> {
        match self {
            Self::Docker(docker) => docker.find_runs().await,
            Self::Command(command) => Ok(command.find_runs()),
            Self::Fly(fly) => fly.find_runs().await,
        }
    }

    /// A message for the user: things of the dispatch were not removed for the reason `why`, and how to remove them.
    pub fn leftovers_message(&self, why: &str) -> String {
        format!(
            "the engine {} may still have something of this dispatch ({why}); {}",
            self.kind(),
            self.how_to_remove()
        )
    }

    /// How the user removes everything of the dispatch from the engine.
    fn how_to_remove(&self) -> String {
        match self {
            Self::Docker(docker) => docker.how_to_remove(),
            Self::Command(command) => command.how_to_remove(),
            Self::Fly(fly) => fly.how_to_remove(),
        }
    }
}
