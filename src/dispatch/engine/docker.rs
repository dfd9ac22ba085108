//! The engine `docker`: runs are containers of a Docker Engine, on this machine or another one. A container's name is
//! the id of its run, and its two labels are the ids of the dispatch and the run. Containers are created without
//! `AutoRemove`, because the exit code and the output of a container that has ended are still needed. Tested with
//! Docker Engine 20.10.

mod body;
pub mod client;
mod image;
mod logs;
mod output;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use eyre::{bail, eyre};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::answers::{FoundRun, RunState, StartFailure};
use super::settings::DockerSettings;
use super::spec::RunSpec;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::{WorkerEnd, WorkerState};
use body::{DISPATCH_LABEL, RUN_LABEL, container_body};
pub use body::{DispatchContext, Mount};
use client::{ApiClient, ApiError};
use image::ImageUsers;

/// How long one request waits for the end of a container.
const WAIT_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the engine may take for a stop, in addition to the grace period.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// A Docker Engine, and the containers of one dispatch in it.
#[derive(Debug)]
pub struct Docker {
    client: ApiClient,
    settings: DockerSettings,
    context: DispatchContext,
    image_users: ImageUsers,
    /// The directory with one directory for the output of each run.
    runs_dir: PathBuf,
    /// How often the output of a run could not be read, by the id of the run.
    failed_output_reads: Mutex<HashMap<String, u32>>,
}

impl Docker {
    pub fn new(
        client: ApiClient,
        settings: DockerSettings,
        context: DispatchContext,
        runs_dir: PathBuf,
    ) -> Self {
        Self {
            client,
            settings,
            context,
            image_users: ImageUsers::default(),
            runs_dir,
            failed_output_reads: Mutex::default(),
        }
    }

    /// Makes sure that the engine answers, and that it has the image and the network. Returns the address at which
    /// containers reach this machine, if it is not the loopback interface.
    pub async fn prepare(&self, say: &dyn Fn(&str)) -> eyre::Result<Option<IpAddr>> {
        let address = self.client.address().docker_host();
        let request = self.client.request(Method::GET, "version", &[]);
        self.client.call(request).await.map_err(|error| {
            let why = error.why();
            eyre!("{why}; is it running, and may this user enter it? DOCKER_HOST names another one")
        })?;
        let image = &self.settings.image;
        let users = &self.image_users;
        let user = users.look_up(&self.client, image, say).await;
        user.map_err(|error| {
            eyre!(
                "{}; DESCARTES_DISPATCH_IMAGE names the image of the workers",
                error.why()
            )
        })?;
        if self.settings.network == "host" {
            return Ok(None);
        }
        let network = &self.settings.network;
        let request = self
            .client
            .request(Method::GET, &format!("networks/{network}"), &[]);
        let description = self.client.call(request).await.map_err(|error| {
            eyre!(
                "{}; DESCARTES_DISPATCH_NETWORK names the network of the workers' containers, for example host",
                error.why()
            )
        })?;
        let gateways = description
            .pointer("/IPAM/Config")
            .and_then(Value::as_array);
        let mut gateways = gateways
            .into_iter()
            .flatten()
            .filter_map(|config| config.get("Gateway")?.as_str()?.parse::<IpAddr>().ok());
        match gateways.next() {
            Some(gateway) => Ok(Some(gateway)),
            None if self.settings.has_configured_url => Ok(None),
            None => bail!(
                "the network {} of the Docker Engine at {address} has no gateway at which workers would reach this machine: set DESCARTES_DISPATCH_LISTEN and DESCARTES_DISPATCH_URL, or choose another network with DESCARTES_DISPATCH_NETWORK",
                self.settings.network
            ),
        }
    }

    /// Creates and starts the container of a run. If a container with this name exists already, adopts it.
    pub async fn start(&self, run: &str, spec: &RunSpec) -> Result<Handle, StartFailure> {
        let image = spec.needs.image.as_ref().unwrap_or(&self.settings.image);
        let user = self.image_users.user_of(&self.client, image).await;
        let user = user.map_err(start_failure)?;
        let body = container_body(run, spec, &self.settings, &self.context, &user);
        let request = self
            .client
            .request(Method::POST, "containers/create", &[("name", run)]);
        let request = request.header(CONTENT_TYPE, "application/json");
        let id = match self.client.call(request.body(body.to_string())).await {
            Ok(answer) => id_of(&answer).ok_or_else(|| unusable_answer("the answer has no id"))?,
            Err(error) if error.code() == Some(409) => return self.adopt(run).await,
            Err(error) if error.code() == Some(404) => {
                // The image was removed since its user was looked up. Pull it again; `Unknown` makes the caller repeat
                // the request.
                let image = image::inspect_or_pull(&self.client, image, &|_| {}).await;
                image.map_err(start_failure)?;
                return Err(StartFailure::Unknown(error.why()));
            }
            Err(error) => return Err(start_failure(error)),
        };
        self.start_container(&id).await
    }

    /// Returns the handle of the existing container with the name of a run, if the container belongs to this dispatch.
    /// Starts the container if it was only created.
    async fn adopt(&self, run: &str) -> Result<Handle, StartFailure> {
        let description = match self.inspect(run).await {
            Ok(description) => description,
            Err(error) if error.code() == Some(404) => {
                return Err(unusable_answer(
                    "the container with this name was just removed",
                ));
            }
            Err(error) => return Err(start_failure(error)),
        };
        let label = |name: &str| {
            description
                .pointer(&format!("/Config/Labels/{name}"))?
                .as_str()
        };
        if label(DISPATCH_LABEL) != Some(&self.context.dispatch) {
            return Err(StartFailure::Failed(format!(
                "there is a container called {run} that is not of this dispatch; remove it"
            )));
        }
        let id = id_of(&description).ok_or_else(|| unusable_answer("the container has no id"))?;
        if description.pointer("/State/Status").and_then(Value::as_str) == Some("created") {
            return self.start_container(&id).await;
        }
        // If the container has ended, it must not start again: the run has been executed.
        Ok(Handle::Docker { container: id })
    }

    /// Starts a container that exists and was not started.
    async fn start_container(&self, id: &str) -> Result<Handle, StartFailure> {
        let path = format!("containers/{id}/start");
        let request = self.client.request(Method::POST, &path, &[]);
        match self.client.call(request).await {
            Ok(_) => {}
            Err(error) if error.code() == Some(404) => {
                return Err(StartFailure::Unknown(error.why()));
            }
            Err(error) => return Err(start_failure(error)),
        }
        let container = id.to_owned();
        Ok(Handle::Docker { container })
    }

    /// Asks for the states of runs: with one request for all containers, and one more for each that is not listed as
    /// running.
    pub async fn states_of(&self, runs: &[(String, Handle)]) -> Result<Vec<RunState>, String> {
        let list = self.list().await.map_err(ApiError::why)?;
        let mut states = Vec::new();
        for (run, handle) in runs {
            let id = container_id(handle);
            let listed = list
                .iter()
                .find(|container| id_of(container).as_deref() == Some(id));
            let state = listed.and_then(|container| container.get("State")?.as_str());
            let is_running = matches!(state, Some("running" | "paused" | "restarting" | "created"));
            let seen = if is_running {
                WorkerState::Running
            } else {
                // A failed request for one container does not affect the states of the others.
                self.inspect_state(run, id).await.unwrap_or_else(|error| {
                    tracing::debug!(run, why = error.why(), "a container is asked for again");
                    WorkerState::Unknown
                })
            };
            states.push((run.clone(), seen));
        }
        Ok(states)
    }

    /// Asks for the state of one container. If it has ended, writes its output to the run's files.
    async fn inspect_state(&self, run: &str, id: &str) -> Result<WorkerState, ApiError> {
        let description = match self.inspect(id).await {
            Ok(description) => description,
            Err(error) if error.code() == Some(404) => return Ok(WorkerState::Gone),
            Err(error) => return Err(error),
        };
        let state = description.pointer("/State/Status").and_then(Value::as_str);
        match state {
            Some("exited" | "dead") => {
                self.write_output(run, id, &description).await?;
                let code = description
                    .pointer("/State/ExitCode")
                    .and_then(Value::as_i64);
                Ok(WorkerState::Ended(WorkerEnd {
                    code: code.and_then(|code| i32::try_from(code).ok()),
                    is_out_of_memory: is_out_of_memory(&description),
                }))
            }
            Some("removing") => Ok(WorkerState::Gone),
            Some(_) => Ok(WorkerState::Running),
            None => Ok(WorkerState::Unknown),
        }
    }

    /// Stops a container: the engine sends SIGTERM, and SIGKILL after the grace period.
    pub async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), String> {
        let path = format!("containers/{}/stop", container_id(handle));
        let seconds = grace.as_secs().max(1).to_string();
        let request = self.client.request(Method::POST, &path, &[("t", &seconds)]);
        ok_if_missing(self.client.call_within(request, grace + STOP_MARGIN).await)
    }

    /// Waits until a container has ended. An error if it still runs after [`WAIT_TIMEOUT`].
    pub async fn wait_for_end(&self, handle: &Handle) -> Result<(), String> {
        let path = format!("containers/{}/wait", container_id(handle));
        let request = self.client.request(Method::POST, &path, &[]);
        ok_if_missing(self.client.call_within(request, WAIT_TIMEOUT).await)
    }

    /// Writes the output of a container to the run's files.
    pub async fn save_output(&self, run: &str, handle: &Handle) -> Result<(), String> {
        let id = container_id(handle);
        match self.inspect(id).await {
            Ok(description) => {
                let written = self.write_output(run, id, &description).await;
                written.map_err(ApiError::why)
            }
            Err(error) => ok_if_missing(Err(error)),
        }
    }

    /// Removes a container, even if it runs.
    pub async fn remove(&self, handle: &Handle) -> Result<(), String> {
        let path = format!("containers/{}", container_id(handle));
        let query = [("force", "1"), ("v", "1")];
        let request = self.client.request(Method::DELETE, &path, &query);
        match self.client.call(request).await {
            // The engine is already removing the container.
            Err(error) if error.code() == Some(409) => Ok(()),
            result => ok_if_missing(result),
        }
    }

    /// The runs of all containers of this dispatch.
    pub async fn find_runs(&self) -> Result<Vec<FoundRun>, String> {
        let list = self.list().await.map_err(ApiError::why)?;
        let found = list.iter().filter_map(|container| {
            let run = container
                .pointer(&format!("/Labels/{RUN_LABEL}"))?
                .as_str()?;
            Some(FoundRun {
                run: run.to_owned(),
                handle: Handle::Docker {
                    container: id_of(container)?,
                },
                is_started: container.get("State")?.as_str()? != "created",
            })
        });
        Ok(found.collect())
    }

    /// A sentence that says how the user can remove containers that the dispatch could not remove.
    pub fn how_to_remove(&self) -> String {
        let dispatch = &self.context.dispatch;
        format!(
            "to remove it: docker rm --force $(docker ps --all --quiet --filter label={DISPATCH_LABEL}={dispatch})"
        )
    }

    /// The engine's descriptions of all containers of this dispatch.
    async fn list(&self) -> Result<Vec<Value>, ApiError> {
        let label = format!("{DISPATCH_LABEL}={}", self.context.dispatch);
        let filters = json!({ "label": [label] }).to_string();
        let query = [("all", "1"), ("filters", &filters)];
        let request = self.client.request(Method::GET, "containers/json", &query);
        match self.client.call(request).await? {
            Value::Array(list) => Ok(list),
            _ => Err(ApiError::Unknown(
                "the list of containers is not a list".to_owned(),
            )),
        }
    }

    /// The engine's description of one container, given by its id or name.
    async fn inspect(&self, container: &str) -> Result<Value, ApiError> {
        let path = format!("containers/{container}/json");
        self.client
            .call(self.client.request(Method::GET, &path, &[]))
            .await
    }
}

/// Whether the kernel killed the container because it ran out of memory.
fn is_out_of_memory(description: &Value) -> bool {
    description.pointer("/State/OOMKilled") == Some(&Value::Bool(true))
}

/// The failure of a start after an error of the API.
fn start_failure(error: ApiError) -> StartFailure {
    match error.code() {
        None => StartFailure::Unknown(error.why()),
        // The request is wrong or forbidden, or the image does not exist. Every other run would fail in the same way.
        Some(400 | 401 | 403 | 404) => StartFailure::Refused(error.why()),
        Some(_) => StartFailure::Failed(error.why()),
    }
}

/// The failure of a start after an answer that lacks necessary information.
fn unusable_answer(what: &str) -> StartFailure {
    StartFailure::Unknown(format!("the Docker Engine: {what}"))
}

/// Counts a missing container as success, because there is nothing left to do.
fn ok_if_missing(result: Result<Value, ApiError>) -> Result<(), String> {
    match result {
        Err(error) if error.code() == Some(404) => Ok(()),
        result => result.map(drop).map_err(ApiError::why),
    }
}

/// The id in the engine's description of a container.
fn id_of(container: &Value) -> Option<String> {
    container.get("Id")?.as_str().map(str::to_owned)
}

/// The id of the container in a handle of this engine.
fn container_id(handle: &Handle) -> &str {
    match handle {
        Handle::Docker { container } => container,
        _ => "",
    }
}
