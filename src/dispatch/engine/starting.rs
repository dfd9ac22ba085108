//! Starts runs in background tasks, because an engine may take long to answer.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::calls::{Event, StartFailure};
use super::remote::Remote;
use super::spec::Spec;
use crate::dispatch::journal::Handle;

/// The pause before a call that had no answer is repeated; it doubles up to [`MAX_PAUSE`].
pub const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between two calls.
pub const MAX_PAUSE: Duration = Duration::from_secs(15);
/// The pause before a run is started again whose last start has failed although its worker works.
const REPEATED_START_PAUSE: Duration = Duration::from_secs(2);

/// All starts that have no result yet.
#[derive(Debug, Default)]
pub struct Starts {
    by_run: HashMap<String, Starting>,
    /// The runs whose last start has failed.
    failed: HashSet<String>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Starting {
    give_up: Rc<GiveUp>,
    task: AbortHandle,
}

impl Starts {
    /// Starts a run in the background. The result is an event.
    pub fn spawn(
        &mut self,
        remote: Rc<Remote>,
        run: &str,
        spec: Spec,
        limit: Duration,
        events: mpsc::Sender<Event>,
    ) {
        let give_up = Rc::new(GiveUp::default());
        let (own_give_up, own_run) = (Rc::clone(&give_up), run.to_owned());
        let pause = self.failed.remove(run).then_some(REPEATED_START_PAUSE);
        let task = self.tasks.spawn_local(async move {
            let (run, give_up) = (own_run, own_give_up);
            let is_given_up = match pause {
                Some(pause) => timeout(pause, give_up.stop_trying.notified()).await.is_ok(),
                None => false,
            };
            let started = if is_given_up {
                Err(StartFailure::GivenUp("it was given up".to_owned()))
            } else {
                start_until(&remote, &run, &spec, limit, &give_up, &events).await
            };
            let _ = events.send(Event::Started { run, started }).await;
        });
        let starting = Starting { give_up, task };
        self.by_run.insert(run.to_owned(), starting);
    }

    pub fn contains(&self, run: &str) -> bool {
        self.by_run.contains_key(run)
    }

    /// Forgets the start of a run whose result has arrived.
    pub fn remove(&mut self, run: &str, is_started: bool) {
        self.by_run.remove(run);
        if !is_started {
            self.failed.insert(run.to_owned());
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// Ends all starts that wait for room.
    pub fn give_up_waiting(&self) {
        for starting in self.by_run.values() {
            starting.give_up.stop_waiting.notify_one();
        }
    }

    /// Stops repeating the start of this run, or all starts if `run` is `None`.
    pub fn give_up(&self, run: Option<&str>) {
        for (name, starting) in &self.by_run {
            if run.is_none_or(|run| run == name) {
                starting.give_up.stop_trying.notify_one();
            }
        }
    }

    /// Waits until all starts have ended.
    pub async fn join(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// The runs whose starts have not ended.
    pub fn unfinished(&self) -> impl Iterator<Item = &str> {
        let starting = self.by_run.iter();
        let unfinished = starting.filter(|(_, starting)| !starting.task.is_finished());
        unfinished.map(|(run, _)| run.as_str())
    }

    pub fn abort(&mut self) {
        self.tasks.abort_all();
    }
}

/// Ends a start early. A request that the engine is working on always gets the time for its answer.
#[derive(Debug, Default)]
struct GiveUp {
    /// The run is not needed any more: it does not wait for room.
    stop_waiting: Notify,
    /// The run or the whole dispatch is over: nothing is tried again. What may have started is found and removed.
    stop_trying: Notify,
}

/// Starts a run. A start without an answer is repeated until the limit is over: it has the same name, so it finds
/// what the first one has started. An engine without room is asked again for as long as it takes.
async fn start_until(
    remote: &Remote,
    run: &str,
    spec: &Spec,
    limit: Duration,
    give_up: &GiveUp,
    events: &mpsc::Sender<Event>,
) -> Result<Handle, StartFailure> {
    let mut pause = FIRST_PAUSE;
    let mut deadline = None;
    let mut is_announced = false;
    loop {
        let failure = match remote.start(run, spec).await {
            Err(failure @ (StartFailure::Unknown(_) | StartFailure::Full(_))) => failure,
            result => return result,
        };
        let is_full = matches!(failure, StartFailure::Full(_));
        if is_full {
            deadline = None;
        } else if Instant::now() + pause > *deadline.get_or_insert(Instant::now() + limit) {
            return Err(failure);
        }
        if !is_announced {
            is_announced = true;
            let why = failure.why();
            let text = format!("{run}: the start is tried again: {why}");
            let _ = events.send(Event::Said(text)).await;
        }
        tokio::select! {
            () = sleep(pause) => {}
            // Only if the engine has no room: a start without an answer may have started a worker.
            () = give_up.stop_waiting.notified(), if is_full => {
                let why = format!("it was given up while it waited for room: {}", failure.why());
                return Err(StartFailure::GivenUp(why));
            }
            () = give_up.stop_trying.notified() => {
                let why = format!("it was given up: {}", failure.why());
                return Err(StartFailure::GivenUp(why));
            }
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
