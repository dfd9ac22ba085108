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
use super::clean_up::{remove_all, repeat};
use super::local::Local;
use super::remote::Remote;
use super::settings::{EngineChoice, EngineKind};
use super::spec::Spec;
use super::starting::{GiveUp, start_until};
use super::station::Station;
use crate::dispatch::journal::Handle;
use crate::dispatch::state::Seen;

/// How many events of engines may wait for the dispatcher.
const MAX_EVENTS: usize = 256;
/// How long a worker that has reported may take to end by itself.
const EXIT_GRACE: Duration = Duration::from_secs(30);

/// A run that waits because the engine that its task needs has no room.
#[derive(Debug)]
struct Waiting {
    run: String,
    spec: Spec,
    /// Whether the run is not needed any more.
    is_given_up: bool,
}

/// The engines of one dispatch.
#[derive(Debug)]
pub struct Engines {
    choices: Vec<EngineChoice>,
    /// How long a start is repeated while the engine gives no answer.
    start_deadline: Duration,
    /// The directory with one directory for the output of each run.
    dir: PathBuf,
    local: Local,
    stations: Vec<Station>,
    /// The engine of each run.
    placed: HashMap<String, EngineKind>,
    /// How to end each start that has no result yet.
    starting: HashMap<String, Rc<GiveUp>>,
    waiting: Vec<Waiting>,
    seen: HashMap<String, Seen>,
    released: HashSet<String>,
    events: mpsc::Sender<Event>,
    events_receiver: mpsc::Receiver<Event>,
    /// The running starts. [`Engines::close`] waits for them before it removes anything: a late start would start a
    /// worker again.
    starts: JoinSet<()>,
    /// The running stops and clean-ups. [`Engines::close`] waits for them.
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
            choices,
            start_deadline,
            dir,
            local,
            stations: stations.collect(),
            placed: HashMap::new(),
            starting: HashMap::new(),
            waiting: Vec::new(),
            seen: HashMap::new(),
            released: HashSet::new(),
            events,
            events_receiver,
            starts: JoinSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// The engines that the dispatch uses, for the journal.
    pub fn words(&self) -> Vec<String> {
        let words = self.choices.iter().map(|choice| choice.engine.word());
        words.map(str::to_owned).collect()
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

    /// Starts a run on the engine that its task needs, or else on the first engine with room. If the run exists
    /// already, the engine finds it. `None` if the result comes later: as an event, or from
    /// [`Engines::start_waiting`].
    pub fn start(&mut self, run: &str, spec: Spec) -> Option<Result<Handle, StartFailure>> {
        let Some(engine) = self.choose(run, spec.needs.engine) else {
            self.waiting.push(Waiting {
                run: run.to_owned(),
                spec,
                is_given_up: false,
            });
            return None;
        };
        self.placed.insert(run.to_owned(), engine);
        let Some(station) = self.station(engine) else {
            let started = self.local.start(run, &spec);
            if started.is_err() {
                self.placed.remove(run);
            }
            return Some(started.map_err(|error| StartFailure::Failed(format!("{error:#}"))));
        };
        let remote = Rc::clone(&station.remote);
        let give_up = Rc::new(GiveUp::default());
        self.starting.insert(run.to_owned(), Rc::clone(&give_up));
        let (events, run, limit) = (self.events.clone(), run.to_owned(), self.start_deadline);
        self.starts.spawn_local(async move {
            let started = start_until(&remote, &run, &spec, limit, &give_up, &events).await;
            let _ = events.send(Event::Started { run, started }).await;
        });
        None
    }

    /// Starts the waiting runs whose engine has room now; returns the results that do not come as events.
    pub fn start_waiting(&mut self) -> Vec<(String, Result<Handle, StartFailure>)> {
        let mut results = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let started = if waiting.is_given_up {
                let why = "it was given up while it waited for room".to_owned();
                Some(Err(StartFailure::Full(why)))
            } else {
                // If there is still no room, the run waits again.
                self.start(&waiting.run, waiting.spec)
            };
            results.extend(started.map(|started| (waiting.run, started)));
        }
        results
    }

    /// Whether a start has no result yet.
    pub fn is_starting(&self, run: &str) -> bool {
        self.starting.contains_key(run) || self.waiting.iter().any(|waiting| waiting.run == run)
    }

    /// Ends the starts that wait for room in an engine: the start of one run, or all starts.
    pub fn give_up_waiting(&mut self, run: Option<&str>) {
        let is_meant = |name: &str| run.is_none_or(|run| run == name);
        for (_, give_up) in self.starting.iter().filter(|(name, _)| is_meant(name)) {
            give_up.waiting.notify_one();
        }
        for waiting in &mut self.waiting {
            waiting.is_given_up |= is_meant(&waiting.run);
        }
    }

    /// The last known state of a run. The next [`Engines::ask_again`] asks the engine for the current state.
    pub fn look(&mut self, run: &str, handle: &Handle) -> Seen {
        let engine = engine_of(handle);
        self.placed.insert(run.to_owned(), engine);
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
        let Some(station) = self.station(engine_of(handle)) else {
            return Local::stop(handle, grace);
        };
        let (remote, handle) = (Rc::clone(&station.remote), handle.clone());
        self.tasks.spawn_local(async move {
            repeat(|| remote.stop(&handle, grace)).await;
        });
    }

    /// Cleans up after a run that is not needed any more: waits for the end of its worker, stops the worker if that
    /// takes too long, saves the output, and removes the run from the engine.
    pub fn release(&mut self, run: &str, handle: &Handle, grace: Duration) {
        self.placed.remove(run);
        self.seen.remove(run);
        let Some(station) = self.station(engine_of(handle)) else {
            return self.local.release(run);
        };
        let remote = Rc::clone(&station.remote);
        if !self.released.insert(run.to_owned()) {
            return;
        }
        let (run, handle) = (run.to_owned(), handle.clone());
        self.tasks.spawn_local(async move {
            if timeout(EXIT_GRACE, repeat(|| remote.ended(&handle)))
                .await
                .is_err()
            {
                repeat(|| remote.stop(&handle, grace)).await;
            }
            repeat(|| remote.harvest(&run, &handle)).await;
            repeat(|| remote.remove(&handle)).await;
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
                let placed = &self.placed;
                self.seen
                    .retain(|run, seen| is_over(seen) || placed.get(run) != Some(&engine));
                is_new.then(|| {
                    format!("the state of the runs on the engine {engine} is unknown until it answers: {why}")
                })
            }
        }
    }

    /// Notes that a start has a result; returns a sentence for the user, if there is news.
    pub fn note_start(&mut self, run: &str, is_started: bool) -> Option<String> {
        self.starting.remove(run);
        while self.starts.try_join_next().is_some() {}
        if !is_started {
            self.placed.remove(run);
            return None;
        }
        // The run may report before its state is asked for again, so the engine's recovery must be noticed here.
        let engine = *self.placed.get(run)?;
        self.station_mut(engine)?.answers_again()
    }

    /// Waits for stops and clean-ups, and removes everything that is left of the dispatch. Returns sentences about
    /// things that the user must remove.
    pub async fn close(&mut self, limit: Duration) -> Vec<String> {
        self.waiting.clear();
        for give_up in self.starting.values() {
            give_up.trying.notify_one();
        }
        // No event is received any more. With an open channel, tasks would wait for room for their events.
        self.events_receiver.close();
        let finished = async {
            while self.starts.join_next().await.is_some() {}
            while self.tasks.join_next().await.is_some() {}
        };
        let is_late = timeout(limit, finished).await.is_err();
        self.starts.abort_all();
        self.tasks.abort_all();
        let mut left = Vec::new();
        for station in &self.stations {
            if let Err(why) = remove_all(&station.remote).await {
                let kind = station.remote.kind();
                let how = station.remote.how_to_remove();
                left.push(format!(
                    "the engine {kind} may still have something of this dispatch ({why}); {how}"
                ));
            } else if is_late {
                tracing::warn!(
                    "the workers on an engine had not ended after {limit:?}, so they were removed by force"
                );
            }
        }
        left
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

    /// The engine for a run: the engine that its task needs, else the first one with room. `None` if the needed engine
    /// has no room. A run that has an engine already keeps it.
    fn choose(&self, run: &str, needed: Option<EngineKind>) -> Option<EngineKind> {
        if let Some(engine) = self.placed.get(run) {
            return Some(*engine);
        }
        let has_room = |choice: &&EngineChoice| {
            let here = self
                .placed
                .values()
                .filter(|engine| **engine == choice.engine);
            choice.limit.is_none_or(|limit| here.count() < limit)
        };
        let mut choices = self.choices.iter();
        // Only engines of this dispatch count: a run would wait forever for another engine.
        let needed = choices.find(|choice| Some(choice.engine) == needed && choice.is_open());
        if let Some(needed) = needed {
            return has_room(&needed).then_some(needed.engine);
        }
        let mut choices = self.choices.iter();
        let choice = choices.find(has_room).or(self.choices.first());
        Some(choice.map_or(EngineKind::Local, |choice| choice.engine))
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
