//! The engine `fly`: runs are machines of one app on Fly. A machine has the name of its run and metadata, and destroys
//! itself when its worker ends. The API has no way to repeat a request safely, its lists can lack machines, and a host
//! can be full: see the comments. Tested only with a server that behaves like the documentation of the API.

mod body;
mod client;
mod limiter;
mod machine;
mod secrets;
mod start;
mod stop;
#[cfg(test)]
mod tests;

pub use secrets::prefix as prefix_of_secrets;

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

use super::calls::{Found, Look, answer_of};
use super::settings::FlySettings;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::{End, Seen};
pub use body::DEFAULT_MEMORY;
use body::MAX_STOP_TIMEOUT;
use client::{ApiClient, ApiError, Kind};
use machine::{DISPATCH, Exit, Machine, RUN};
use secrets::AppSecrets;

/// The pause before a second list, if the first one has no machine: lists can be outdated.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// The pause between two questions for the states of runs, at the default rate of requests.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// How long the API may take for a stop, in addition to the grace period.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// An app on Fly, and the machines of one dispatch in it.
#[derive(Debug)]
pub struct Fly {
    client: ApiClient,
    settings: FlySettings,
    dispatch: String,
    stop_window: Duration,
    /// [`STOP_MARGIN`], except in tests.
    stop_margin: Duration,
    /// The directory with one directory for each run.
    dir: PathBuf,
    secrets: AppSecrets,
    /// The image with the digest of the first machine. All later machines get it, because a tag may move while the
    /// dispatch runs.
    pinned_image: RefCell<Option<String>>,
    /// The index of the region for the next machine.
    region: Cell<usize>,
    /// Set if no region had room: the time until which no machine is requested, and the length of this pause.
    full: Cell<Option<(Instant, Duration)>>,
    /// The runs whose request for a machine had no clear answer. The machine may exist.
    doubtful: RefCell<HashSet<String>>,
    /// The runs of machines, by the machine's id.
    runs: RefCell<HashMap<String, String>>,
    /// Machines that the API did not know when it was asked last.
    missing: RefCell<HashSet<String>>,
    /// Machines that are destroyed, or that the API did not know when they were to be removed.
    destroyed: RefCell<HashSet<String>>,
    /// For each machine that was asked to stop, the time at which it is destroyed by force.
    kills: RefCell<HashMap<String, Instant>>,
}

impl Fly {
    pub fn new(
        settings: FlySettings,
        dispatch: String,
        stop_window: Duration,
        dir: PathBuf,
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
            dir,
            pinned_image: RefCell::default(),
            region: Cell::default(),
            full: Cell::default(),
            doubtful: RefCell::default(),
            runs: RefCell::default(),
            missing: RefCell::default(),
            destroyed: RefCell::default(),
            kills: RefCell::default(),
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

    /// The pause between two questions for the states of runs. Workers report by themselves, so few questions are
    /// enough.
    pub fn look_pause(&self) -> Duration {
        LOOK_PAUSE / self.settings.rate
    }

    /// Asks for the states of runs: with one request for all machines, and one more for each that is not listed as
    /// running.
    pub async fn look(&self, asked: &[(String, Handle)]) -> Result<Vec<Look>, String> {
        let list = self.list(false).await.map_err(|error| error.why)?;
        self.note_living(&list);
        let (mut looks, mut first_trouble) = (Vec::new(), None);
        for (run, handle) in asked {
            let id = machine_of(handle);
            self.runs.borrow_mut().insert(id.to_owned(), run.clone());
            let mut listed = list.iter().map(Machine);
            let listed = listed.find(|machine| machine.id() == Some(id));
            let seen = match listed {
                Some(machine) if !machine.is_over() => {
                    self.missing.borrow_mut().remove(id);
                    Seen::Running
                }
                _ => self.look_closely(run, id).await.unwrap_or_else(|why| {
                    first_trouble.get_or_insert(why);
                    Seen::Unknown
                }),
            };
            looks.push((run.clone(), seen));
        }
        answer_of(looks, first_trouble)
    }

    /// Asks for the state of one machine, and saves the reason of its end.
    async fn look_closely(&self, run: &str, id: &str) -> Result<Seen, String> {
        let found = match self.get(&format!("machines/{id}")).await {
            Ok(found) => found,
            // The API still knows destroyed machines, but may not know a new machine yet.
            Err(error) if error.is_not_found() => {
                let is_first = self.missing.borrow_mut().insert(id.to_owned());
                return Ok(if is_first { Seen::Unknown } else { Seen::Gone });
            }
            Err(error) => return Err(error.why),
        };
        let found = Machine(&found);
        self.missing.borrow_mut().remove(id);
        if !found.is_over() {
            return Ok(Seen::Running);
        }
        if found.is_destroyed() {
            self.note_destroyed(id);
        }
        let Some(exit) = found.exit() else {
            let is_gone = found.is_destroyed();
            return Ok(if is_gone {
                Seen::Gone
            } else {
                Seen::Ended(End::default())
            });
        };
        self.save_reason(run, found, exit)?;
        Ok(Seen::Ended(End {
            code: exit.code,
            is_out_of_memory: exit.is_out_of_memory,
        }))
    }

    /// Writes to the run's log that the machine ran out of memory, which only the API knows.
    fn save_reason(&self, run: &str, machine: Machine, exit: Exit) -> Result<(), String> {
        if !exit.is_out_of_memory {
            return Ok(());
        }
        let memory = machine.memory_mib().unwrap_or_default();
        let dir = self.dir.join(run);
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

    /// All machines of this dispatch, also those that have ended. Destroyed machines come last: a run can have several
    /// machines, because the name of a destroyed machine can be used again.
    pub async fn sweep(&self) -> Result<Vec<Found>, String> {
        let why = |error: ApiError| error.why;
        let mut list = self.list(true).await.map_err(why)?;
        if list.is_empty() {
            sleep(SECOND_LOOK).await;
            list = self.list(true).await.map_err(why)?;
        }
        self.note_living(&list);
        let machines = list.iter().map(Machine);
        let mut machines: Vec<Machine> = machines
            .filter(|machine| !machine.never_started())
            .collect();
        machines.sort_by_key(|machine| machine.is_destroyed());
        let found = machines.into_iter().filter_map(|machine| {
            let (id, run) = (machine.id()?, machine.metadata(RUN)?);
            if machine.is_destroyed() {
                self.note_destroyed(id);
            }
            Some(Found {
                run: run.to_owned(),
                handle: self.adopt(run, id),
                is_started: true,
            })
        });
        Ok(found.collect())
    }

    /// Removes everything of this dispatch that is not a machine: its secrets.
    pub async fn clear(&self) -> Result<(), String> {
        let cleared = self.secrets.clear(&self.client).await;
        cleared.map_err(|error| error.why)
    }

    /// A sentence that says how the user can remove machines that the dispatch could not remove.
    pub fn how_to_remove(&self) -> String {
        let (app, dispatch) = (&self.settings.app, &self.dispatch);
        format!(
            "its machines have names that begin with {dispatch}-; `fly machine list --app {app}` shows them, and `fly machine destroy --force ID --app {app}` removes one; its secrets have names that begin with {}, `fly secrets list --app {app}` shows them, and `fly secrets unset NAME --app {app}` removes one",
            prefix_of_secrets(dispatch)
        )
    }

    /// The machines of this dispatch.
    async fn list(&self, with_destroyed: bool) -> Result<Vec<Value>, ApiError> {
        let filter = format!("metadata.{DISPATCH}");
        let mut query = vec![(filter.as_str(), self.dispatch.as_str())];
        if with_destroyed {
            query.push(("include_deleted", "true"));
        }
        let asked = self
            .client
            .call(Kind::List, Method::GET, "machines", &query, None);
        match asked.await? {
            // The filter of the API is checked again: machines of others must not be touched.
            Value::Array(list) => Ok(list
                .into_iter()
                .filter(|found| Machine(found).metadata(DISPATCH) == Some(&self.dispatch))
                .collect()),
            // The API is written in Go, which encodes an empty list as null.
            Value::Null => Ok(Vec::new()),
            _ => Err(garbage("the list of machines is not a list")),
        }
    }

    async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.client
            .call(Kind::Get, Method::GET, path, &[], None)
            .await
    }

    fn is_destroyed(&self, id: &str) -> bool {
        self.destroyed.borrow().contains(id)
    }

    fn note_destroyed(&self, id: &str) {
        self.destroyed.borrow_mut().insert(id.to_owned());
    }

    /// Machines that are listed and not destroyed exist, even if the API did not know them before.
    fn note_living(&self, list: &[Value]) {
        let mut destroyed = self.destroyed.borrow_mut();
        let living = list
            .iter()
            .map(Machine)
            .filter(|machine| !matches!(machine.state(), "destroyed" | "destroying"));
        for id in living.filter_map(Machine::id) {
            destroyed.remove(id);
        }
    }
}

/// The error for an answer that cannot be used.
fn garbage(what: &str) -> ApiError {
    ApiError {
        code: None,
        word: String::new(),
        why: format!("the Machines API: {what}"),
    }
}

fn machine_of(handle: &Handle) -> &str {
    match handle {
        Handle::Fly { machine } => machine,
        _ => "",
    }
}
