//! All engines of a dispatch. Stores the engine and the last known state of each run, and the requests that have no
//! answer yet. The engine `local` answers at once. Background tasks send the requests to every other engine and report
//! the answers as events ([`Engines::next_event`]), so that an engine that hangs delays nothing else.

mod close;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use eyre::eyre;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::answers::{Event, RunState, StartFailure};
use super::clean_up::{remove_run, repeat_until_ok};
use super::connection::Connection;
use super::local::Local;
use super::pending_starts::PendingStarts;
use super::placement::{Placement, TakenRuns};
use super::remote::RemoteEngine;
use super::settings::{EngineChoice, EngineKind};
use super::spec::RunSpec;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::WorkerState;

/// How many events may wait until the dispatcher receives them. A background task that has another event waits too.
const MAX_EVENTS: usize = 256;
/// How long a worker whose run is released may take to end without a stop signal.
const EXIT_GRACE: Duration = Duration::from_secs(30);

/// The engines of one dispatch.
#[derive(Debug)]
pub struct Engines {
    /// How long a start is tried while the engine gives no clear answer.
    start_deadline: Duration,
    /// The directory with one directory for the output of each run.
    runs_dir: PathBuf,
    local: Local,
    /// The connections to all engines except `local`.
    connections: Vec<Connection>,
    placement: Placement,
    /// The starts that have no result yet. [`Engines::close`] waits for them before it removes anything. Otherwise they could
    /// start a removed run again.
    starts: PendingStarts,
    /// The last known states of runs on engines other than `local`, by the id of the run.
    last_states: HashMap<String, WorkerState>,
    /// The ids of the runs for which [`Engines::release`] was called.
    released_runs: HashSet<String>,
    event_sender: mpsc::Sender<Event>,
    event_receiver: mpsc::Receiver<Event>,
    /// Stops and clean-ups of single runs. [`Engines::close`] waits for them.
    tasks: JoinSet<()>,
}

impl Engines {
    pub(super) fn new(
        choices: Vec<EngineChoice>,
        start_deadline: Duration,
        runs_dir: PathBuf,
        local: Local,
        remotes: Vec<RemoteEngine>,
    ) -> Self {
        let (event_sender, event_receiver) = mpsc::channel(MAX_EVENTS);
        let connections = remotes.into_iter().map(Connection::new);
        Self {
            start_deadline,
            runs_dir,
            local,
            connections: connections.collect(),
            placement: Placement::new(choices),
            starts: PendingStarts::default(),
            last_states: HashMap::new(),
            released_runs: HashSet::new(),
            event_sender,
            event_receiver,
            tasks: JoinSet::new(),
        }
    }

    /// The names of the engines that the dispatch uses.
    pub fn engine_names(&self) -> Vec<String> {
        self.placement.engine_names()
    }

    /// Makes sure that every engine answers and has what its runs need. Must be called before any other request. `say`
    /// shows progress to the user. Returns the address at which workers reach this machine, if it is not the loopback
    /// interface.
    pub async fn prepare(&mut self, say: &dyn Fn(&str)) -> eyre::Result<Option<IpAddr>> {
        let mut address = None;
        for connection in &mut self.connections {
            // No background task has another reference yet, so `get_mut` always succeeds.
            if let Some(remote) = Rc::get_mut(&mut connection.remote) {
                address = address.or(remote.prepare(say).await?);
            }
        }
        Ok(address)
    }

    /// Chooses the engine of a run: the one that its task needs, or else the first one with a free slot. A run that is
    /// started again stays on its engine. `None` if the run must wait for a free slot.
    pub fn place(&mut self, run: &str, spec: &RunSpec) -> Option<EngineKind> {
        self.placement.place(run, spec.needs.engine)
    }

    /// Places a run on the engine on which the last dispatcher may have started it, so that it is not started on
    /// another engine too.
    pub fn restore_placement(&mut self, run: &str, engine: EngineKind) {
        // `local` has no connection, and needs no placement here: it finds its running workers by itself. A run whose worker
        // is gone may start on any engine.
        if self.connection(engine).is_some() {
            self.placement.insert(run, engine);
        }
    }

    /// Frees the slot of a run that has ended, or that must not work on its task any more.
    pub fn free_slot(&mut self, run: &str) {
        self.placement.remove(run);
    }

    /// Cleans up after a failed start of a run that must not work on its task any more: frees its slot, and removes the
    /// run if the engine may have started it. If the engine does not list the run yet, [`Engines::close`] removes it later.
    pub fn clean_up_failed_start(&mut self, run: &str, failure: &StartFailure) {
        let engine = self.placement.remove(run);
        let Some(connection) = engine.and_then(|engine| self.connection(engine)) else {
            return;
        };
        if failure.may_have_started() {
            let (remote, run) = (Rc::clone(&connection.remote), run.to_owned());
            self.tasks.spawn_local(async move {
                if let Err(why) = remove_run(&remote, &run).await {
                    tracing::debug!(run, why, "the run of a failed start is not removed yet");
                }
            });
        }
    }

    /// Makes a run wait for a free slot.
    pub fn queue(&mut self, run: String, spec: RunSpec) {
        self.placement.queue(run, spec);
    }

    /// Takes all runs that wait for a free slot. The caller must place each of them again, or end it.
    pub fn take_waiting(&mut self) -> TakenRuns {
        self.placement.take_waiting()
    }

    /// Starts a run on the engine that [`Engines::place`] has chosen. If the engine has the run already, the result is
    /// the handle of the existing one. `None` if the result comes later, as an event.
    pub fn start(&mut self, run: &str, spec: RunSpec) -> Option<Result<Handle, StartFailure>> {
        let engine = self.placement.engine_of(run);
        let Some(connection) = engine.and_then(|engine| self.connection(engine)) else {
            let result = self.local.start(run, &spec);
            return Some(result.map_err(|error| StartFailure::Failed(format!("{error:#}"))));
        };
        let remote = Rc::clone(&connection.remote);
        let events = self.event_sender.clone();
        self.starts
            .spawn(remote, run, spec, self.start_deadline, events);
        None
    }

    /// Whether the start of a run has no result yet, or the run waits for a free slot.
    pub fn is_starting(&self, run: &str) -> bool {
        self.starts.contains(run) || self.placement.is_waiting(run)
    }

    /// Gives up the starts of all runs that wait for a free slot or for capacity of their engine.
    pub fn give_up_waiting(&mut self) {
        self.starts.give_up_without_capacity();
        self.placement.give_up(None);
    }

    /// Gives up the start of a run that is not needed any more.
    pub fn give_up_start(&mut self, run: &str) {
        self.starts.give_up(Some(run));
        self.placement.give_up(Some(run));
    }

    /// Returns the last known state of a run, and notes the engine of its handle. Unless the run has ended, the next
    /// [`Engines::request_states`] asks this engine for the current state.
    pub fn refresh_state(&mut self, run: &str, handle: &Handle) -> WorkerState {
        let engine = EngineKind::of_handle(handle);
        self.placement.insert(run, engine);
        let known = self.last_states.get(run).copied().unwrap_or_default();
        let Some(connection) = self.connection_mut(engine) else {
            return match engine {
                EngineKind::Local => self.local.state_of(run, handle),
                // An earlier dispatcher used an engine that this one does not have.
                EngineKind::Docker | EngineKind::Command | EngineKind::Fly => WorkerState::Unknown,
            };
        };
        if !matches!(known, WorkerState::Ended(_) | WorkerState::Gone) {
            connection
                .runs_to_ask
                .push((run.to_owned(), handle.clone()));
        }
        known
    }

    /// Asks the engines for the states of the runs for which [`Engines::refresh_state`] was called since the last
    /// request. Skips an engine that has not answered the last request yet, or that was asked just before.
    pub fn request_states(&mut self) {
        self.local.reap();
        // An ended task keeps its memory until it is taken out of the set.
        while self.tasks.try_join_next().is_some() {}
        for connection in &mut self.connections {
            let runs = std::mem::take(&mut connection.runs_to_ask);
            if runs.is_empty() || connection.is_asking || Instant::now() < connection.next_request {
                continue;
            }
            connection.is_asking = true;
            let remote = Rc::clone(&connection.remote);
            let events = self.event_sender.clone();
            tokio::task::spawn_local(async move {
                let answer = remote.states_of(&runs).await;
                let engine = remote.kind();
                let _ = events.send(Event::States { engine, answer }).await;
            });
        }
    }

    /// Begins to stop a run, and returns at once. The worker gets a stop signal, and is killed if it still runs after
    /// the grace period.
    pub fn stop(&mut self, handle: &Handle, grace: Duration) {
        let remote = self.remote(handle);
        let handle = handle.clone();
        self.tasks.spawn_local(async move {
            match remote {
                Some(remote) => repeat_until_ok(|| remote.stop(&handle, grace)).await,
                None => Local::stop(&handle, grace).await,
            }
        });
    }

    /// Cleans up after a run that is not needed any more: waits for the end of its worker, stops the worker if that
    /// takes too long, saves the output, and removes the run from the engine.
    pub fn release(&mut self, run: &str, handle: &Handle, grace: Duration) {
        self.placement.remove(run);
        self.last_states.remove(run);
        self.local.release(run);
        if !self.released_runs.insert(run.to_owned()) {
            return;
        }
        let remote = self.remote(handle);
        let (run, handle) = (run.to_owned(), handle.clone());
        self.tasks.spawn_local(async move {
            let Some(remote) = remote else {
                if timeout(EXIT_GRACE, Local::wait_for_end(&handle))
                    .await
                    .is_err()
                {
                    Local::stop(&handle, grace).await;
                }
                return;
            };
            let end = repeat_until_ok(|| remote.wait_for_end(&handle));
            if timeout(EXIT_GRACE, end).await.is_err() {
                repeat_until_ok(|| remote.stop(&handle, grace)).await;
            }
            repeat_until_ok(|| remote.save_output(&run, &handle)).await;
            repeat_until_ok(|| remote.remove(&run, &handle)).await;
        });
    }

    /// The ids and handles of all started runs of this dispatch that exist in the engines.
    pub async fn find_runs(&self) -> eyre::Result<Vec<(String, Handle)>> {
        let mut all = self.local.find_runs();
        for connection in &self.connections {
            let found = connection
                .remote
                .find_runs()
                .await
                .map_err(|why| eyre!(why))?;
            // A run that was not started has no worker. If it is still needed, it is started again.
            let started = found.into_iter().filter(|found| found.is_started);
            all.extend(started.map(|found| (found.run, found.handle)));
        }
        Ok(all)
    }

    /// Waits for the next event.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.event_receiver.recv().await
    }

    /// Stores the answer to [`Engines::request_states`]. Returns a sentence for the user if the engine answers again,
    /// or does not answer any more.
    pub fn note_states(
        &mut self,
        engine: EngineKind,
        answer: Result<Vec<RunState>, String>,
    ) -> Option<String> {
        let connection = self.connection_mut(engine)?;
        connection.is_asking = false;
        connection.next_request = Instant::now() + connection.remote.poll_interval();
        match answer {
            Ok(states) => {
                let message = connection.note_answer();
                self.last_states.extend(states);
                message
            }
            Err(why) => {
                // From now on, the states of the engine's runs are unknown. Only an end is final.
                let has_ended =
                    |seen: &WorkerState| matches!(seen, WorkerState::Ended(_) | WorkerState::Gone);
                let is_new = connection.error.replace(why.clone()).is_none();
                let placement = &self.placement;
                self.last_states.retain(|run, seen| {
                    has_ended(seen) || placement.engine_of(run) != Some(engine)
                });
                is_new.then(|| {
                    format!("the state of the runs on the engine {engine} is unknown until it answers: {why}")
                })
            }
        }
    }

    /// Notes that a start has a result. Returns a sentence for the user if the engine answers again.
    pub fn note_start_result(&mut self, run: &str, has_succeeded: bool) -> Option<String> {
        self.starts.remove(run, has_succeeded);
        if !has_succeeded {
            return None;
        }
        // The engine is never asked for the state of a run that reports soon, so this can be the only sign that the engine
        // answers again.
        let engine = self.placement.engine_of(run)?;
        self.connection_mut(engine)?.note_answer()
    }

    /// The file with the standard output of a run.
    pub fn stdout_file(&self, run: &str) -> PathBuf {
        self.runs_dir.join(run).join("stdout")
    }

    /// The directory with one directory for the output of each run.
    pub fn runs_dir(&self) -> &Path {
        &self.runs_dir
    }

    /// The file with the standard error of a run.
    pub fn log_file(&self, run: &str) -> PathBuf {
        self.runs_dir.join(run).join("log")
    }

    /// The engine of a handle. `None` if that is `local`, or an engine that the dispatch does not use.
    fn remote(&self, handle: &Handle) -> Option<Rc<RemoteEngine>> {
        let connection = self.connection(EngineKind::of_handle(handle))?;
        Some(Rc::clone(&connection.remote))
    }

    /// The connection to an engine. `None` for `local`, and for an engine that the dispatch does not use.
    fn connection(&self, engine: EngineKind) -> Option<&Connection> {
        self.connections
            .iter()
            .find(|connection| connection.remote.kind() == engine)
    }

    fn connection_mut(&mut self, engine: EngineKind) -> Option<&mut Connection> {
        self.connections
            .iter_mut()
            .find(|connection| connection.remote.kind() == engine)
    }
}
