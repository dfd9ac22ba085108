//! The body of the request that creates a container.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::settings::DockerSettings;
use super::super::spec::RunSpec;

/// The label with the dispatch's id, by which all containers of the dispatch are found.
pub const DISPATCH_LABEL: &str = "descartes-dispatch";
/// The label with the run's id.
pub const RUN_LABEL: &str = "descartes-run";

/// A directory of this machine that containers see at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub dir: PathBuf,
    pub is_read_only: bool,
}

/// The facts about a dispatch that its containers need, in addition to the settings.
#[derive(Debug)]
pub struct DispatchContext {
    /// The id of the dispatch.
    pub dispatch: String,
    /// The directories of the repository that workers clone from and push to. Empty if the repository is remote.
    pub mounts: Vec<Mount>,
    /// The ids of the user and the group of this process, to which the repository belongs.
    pub user: (u32, u32),
    /// The time between a stop signal and a kill.
    pub stop_window: Duration,
}

/// The body of the request that creates a container. `image_user` is the value of `User` in the image's configuration.
pub fn container_body(
    run: &str,
    spec: &RunSpec,
    settings: &DockerSettings,
    context: &DispatchContext,
    image_user: &str,
) -> Value {
    let mut variables = spec.environment(run);
    let mut user = String::new();
    if !context.mounts.is_empty() {
        let (uid, gid) = context.user;
        user = format!("{uid}:{gid}");
        let image_user = image_user.split(':').next().unwrap_or_default();
        // The image's home directory belongs to another user, so the worker could not write to it.
        if uid != 0 && image_user != uid.to_string() {
            variables.push(("HOME".to_owned(), "/tmp".to_owned()));
        }
    }
    let pairs: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mounts: Vec<Value> = context.mounts.iter().map(mount_json).collect();
    let memory = spec.memory.unwrap_or_default();
    let mut host = json!({
        "NetworkMode": settings.network,
        "Memory": memory,
        // The limit for memory and swap together: with the same value, the container gets no swap.
        "MemorySwap": memory,
        "NanoCpus": spec.needs.nano_cpus.or(settings.nano_cpus).unwrap_or_default(),
        "Mounts": mounts,
        "RestartPolicy": { "Name": "no" },
        "LogConfig": { "Type": "json-file", "Config": { "max-size": "64m", "max-file": "2" } },
    });
    if settings.network != "host" {
        host["ExtraHosts"] = json!(["host.docker.internal:host-gateway"]);
    }
    json!({
        "Image": spec.needs.image.as_ref().unwrap_or(&settings.image),
        "Env": pairs,
        "User": user,
        "Labels": { (DISPATCH_LABEL): context.dispatch, (RUN_LABEL): run },
        "StopSignal": "SIGTERM",
        "StopTimeout": context.stop_window.as_secs().max(1),
        "HostConfig": host,
    })
}

fn mount_json(mount: &Mount) -> Value {
    let dir = mount.dir.to_string_lossy();
    json!({ "Type": "bind", "Source": dir, "Target": dir, "ReadOnly": mount.is_read_only })
}
