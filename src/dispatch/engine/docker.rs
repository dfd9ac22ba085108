//! The engine `docker`: runs are containers of a Docker Engine, on this machine or another one. A container has the
//! name of its run, and two labels. The engine must not remove a container that ends, because its exit code and its
//! output would be lost. Tried with Docker Engine 20.10.

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

use super::calls::{Found, Look, StartFailure};
use super::settings::DockerSettings;
use super::spec::Spec;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::{End, Seen};
use body::{DISPATCH_LABEL, RUN_LABEL, container};
pub use body::{Mount, Surroundings};
use client::{ApiClient, ApiError};

/// How long one request waits for the end of a container.
const END: Duration = Duration::from_secs(300);
/// How long the engine may take for a stop, in addition to the grace period.
const STOP: Duration = Duration::from_secs(30);

/// A Docker Engine, and the containers of one dispatch in it.
#[derive(Debug)]
pub struct Docker {
    client: ApiClient,
    settings: DockerSettings,
    surroundings: Surroundings,
    image_users: image::Users,
    /// The directory with one directory for the output of each run.
    dir: PathBuf,
    /// How often the output of each run could not be read.
    unread: Mutex<HashMap<String, u32>>,
}

impl Docker {
    pub fn new(
        client: ApiClient,
        settings: DockerSettings,
        surroundings: Surroundings,
        dir: PathBuf,
    ) -> Self {
        Self {
            client,
            settings,
            surroundings,
            image_users: image::Users::default(),
            dir,
            unread: Mutex::default(),
        }
    }

    /// Makes sure that the engine answers, and that it has the image and the network. Returns the address at which
    /// containers reach this machine, if it is not the loopback interface.
    pub async fn prepare(&self, say: &dyn Fn(&str)) -> eyre::Result<Option<IpAddr>> {
        let address = self.client.address().name();
        let asked = self.client.request(Method::GET, "version", &[]);
        self.client.call(asked).await.map_err(|error| {
            let why = error.why();
            eyre!("{why}; is it running, and may this user enter it? DOCKER_HOST names another one")
        })?;
        let image = &self.settings.image;
        let users = &self.image_users;
        let found = users.look_up(&self.client, image, say).await;
        found.map_err(|error| {
            eyre!(
                "{}; DESCARTES_DISPATCH_IMAGE names the image of the workers",
                error.why()
            )
        })?;
        if self.settings.network == "host" {
            return Ok(None);
        }
        let network = &self.settings.network;
        let asked = self
            .client
            .request(Method::GET, &format!("networks/{network}"), &[]);
        let network = self.client.call(asked).await.map_err(|error| {
            eyre!(
                "{}; DESCARTES_DISPATCH_NETWORK names the network of the workers' containers, for example host",
                error.why()
            )
        })?;
        let gateways = network.pointer("/IPAM/Config").and_then(Value::as_array);
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

    /// Makes and starts the container of a run. If it exists already, adopts it.
    pub async fn start(&self, run: &str, spec: &Spec) -> Result<Handle, StartFailure> {
        let image = spec.needs.image.as_ref().unwrap_or(&self.settings.image);
        let user = self.image_users.of(&self.client, image).await;
        let user = user.map_err(failure)?;
        let body = container(run, spec, &self.settings, &self.surroundings, &user);
        let request = self
            .client
            .request(Method::POST, "containers/create", &[("name", run)]);
        let request = request.header(CONTENT_TYPE, "application/json");
        let id = match self.client.call(request.body(body.to_string())).await {
            Ok(answer) => id_of(&answer).ok_or_else(|| garbage("the answer has no id"))?,
            Err(error) if error.code() == Some(409) => return self.adopt(run).await,
            Err(error) if error.code() == Some(404) => {
                // The image was removed since its user was looked up.
                let found = image::require(&self.client, image, &|_| {}).await;
                found.map_err(failure)?;
                return Err(StartFailure::Unknown(error.why()));
            }
            Err(error) => return Err(failure(error)),
        };
        self.begin(&id).await
    }

    /// Adopts the existing container with the name of a run, if it belongs to this dispatch. Starts it if it was only
    /// created.
    async fn adopt(&self, run: &str) -> Result<Handle, StartFailure> {
        let found = match self.inspect(run).await {
            Ok(found) => found,
            Err(error) if error.code() == Some(404) => {
                return Err(garbage("the container with this name was just removed"));
            }
            Err(error) => return Err(failure(error)),
        };
        let label = |name: &str| found.pointer(&format!("/Config/Labels/{name}"))?.as_str();
        if label(DISPATCH_LABEL) != Some(&self.surroundings.dispatch) {
            return Err(StartFailure::Failed(format!(
                "there is a container called {run} that is not of this dispatch; remove it"
            )));
        }
        let id = id_of(&found).ok_or_else(|| garbage("the container has no id"))?;
        if found.pointer("/State/Status").and_then(Value::as_str) == Some("created") {
            return self.begin(&id).await;
        }
        // A container that has ended must not begin again.
        Ok(Handle::Docker { container: id })
    }

    /// Starts a container that was created.
    async fn begin(&self, id: &str) -> Result<Handle, StartFailure> {
        let path = format!("containers/{id}/start");
        let request = self.client.request(Method::POST, &path, &[]);
        match self.client.call(request).await {
            Ok(_) => {}
            Err(error) if error.code() == Some(404) => {
                return Err(StartFailure::Unknown(error.why()));
            }
            Err(error) => return Err(failure(error)),
        }
        let container = id.to_owned();
        Ok(Handle::Docker { container })
    }

    /// Asks for the states of runs: with one request for all containers, and one more for each that does not run.
    pub async fn look(&self, asked: &[(String, Handle)]) -> Result<Vec<Look>, String> {
        let list = self.list().await.map_err(ApiError::why)?;
        let mut looks = Vec::new();
        for (run, handle) in asked {
            let id = container_of(handle);
            let listed = list
                .iter()
                .find(|found| id_of(found).as_deref() == Some(id));
            let state = listed.and_then(|found| found.get("State")?.as_str());
            let is_running = matches!(state, Some("running" | "paused" | "restarting" | "created"));
            let seen = if is_running {
                Seen::Running
            } else {
                // One container without a clear answer says nothing about the others.
                self.look_closely(run, id).await.unwrap_or_else(|error| {
                    tracing::debug!(run, why = error.why(), "a container is asked for again");
                    Seen::Unknown
                })
            };
            looks.push((run.clone(), seen));
        }
        Ok(looks)
    }

    /// Asks for the state of one container, and saves its output if it has ended.
    async fn look_closely(&self, run: &str, id: &str) -> Result<Seen, ApiError> {
        let found = match self.inspect(id).await {
            Ok(found) => found,
            Err(error) if error.code() == Some(404) => return Ok(Seen::Gone),
            Err(error) => return Err(error),
        };
        let state = found.pointer("/State/Status").and_then(Value::as_str);
        match state {
            Some("exited" | "dead") => {
                self.save_output(run, id, &found).await?;
                let code = found.pointer("/State/ExitCode").and_then(Value::as_i64);
                Ok(Seen::Ended(End {
                    code: code.and_then(|code| i32::try_from(code).ok()),
                    is_out_of_memory: is_out_of_memory(&found),
                }))
            }
            Some("removing") => Ok(Seen::Gone),
            Some(_) => Ok(Seen::Running),
            None => Ok(Seen::Unknown),
        }
    }

    /// Stops a container: SIGTERM, and SIGKILL after the grace period.
    pub async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), String> {
        let path = format!("containers/{}/stop", container_of(handle));
        let seconds = grace.as_secs().max(1).to_string();
        let request = self.client.request(Method::POST, &path, &[("t", &seconds)]);
        unless_gone(self.client.call_within(request, grace + STOP).await)
    }

    /// Waits until a container has ended. An error if it still runs after [`END`].
    pub async fn ended(&self, handle: &Handle) -> Result<(), String> {
        let path = format!("containers/{}/wait", container_of(handle));
        let request = self.client.request(Method::POST, &path, &[]);
        unless_gone(self.client.call_within(request, END).await)
    }

    /// Saves the output of a container.
    pub async fn harvest(&self, run: &str, handle: &Handle) -> Result<(), String> {
        let id = container_of(handle);
        match self.inspect(id).await {
            Ok(found) => {
                let saved = self.save_output(run, id, &found).await;
                saved.map_err(ApiError::why)
            }
            Err(error) => unless_gone(Err(error)),
        }
    }

    /// Removes a container, even if it runs.
    pub async fn remove(&self, handle: &Handle) -> Result<(), String> {
        let path = format!("containers/{}", container_of(handle));
        let query = [("force", "1"), ("v", "1")];
        let request = self.client.request(Method::DELETE, &path, &query);
        match self.client.call(request).await {
            // Another removal is under way.
            Err(error) if error.code() == Some(409) => Ok(()),
            result => unless_gone(result),
        }
    }

    /// All containers of this dispatch.
    pub async fn sweep(&self) -> Result<Vec<Found>, String> {
        let list = self.list().await.map_err(ApiError::why)?;
        let found = list.iter().filter_map(|container| {
            let run = container
                .pointer(&format!("/Labels/{RUN_LABEL}"))?
                .as_str()?;
            Some(Found {
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
        let dispatch = &self.surroundings.dispatch;
        format!(
            "to remove it: docker rm --force $(docker ps --all --quiet --filter label={DISPATCH_LABEL}={dispatch})"
        )
    }

    /// All containers of this dispatch.
    async fn list(&self) -> Result<Vec<Value>, ApiError> {
        let label = format!("{DISPATCH_LABEL}={}", self.surroundings.dispatch);
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

    async fn inspect(&self, container: &str) -> Result<Value, ApiError> {
        let path = format!("containers/{container}/json");
        self.client
            .call(self.client.request(Method::GET, &path, &[]))
            .await
    }
}

fn is_out_of_memory(found: &Value) -> bool {
    found.pointer("/State/OOMKilled") == Some(&Value::Bool(true))
}

/// The failure of a start for an error of the API.
fn failure(error: ApiError) -> StartFailure {
    match error.code() {
        None => StartFailure::Unknown(error.why()),
        // The request is wrong or forbidden, or the image does not exist. The next run would fail in the same way.
        Some(400 | 401 | 403 | 404) => StartFailure::Refused(error.why()),
        Some(_) => StartFailure::Failed(error.why()),
    }
}

/// The failure for an answer that cannot be used.
fn garbage(what: &str) -> StartFailure {
    StartFailure::Unknown(format!("the Docker Engine: {what}"))
}

/// A missing container counts as success, because there is nothing left to do.
fn unless_gone(result: Result<Value, ApiError>) -> Result<(), String> {
    match result {
        Err(error) if error.code() == Some(404) => Ok(()),
        result => result.map(drop).map_err(ApiError::why),
    }
}

fn id_of(container: &Value) -> Option<String> {
    container.get("Id")?.as_str().map(str::to_owned)
}

fn container_of(handle: &Handle) -> &str {
    match handle {
        Handle::Docker { container } => container,
        _ => "",
    }
}
