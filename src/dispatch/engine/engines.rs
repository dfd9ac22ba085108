//! All engines of a dispatch. Knows the engine and the last known state of each run, and the calls that are under way.
//! The engine `local` answers at once. Every other engine is asked by tasks in the background, whose results are events
//! ([`Engines::next_event`]), so that an engine that hangs delays nothing else.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use eyre::eyre;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::calls::{Event, Look, StartFailure};
use super::clean_up::{remove_all, remove_run, repeat};
use super::local::Local;
use super::places::{Places, Waited};
use super::remote::Remote;
use super::settings::{EngineChoice, EngineKind};
use super::spec::Spec;
use super::starting::Starts;
use super::station::Station;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::Seen;

/// How many events of engines may wait for the dispatcher.
const MAX_EVENTS: usize = 256;
/// How long a worker that has reported may take to end by itself.
const EXIT_GRACE: Duration = Duration::from_secs(30);

/// The engines of one dispatch.
#[derive(Debug)]
pub struct Engines {
    /// How long a start is repeated while the engine gives no answer.
    start_deadline: Duration,
    /// The directory with one directory for the output of each run.
    dir: PathBuf,
    local: Local,
    stations: Vec<Station>,
    places: Places,
    /// The end waits for them before it removes anything: they must not start what was removed.
    starts: Starts,
    seen: HashMap<String, Seen>,
    released: HashSet<String>,
    events: mpsc::Sender<Event>,
    events_receiver: mpsc::Receiver<Event>,
    /// Stops and clean-ups, which the end waits for.
    tasks: JoinSet<()>,
}

impl Engines {
    pub(super) fn new(
        choices: Vec<EngineChoice>,
        start_deadline: Duration,
        dir: PathBuf,
        local: Local,
        remotes: Vec<Remote>,
    ) -> Self {
        let (events, events_receiver) = mpsc::channel(MAX_EVENTS);
        let stations = remotes.into_iter().map(Station::new);
        Self {
            start_deadline,
            dir,
            local,
            stations: stations.collect(),
            places: Places::new(choices),
            starts: Starts::default(),
            seen: HashMap::new(),
            released: HashSet::new(),
            events,
            events_receiver,
            tasks: JoinSet::new(),
        }
    }

    /// The engines that the dispatch uses, for the journal.
    pub fn names(&self) -> Vec<String> {
        self.places.engine_names()
    }

    /// Makes sure that every engine answers and has what its runs need, before anything starts.
    /// Returns the address at which workers reach this machine, if it is not the loopback interface.
    pub async fn prepare(&mut self, say: &dyn Fn(&str)) -> eyre::Result<Option<IpAddr>> {
        let mut address = None;
        for station in &mut self.stations {
            // There is no other reference yet, because no call has been made.
            if let Some(remote) = Rc::get_mut(&mut station.remote) {
                address = address.or(remote.prepare(say).await?);
            }
        }
        Ok(address)
    }

    /// Chooses the engine for a run: the one that its task needs, or else the first one with room. A start that is repeated
    /// stays on the engine of the first one. `None` if the run has to wait for room.
    pub fn place(&mut self, run: &str, spec: &Spec) -> Option<EngineKind> {
        self.places.place(run, spec.needs.engine)
    }

    /// The last dispatcher was about to start a run on this engine, and may have started it.
    pub fn place_again(&mut self, run: &str, engine: EngineKind) {
        // All processes of this machine are found. A run that was not found has to start, and may do so anywhere.
        if self.station(engine).is_some() {
            self.places.insert(run, engine);
        }
    }

    /// A run that has ended needs no room.
    pub fn forget_place(&mut self, run: &str) {
        self.places.remove(run);
    }

    /// A start has failed, and the run may not work on its task any more. If the engine may have started it anyway, it is
    /// removed. A list can lack it: then it is removed at the end of the dispatch, and its claim is refused until then.
    pub fn end_failed_start(&mut self, run: &str, failure: &StartFailure) {
        let engine = self.places.remove(run);
        let Some(station) = engine.and_then(|engine| self.station(engine)) else {
            return;
        };
        if failure.is_unclear() {
            let (remote, run) = (Rc::clone(&station.remote), run.to_owned());
            self.tasks.spawn_local(async move {
                if let Err(why) = remove_run(&remote, &run).await {
                    tracing::debug!(run, why, "what a start may have left is not removed yet");
                }
            });
        }
    }

    /// A run without a place waits until its engine has room.
    pub fn wait_for_room(&mut self, run: String, spec: Spec) {
        self.places.queue(run, spec);
    }

    /// The runs that have waited for room.
    pub fn take_waiting(&mut self) -> Waited {
        self.places.take_waiting()
    }

    /// Starts a run on the engine of its place, or finds it again. `None` if the result comes as an event.
    pub fn start(&mut self, run: &str, spec: Spec) -> Option<Result<Handle, StartFailure>> {
        let engine = self.places.engine_of(run);
        let Some(station) = engine.and_then(|engine| self.station(engine)) else {
            let started = self.local.start(run, &spec);
            return Some(started.map_err(|error| StartFailure::Failed(format!("{error:#}"))));
        };
        let remote = Rc::clone(&station.remote);
        let (events, limit) = (self.events.clone(), self.start_deadline);
        self.starts.spawn(remote, run, spec, limit, events);
        None
    }

    /// Whether a start has no result yet.
    pub fn is_starting(&self, run: &str) -> bool {
        self.starts.contains(run) || self.places.is_waiting(run)
    }

    /// Ends all starts that wait for room in an engine.
    pub fn give_up_waiting(&mut self) {
        self.starts.give_up_waiting();
        self.places.give_up(None);
    }

    /// Ends the start of a run that is not needed any more.
    pub fn give_up(&mut self, run: &str) {
        self.starts.give_up(Some(run));
        self.places.give_up(Some(run));
    }

    /// The last known state of a run. The next [`Engines::ask_again`] asks the engine for the current state.
    pub fn look(&mut self, run: &str, handle: &Handle) -> Seen {
        let engine = engine_of(handle);
        self.places.insert(run, engine);
        let known = self.seen.get(run).copied().unwrap_or_default();
        let Some(station) = self.station_mut(engine) else {
            return match engine {
                EngineKind::Local => self.local.look(run, handle),
                // An earlier dispatcher used an engine that this one does not have.
                EngineKind::Docker | EngineKind::Command | EngineKind::Fly => Seen::Unknown,
            };
        };
        if !matches!(known, Seen::Ended(_) | Seen::Gone) {
            station.asked.push((run.to_owned(), handle.clone()));
        }
        known
    }

    /// Asks every engine about the runs for which [`Engines::look`] was called since the last question.
    pub fn ask_again(&mut self) {
        self.local.reap();
        for station in &mut self.stations {
            let asked = std::mem::take(&mut station.asked);
            if asked.is_empty() || station.is_looking || Instant::now() < station.next_look {
                continue;
            }
            station.is_looking = true;
            let (remote, events) = (Rc::clone(&station.remote), self.events.clone());
            tokio::task::spawn_local(async move {
                let answer = remote.look(&asked).await;
                let engine = remote.kind();
                let _ = events.send(Event::Looked { engine, answer }).await;
            });
        }
    }

    /// Ends a run: a stop signal, and after the grace period a kill. Returns at once.
    pub fn stop(&mut self, handle: &Handle, grace: Duration) {
        let remote = self.remote(handle);
        let handle = handle.clone();
        self.tasks.spawn_local(async move {
            match remote {
                Some(remote) => repeat(|| remote.stop(&handle, grace)).await,
                None => Local::stop(&handle, grace).await,
            }
        });
    }

    /// Cleans up after a run that is not needed any more: waits for the end of its worker, stops the worker if that
    /// takes too long, saves the output, and removes the run from the engine.
    pub fn release(&mut self, run: &str, handle: &Handle, grace: Duration) {
        self.places.remove(run);
        self.seen.remove(run);
        self.local.release(run);
        if !self.released.insert(run.to_owned()) {
            return;
        }
        let remote = self.remote(handle);
        let (run, handle) = (run.to_owned(), handle.clone());
        self.tasks.spawn_local(async move {
            let Some(remote) = remote else {
                if timeout(EXIT_GRACE, Local::ended(&handle)).await.is_err() {
                    Local::stop(&handle, grace).await;
                }
                return;
            };
            if timeout(EXIT_GRACE, repeat(|| remote.ended(&handle)))
                .await
                .is_err()
            {
                repeat(|| remote.stop(&handle, grace)).await;
            }
            repeat(|| remote.harvest(&run, &handle)).await;
            repeat(|| remote.remove(&run, &handle)).await;
        });
    }

    /// All runs of this dispatch that exist in the engines, with their ids.
    pub async fn sweep(&self) -> eyre::Result<Vec<(String, Handle)>> {
        let mut all = self.local.sweep();
        for station in &self.stations {
            let found = station.remote.sweep().await.map_err(|why| eyre!(why))?;
            // A container or machine that was only created is started again by its name.
            let started = found.into_iter().filter(|found| found.is_started);
            all.extend(started.map(|found| (found.run, found.handle)));
        }
        Ok(all)
    }

    /// The next event of an engine.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.events_receiver.recv().await
    }

    /// Stores the answer to [`Engines::ask_again`]; returns a sentence for the user, if there is news.
    pub fn note_states(
        &mut self,
        engine: EngineKind,
        answer: Result<Vec<Look>, String>,
    ) -> Option<String> {
        let station = self.station_mut(engine)?;
        station.is_looking = false;
        station.next_look = Instant::now() + station.remote.look_pause();
        match answer {
            Ok(looks) => {
                let words = station.answers_again();
                self.seen.extend(looks);
                words
            }
            Err(why) => {
                // A run without a known state may still run, so it never counts as ended. Runs that have ended stay
                // ended.
                let is_over = |seen: &Seen| matches!(seen, Seen::Ended(_) | Seen::Gone);
                let is_new = station.trouble.replace(why.clone()).is_none();
                let places = &self.places;
                self.seen
                    .retain(|run, seen| is_over(seen) || places.engine_of(run) != Some(engine));
                is_new.then(|| {
                    format!("the state of the runs on the engine {engine} is unknown until it answers: {why}")
                })
            }
        }
    }

    /// Notes that a start has a result; returns a sentence for the user, if there is news.
    pub fn note_start(&mut self, run: &str, is_started: bool) -> Option<String> {
        self.starts.remove(run, is_started);
        if !is_started {
            return None;
        }
        // There may be no look any more: the run may report before the next one.
        let engine = self.places.engine_of(run)?;
        self.station_mut(engine)?.answers_again()
    }

    /// Waits for stops and clean-ups, and removes everything that is left of the dispatch. Returns sentences about
    /// things that the user must remove.
    pub async fn close(&mut self, limit: Duration) -> Vec<String> {
        self.places.take_waiting();
        self.starts.give_up(None);
        // No event is received any more. With an open channel, tasks would wait for room for their events.
        self.events_receiver.close();
        let finished = async {
            self.starts.join().await;
            while self.tasks.join_next().await.is_some() {}
        };
        let is_late = timeout(limit, finished).await.is_err();
        // The engine may still be working on these requests.
        let unfinished = self.starts.unfinished();
        let busy: HashSet<EngineKind> = unfinished
            .filter_map(|run| self.places.engine_of(run))
            .collect();
        self.starts.abort();
        self.tasks.abort_all();
        let mut left = Vec::new();
        for station in &self.stations {
            let removed = remove_all(&station.remote).await;
            if let Err(why) = removed {
                left.push(station.remote.leftovers(&why));
            } else if busy.contains(&station.remote.kind()) {
                let why = "it has not answered to the start of a run in time";
                left.push(station.remote.leftovers(why));
            } else if is_late {
                tracing::warn!(
                    "the workers on an engine had not ended after {limit:?}, so they were removed by force"
                );
            }
        }
        left
    }

    /// What the user must do if the end of the dispatch does not wait for [`Engines::close`].
    pub fn leftovers(&self) -> Vec<String> {
        let why = "it was not waited for";
        let of_station = |station: &Station| station.remote.leftovers(why);
        self.stations.iter().map(of_station).collect()
    }

    /// The file with the standard output of a run.
    pub fn output(&self, run: &str) -> PathBuf {
        self.dir.join(run).join("stdout")
    }

    /// The directory with the directories of the runs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file with the standard error of a run.
    pub fn log(&self, run: &str) -> PathBuf {
        self.dir.join(run).join("log")
    }

    /// The engine of a handle, unless that is this machine.
    fn remote(&self, handle: &Handle) -> Option<Rc<Remote>> {
        let station = self.station(engine_of(handle))?;
        Some(Rc::clone(&station.remote))
    }

    fn station(&self, engine: EngineKind) -> Option<&Station> {
        self.stations
            .iter()
            .find(|station| station.remote.kind() == engine)
    }

    fn station_mut(&mut self, engine: EngineKind) -> Option<&mut Station> {
        self.stations
            .iter_mut()
            .find(|station| station.remote.kind() == engine)
    }
}

/// The engine that a handle belongs to.
pub fn engine_of(handle: &Handle) -> EngineKind {
    match handle {
        Handle::Local { .. } => EngineKind::Local,
        Handle::Docker { .. } => EngineKind::Docker,
        Handle::Command { .. } => EngineKind::Command,
        Handle::Fly { .. } => EngineKind::Fly,
    }
}

#[cfg(test)]
mod tests;
