//! The request for a container.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::settings::DockerSettings;
use super::super::spec::Spec;

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

/// Facts that are the same for all containers of a dispatch, apart from the settings.
#[derive(Debug)]
pub struct Surroundings {
    pub dispatch: String,
    /// The directories of the repository that workers clone from and push to. Empty if the repository is remote.
    pub mounts: Vec<Mount>,
    /// This process's user and group, to which the repository belongs.
    pub user: (u32, u32),
    pub stop_window: Duration,
}

/// The body of the request that makes a container. `image_user` is the user of its image, as the image names it.
pub fn container(
    run: &str,
    spec: &Spec,
    settings: &DockerSettings,
    surroundings: &Surroundings,
    image_user: &str,
) -> Value {
    let mut variables = spec.environment(run);
    let mut user = String::new();
    if !surroundings.mounts.is_empty() {
        let (uid, gid) = surroundings.user;
        user = format!("{uid}:{gid}");
        let image_user = image_user.split(':').next().unwrap_or_default();
        // The image's home directory belongs to another user.
        if uid != 0 && image_user != uid.to_string() {
            variables.push(("HOME".to_owned(), "/tmp".to_owned()));
        }
    }
    let pairs: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mounts: Vec<Value> = surroundings.mounts.iter().map(mount).collect();
    let memory = spec.memory.unwrap_or_default();
    let mut host = json!({
        "NetworkMode": settings.network,
        "Memory": memory,
        // As much as the memory: no swap.
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
        "Labels": { (DISPATCH_LABEL): surroundings.dispatch, (RUN_LABEL): run },
        "StopSignal": "SIGTERM",
        "StopTimeout": surroundings.stop_window.as_secs().max(1),
        "HostConfig": host,
    })
}

fn mount(mount: &Mount) -> Value {
    let dir = mount.dir.to_string_lossy();
    json!({ "Type": "bind", "Source": dir, "Target": dir, "ReadOnly": mount.is_read_only })
}
