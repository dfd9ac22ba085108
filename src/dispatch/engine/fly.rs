//! The engine `fly`: runs are machines of one app on Fly. A machine's name is the id of its run, its metadata has the
//! ids of dispatch, task and run, and it destroys itself when its worker ends. The API has no idempotency keys, its
//! lists can lack machines, and a region can have no capacity: the comments say how the engine handles that. Tested
//! only with a server that behaves like the documentation of the API.

mod body;
mod client;
mod limiter;
mod machine;
mod secrets;
mod start;
mod stop;
#[cfg(test)]
mod tests;

pub use secrets::secret_prefix;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use eyre::bail;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::answers::{FoundRun, RunState, states_or_error};
use super::settings::FlySettings;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::{WorkerEnd, WorkerState};
pub use body::DEFAULT_MEMORY;
use body::MAX_STOP_TIMEOUT;
use client::{ApiClient, ApiError, RequestKind};
use machine::{DISPATCH_KEY, Exit, Machine, RUN_KEY};
use secrets::AppSecrets;

/// The pause before the list of machines is requested a second time, because the first one lacks a machine: lists can
/// be outdated.
const SECOND_LIST_PAUSE: Duration = Duration::from_secs(1);
/// The pause between two requests for the states of runs, if the API allows one request per second.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How long the API may take for a stop, in addition to the grace period.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// A pause in the requests for machines, because no region has capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CapacityPause {
    end: Instant,
    length: Duration,
}

/// An app on Fly, and the machines of one dispatch in it.
#[derive(Debug)]
pub struct Fly {
    client: ApiClient,
    settings: FlySettings,
    /// The id of the dispatch.
    dispatch: String,
    /// The time between a stop signal and a kill.
    stop_window: Duration,
    /// [`STOP_MARGIN`], except in tests.
    stop_margin: Duration,
    /// The directory with one directory for the output of each run.
    runs_dir: PathBuf,
    secrets: AppSecrets,
    /// The image of the first machine, with its digest. All later machines get it, because a tag may get another image
    /// while the dispatch runs.
    pinned_image: RefCell<Option<String>>,
    /// The index of the first region to try for the next machine.
    next_region: Cell<usize>,
    /// The last pause; `None` after a request that found capacity.
    capacity_pause: Cell<Option<CapacityPause>>,
    /// The ids of the runs whose request for a machine had no clear answer. The machine may exist.
    unclear_runs: RefCell<HashSet<String>>,
    /// The ids of runs, by the id of the machine.
    runs_by_machine: RefCell<HashMap<String, String>>,
    /// The ids of machines for which the last answer of the API was 404.
    not_found: RefCell<HashSet<String>>,
    /// The ids of machines that are destroyed, or for which the API answered 404 to a removal or twice to a wait.
    destroyed: RefCell<HashSet<String>>,
    /// The times at which machines that are stopping are destroyed by force, by the id of the machine.
    kill_times: RefCell<HashMap<String, Instant>>,
}

impl Fly {
    pub fn new(
        settings: FlySettings,
        dispatch: String,
        stop_window: Duration,
        runs_dir: PathBuf,
    ) -> eyre::Result<Self> {
        let token = settings.token.expose_secret();
        let client = ApiClient::new(&settings.api, &settings.app, token, settings.rate)?;
        Ok(Self {
            client,
            settings,
            secrets: AppSecrets::new(&dispatch),
            dispatch,
            stop_window,
            stop_margin: STOP_MARGIN,
            runs_dir,
            pinned_image: RefCell::default(),
            next_region: Cell::default(),
            capacity_pause: Cell::default(),
            unclear_runs: RefCell::default(),
            runs_by_machine: RefCell::default(),
            not_found: RefCell::default(),
            destroyed: RefCell::default(),
            kill_times: RefCell::default(),
        })
    }

    /// Makes sure that the API answers and knows the app. Returns the address at which machines reach this one, if
    /// it runs on Fly.
    pub async fn prepare(&self, say: &dyn Fn(&str)) -> eyre::Result<Option<IpAddr>> {
        let app = &self.settings.app;
        match self.get("").await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => bail!(
                "{}: there is no app {app} that FLY_API_TOKEN may use; `fly apps create {app}` makes it, and DESCARTES_DISPATCH_FLY_APP names another one",
                error.why
            ),
            Err(error) => bail!(error.why),
        }
        if !self.settings.image.contains('@') {
            say(&format!(
                "the image {} has no digest: every run gets what the first machine of this dispatcher has got",
                self.settings.image
            ));
        }
        if self.stop_window > MAX_STOP_TIMEOUT {
            let most = MAX_STOP_TIMEOUT.as_secs();
            say(&format!(
                "Fly kills a machine {most} s after its stop signal, before DESCARTES_STOP_WINDOW is over"
            ));
        }
        Ok(self.settings.private_ip)
    }

    /// The pause between two requests for the states of runs. Workers report their end themselves, so few requests are
    /// enough.
    pub fn poll_interval(&self) -> Duration {
        POLL_INTERVAL / self.settings.rate
    }

    /// Asks for the states of runs: with one request for all machines, and one more for each that is not listed as
    /// running.
    pub async fn states_of(&self, runs: &[(String, Handle)]) -> Result<Vec<RunState>, String> {
        let list = self.list(false).await.map_err(|error| error.why)?;
        self.note_existing(&list);
        let (mut states, mut first_error) = (Vec::new(), None);
        for (run, handle) in runs {
            let id = machine_id(handle);
            self.runs_by_machine
                .borrow_mut()
                .insert(id.to_owned(), run.clone());
            let mut listed = list.iter().map(Machine);
            let listed = listed.find(|machine| machine.id() == Some(id));
            let seen = match listed {
                Some(machine) if !machine.has_ended() => {
                    self.not_found.borrow_mut().remove(id);
                    WorkerState::Running
                }
                _ => self.get_state(run, id).await.unwrap_or_else(|why| {
                    first_error.get_or_insert(why);
                    WorkerState::Unknown
                }),
            };
            states.push((run.clone(), seen));
        }
        states_or_error(states, first_error)
    }

    /// Asks for the state of one machine. If the machine ran out of memory, writes that to the run's log.
    async fn get_state(&self, run: &str, id: &str) -> Result<WorkerState, String> {
        let machine = match self.get(&format!("machines/{id}")).await {
            Ok(machine) => machine,
            // The API still knows destroyed machines, but it may not know a new machine yet. So only the second 404
            // counts.
            Err(error) if error.is_not_found() => {
                let is_first = self.not_found.borrow_mut().insert(id.to_owned());
                return Ok(if is_first {
                    WorkerState::Unknown
                } else {
                    WorkerState::Gone
                });
            }
            Err(error) => return Err(error.why),
        };
        let machine = Machine(&machine);
        self.not_found.borrow_mut().remove(id);
        if !machine.has_ended() {
            return Ok(WorkerState::Running);
        }
        if machine.is_destroyed() {
            self.note_destroyed(id);
        }
        let Some(exit) = machine.exit() else {
            let is_gone = machine.is_destroyed();
            return Ok(if is_gone {
                WorkerState::Gone
            } else {
                WorkerState::Ended(WorkerEnd::default())
            });
        };
        self.log_out_of_memory(run, machine, exit)?;
        Ok(WorkerState::Ended(WorkerEnd {
            code: exit.code,
            is_out_of_memory: exit.is_out_of_memory,
        }))
    }

    /// If the machine ran out of memory, writes that to the run's log, because the worker could not.
    fn log_out_of_memory(&self, run: &str, machine: Machine, exit: Exit) -> Result<(), String> {
        if !exit.is_out_of_memory {
            return Ok(());
        }
        let memory = machine.memory_mib().unwrap_or_default();
        let dir = self.runs_dir.join(run);
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&dir)?;
            let mut log = OpenOptions::new()
                .create(true)
                .append(true)
                .open(dir.join("log"))?;
            writeln!(
                log,
                "fly: the machine ran out of memory; it has {memory} MiB"
            )
        };
        write().map_err(|error| format!("cannot write to {}: {error}", dir.display()))
    }

    /// The runs of all machines of this dispatch, also of those that have ended. Destroyed machines come last: a run
    /// can have several machines, because the name of a destroyed machine can be used again.
    pub async fn find_runs(&self) -> Result<Vec<FoundRun>, String> {
        let why = |error: ApiError| error.why;
        let mut list = self.list(true).await.map_err(why)?;
        if list.is_empty() {
            sleep(SECOND_LIST_PAUSE).await;
            list = self.list(true).await.map_err(why)?;
        }
        self.note_existing(&list);
        let machines = list.iter().map(Machine);
        let mut machines: Vec<Machine> = machines
            .filter(|machine| !machine.never_started())
            .collect();
        machines.sort_by_key(|machine| machine.is_destroyed());
        let found = machines.into_iter().filter_map(|machine| {
            let (id, run) = (machine.id()?, machine.metadata(RUN_KEY)?);
            if machine.is_destroyed() {
                self.note_destroyed(id);
            }
            Some(FoundRun {
                run: run.to_owned(),
                handle: self.adopt(run, id),
                is_started: true,
            })
        });
        Ok(found.collect())
    }

    /// Removes the secrets of this dispatch from the app.
    pub async fn remove_secrets(&self) -> Result<(), String> {
        let removed = self.secrets.remove_all(&self.client).await;
        removed.map_err(|error| error.why)
    }

    /// A sentence that says how the user can remove machines that the dispatch could not remove.
    pub fn how_to_remove(&self) -> String {
        let (app, dispatch) = (&self.settings.app, &self.dispatch);
        format!(
            "its machines have names that begin with {dispatch}-; `fly machine list --app {app}` shows them, and `fly machine destroy --force ID --app {app}` removes one; its secrets have names that begin with {}, `fly secrets list --app {app}` shows them, and `fly secrets unset NAME --app {app}` removes one",
            secret_prefix(dispatch)
        )
    }

    /// The API's descriptions of the machines of this dispatch.
    async fn list(&self, with_destroyed: bool) -> Result<Vec<Value>, ApiError> {
        let filter = format!("metadata.{DISPATCH_KEY}");
        let mut query = vec![(filter.as_str(), self.dispatch.as_str())];
        if with_destroyed {
            query.push(("include_deleted", "true"));
        }
        let answer = self
            .client
            .call(RequestKind::List, Method::GET, "machines", &query, None);
        match answer.await? {
            // Filter again, in case the API ignores the filter: machines of other dispatches must not be changed.
            Value::Array(list) => Ok(list
                .into_iter()
                .filter(|found| Machine(found).metadata(DISPATCH_KEY) == Some(&self.dispatch))
                .collect()),
            // The API is written in Go, which encodes an empty list as null.
            Value::Null => Ok(Vec::new()),
            _ => Err(unusable_answer("the list of machines is not a list")),
        }
    }

    /// Sends a GET request for a path below the app.
    async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.client
            .call(RequestKind::Get, Method::GET, path, &[], None)
            .await
    }

    /// Whether this engine has noted that a machine is destroyed.
    fn is_destroyed(&self, id: &str) -> bool {
        self.destroyed.borrow().contains(id)
    }

    fn note_destroyed(&self, id: &str) {
        self.destroyed.borrow_mut().insert(id.to_owned());
    }

    /// Notes that listed machines are not destroyed, unless their state says so, even if the API answered 404 before.
    fn note_existing(&self, list: &[Value]) {
        let mut destroyed = self.destroyed.borrow_mut();
        let existing = list
            .iter()
            .map(Machine)
            .filter(|machine| !matches!(machine.state(), "destroyed" | "destroying"));
        for id in existing.filter_map(Machine::id) {
            destroyed.remove(id);
        }
    }
}

/// The error for an answer that lacks necessary information.
fn unusable_answer(what: &str) -> ApiError {
    ApiError {
        code: None,
        status_word: String::new(),
        why: format!("the Machines API: {what}"),
    }
}

/// The id of the machine in a handle of this engine.
fn machine_id(handle: &Handle) -> &str {
    match handle {
        Handle::Fly { machine } => machine,
        _ => "",
    }
}
