//! Opens the engines of a dispatch, and describes what an engine may still have of an earlier dispatch.

use std::path::PathBuf;
use std::time::Duration;

use eyre::bail;

use super::alternates::alternate_object_dirs;
use super::command::{self, CommandLines};
use super::docker::client::ApiClient;
use super::docker::{DispatchContext, Docker, Mount};
use super::engines::Engines;
use super::fly::{self, Fly};
use super::local::Local;
use super::remote::RemoteEngine;
use super::settings::{DockerSettings, EngineKind, FlySettings, Settings};

/// Facts about a dispatch that engines need.
#[derive(Debug)]
pub struct Context {
    /// The id of the dispatch.
    pub dispatch: String,
    /// The path of this program, which the engine `local` starts as a worker.
    pub program: PathBuf,
    /// The directory with one directory for the output of each run.
    pub runs_dir: PathBuf,
    /// The repository of this machine that workers clone from and push to; `None` if they use a remote one.
    pub repository: Option<PathBuf>,
    /// How long a start is tried while the engine gives no clear answer.
    pub start_deadline: Duration,
    /// The time between a stop signal and a kill.
    pub stop_window: Duration,
}

/// Opens the engines of the settings.
pub fn open(settings: &Settings, context: &Context) -> eyre::Result<Engines> {
    let runs_dir = context.runs_dir.clone();
    let local = Local::new(
        context.program.clone(),
        runs_dir.clone(),
        context.dispatch.clone(),
    );
    let mut remotes = Vec::new();
    if let Some(docker) = &settings.docker {
        remotes.push(RemoteEngine::Docker(Box::new(open_docker(
            docker, context,
        )?)));
    }
    if let Some(command) = &settings.command {
        let (dispatch, runs_dir) = (context.dispatch.clone(), runs_dir.clone());
        let command = CommandLines::new(command.clone(), dispatch, runs_dir, command::TIME_LIMIT);
        remotes.push(RemoteEngine::Command(command));
    }
    if let Some(fly) = &settings.fly {
        remotes.push(RemoteEngine::Fly(Box::new(open_fly(fly, context)?)));
    }
    let choices = settings.choices.clone();
    Ok(Engines::new(
        choices,
        context.start_deadline,
        runs_dir,
        local,
        remotes,
    ))
}

/// Opens the engine `docker`. Containers see the repository at the same path as this machine. They also see the object
/// directories of other repositories that it uses.
fn open_docker(settings: &DockerSettings, context: &Context) -> eyre::Result<Docker> {
    let mut mounts = Vec::new();
    if let Some(repository) = &context.repository {
        if settings.address.is_elsewhere() {
            bail!(
                "the Docker Engine at {} is on another machine, which cannot see the project's directory: use --repo with a URL that its containers can reach",
                settings.address.docker_host()
            );
        }
        mounts.push(Mount {
            dir: repository.clone(),
            is_read_only: false,
        });
        let dirs = alternate_object_dirs(repository)?.into_iter();
        mounts.extend(dirs.map(|dir| Mount {
            dir,
            is_read_only: true,
        }));
    }
    if settings.address.is_elsewhere() && !settings.has_configured_url {
        bail!(
            "the Docker Engine at {} is on another machine: say with DESCARTES_DISPATCH_LISTEN and DESCARTES_DISPATCH_URL how its containers reach this one",
            settings.address.docker_host()
        );
    }
    let dispatch_context = DispatchContext {
        dispatch: context.dispatch.clone(),
        mounts,
        user: (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
        stop_window: context.stop_window,
    };
    let client = ApiClient::new(settings.address.clone())?;
    Ok(Docker::new(
        client,
        settings.clone(),
        dispatch_context,
        context.runs_dir.clone(),
    ))
}

/// Opens the engine `fly`.
fn open_fly(settings: &FlySettings, context: &Context) -> eyre::Result<Fly> {
    if context.repository.is_some() {
        bail!(
            "machines of Fly cannot see the project's directory: use --repo with a URL that they can reach"
        );
    }
    if settings.private_ip.is_none() && !settings.has_configured_url {
        bail!(
            "machines of Fly cannot reach this one without help: say with DESCARTES_DISPATCH_LISTEN and DESCARTES_DISPATCH_URL how they do (a WireGuard peer, or a public URL), or run dispatch as a machine of the same organization"
        );
    }
    let (dispatch, runs_dir) = (context.dispatch.clone(), context.runs_dir.clone());
    Fly::new(settings.clone(), dispatch, context.stop_window, runs_dir)
}

/// Describes what an engine may still have of a dispatch whose journal was put aside; `None` if it has nothing.
pub fn describe_leftovers(engine: EngineKind, dispatch: &str) -> Option<String> {
    let with_prefix = |what: &str| format!("{what} with names that begin with {dispatch}-");
    match engine {
        // The worker processes end by themselves when they finish their tasks.
        EngineKind::Local => None,
        EngineKind::Docker => Some(with_prefix("containers")),
        EngineKind::Command => Some(with_prefix("runs")),
        EngineKind::Fly => Some(format!(
            "{}, and secrets of the app with names that begin with {}",
            with_prefix("machines"),
            fly::secret_prefix(dispatch)
        )),
    }
}
