//! Opens the engines of a dispatch, and describes things that an engine may still have of an earlier dispatch.

use std::path::PathBuf;
use std::time::Duration;

use eyre::bail;

use super::command::{self, CommandLines};
use super::docker::client::ApiClient;
use super::docker::{Docker, Mount, Surroundings};
use super::engines::Engines;
use super::fly::{self, Fly};
use super::local::Local;
use super::remote::Remote;
use super::repository_dirs::borrowed;
use super::settings::{DockerSettings, EngineKind, FlySettings, Settings};

/// Facts about a dispatch that engines need.
#[derive(Debug)]
pub struct Context {
    pub dispatch: String,
    /// This program, for the engine `local`.
    pub program: PathBuf,
    /// The directory that gets one directory for the output of each run.
    pub dir: PathBuf,
    /// The repository of this machine that workers clone from and push to; `None` if they use a remote one.
    pub repository: Option<PathBuf>,
    /// How long a start is repeated while the engine gives no answer.
    pub start_deadline: Duration,
    /// The time between a stop signal and a kill.
    pub stop_window: Duration,
}

/// Opens the engines of the settings.
pub fn open(settings: &Settings, context: &Context) -> eyre::Result<Engines> {
    let dir = context.dir.clone();
    let local = Local::new(
        context.program.clone(),
        dir.clone(),
        context.dispatch.clone(),
    );
    let mut remotes = Vec::new();
    if let Some(docker) = &settings.docker {
        remotes.push(Remote::Docker(Box::new(open_docker(docker, context)?)));
    }
    if let Some(command) = &settings.command {
        let (dispatch, dir) = (context.dispatch.clone(), dir.clone());
        let command = CommandLines::new(command.clone(), dispatch, dir, command::TIME_LIMIT);
        remotes.push(Remote::Command(command));
    }
    if let Some(fly) = &settings.fly {
        remotes.push(Remote::Fly(Box::new(open_fly(fly, context)?)));
    }
    let choices = settings.choices.clone();
    Ok(Engines::new(
        choices,
        context.start_deadline,
        dir,
        local,
        remotes,
    ))
}

/// Opens the engine `docker`. Containers see the repository, and the directories from which it borrows objects, at the
/// same paths.
fn open_docker(settings: &DockerSettings, context: &Context) -> eyre::Result<Docker> {
    let mut mounts = Vec::new();
    if let Some(repository) = &context.repository {
        if settings.address.is_elsewhere() {
            bail!(
                "the Docker Engine at {} is on another machine, which cannot see the project's directory: use --repo with a URL that its containers can reach",
                settings.address.name()
            );
        }
        mounts.push(Mount {
            dir: repository.clone(),
            is_read_only: false,
        });
        mounts.extend(borrowed(repository)?.into_iter().map(|dir| Mount {
            dir,
            is_read_only: true,
        }));
    }
    if settings.address.is_elsewhere() && !settings.has_configured_url {
        bail!(
            "the Docker Engine at {} is on another machine: say with DESCARTES_DISPATCH_LISTEN and DESCARTES_DISPATCH_URL how its containers reach this one",
            settings.address.name()
        );
    }
    let surroundings = Surroundings {
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
        surroundings,
        context.dir.clone(),
    ))
}

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
    let (dispatch, dir) = (context.dispatch.clone(), context.dir.clone());
    Fly::new(settings.clone(), dispatch, context.stop_window, dir)
}

/// A description of the things that an engine may still have of a dispatch whose journal was put aside.
pub fn left_behind(engine: EngineKind, dispatch: &str) -> Option<String> {
    let named = |what: &str| format!("{what} with names that begin with {dispatch}-");
    match engine {
        // The processes end with their tasks.
        EngineKind::Local => None,
        EngineKind::Docker => Some(named("containers")),
        EngineKind::Command => Some(named("runs")),
        EngineKind::Fly => Some(format!(
            "{}, and secrets of the app with names that begin with {}",
            named("machines"),
            fly::prefix_of_secrets(dispatch)
        )),
    }
}
