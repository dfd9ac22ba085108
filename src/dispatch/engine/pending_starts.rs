//! Starts runs in background tasks, because an engine may take long to answer.
//!
//! The start of a run is one or several requests to the engine, and has one result. All requests for a run have the
//! same name, so a later request finds the worker that an earlier one has started.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::answers::{Event, StartFailure};
use super::remote::RemoteEngine;
use super::spec::RunSpec;
use crate::dispatch::journal::Handle;

/// The pause before a failed request is repeated. It doubles up to [`MAX_RETRY_PAUSE`].
pub const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before a failed request is repeated.
pub const MAX_RETRY_PAUSE: Duration = Duration::from_secs(15);
/// The pause before the next start of a run whose last start has failed.
const PAUSE_AFTER_FAILED_START: Duration = Duration::from_secs(2);

/// All starts that have no result yet.
#[derive(Debug, Default)]
pub struct PendingStarts {
    by_run: HashMap<String, PendingStart>,
    /// The runs whose last start has failed. They are started again if their workers have claimed their tasks anyway.
    runs_with_failed_start: HashSet<String>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct PendingStart {
    signals: Rc<GiveUpSignals>,
    task: AbortHandle,
}

impl PendingStarts {
    /// Starts a run in the background. The result is an event. `start_deadline` is how long the start is tried while
    /// the engine gives no clear answer.
    pub fn spawn(
        &mut self,
        remote: Rc<RemoteEngine>,
        run: &str,
        spec: RunSpec,
        start_deadline: Duration,
        events: mpsc::Sender<Event>,
    ) {
        let signals = Rc::new(GiveUpSignals::default());
        let (task_signals, task_run) = (Rc::clone(&signals), run.to_owned());
        let has_failed = self.runs_with_failed_start.remove(run);
        let pause = has_failed.then_some(PAUSE_AFTER_FAILED_START);
        let task = self.tasks.spawn_local(async move {
            let (run, signals) = (task_run, task_signals);
            let is_given_up = match pause {
                Some(pause) => timeout(pause, signals.in_any_case.notified()).await.is_ok(),
                None => false,
            };
            let result = if is_given_up {
                Err(StartFailure::GivenUp("it was given up".to_owned()))
            } else {
                start_with_retries(&remote, &run, &spec, start_deadline, &signals, &events).await
            };
            let _ = events.send(Event::StartEnded { run, result }).await;
        });
        let start = PendingStart { signals, task };
        self.by_run.insert(run.to_owned(), start);
    }

    pub fn contains(&self, run: &str) -> bool {
        self.by_run.contains_key(run)
    }

    /// Removes the start of a run, because its result has arrived.
    pub fn remove(&mut self, run: &str, has_succeeded: bool) {
        self.by_run.remove(run);
        if !has_succeeded {
            self.runs_with_failed_start.insert(run.to_owned());
        }
        // Without this, the results of ended tasks would stay in memory.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Gives up all starts on engines that have no capacity.
    pub fn give_up_without_capacity(&self) {
        for start in self.by_run.values() {
            start.signals.without_capacity.notify_one();
        }
    }

    /// Gives up the start of this run, or all starts if `run` is `None`.
    pub fn give_up(&self, run: Option<&str>) {
        for (name, start) in &self.by_run {
            if run.is_none_or(|run| run == name) {
                start.signals.in_any_case.notify_one();
            }
        }
    }

    /// Waits until all starts have ended.
    pub async fn join(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// The ids of the runs whose starts have not ended.
    pub fn unfinished_runs(&self) -> impl Iterator<Item = &str> {
        let starts = self.by_run.iter();
        let unfinished = starts.filter(|(_, start)| !start.task.is_finished());
        unfinished.map(|(run, _)| run.as_str())
    }

    pub fn abort(&mut self) {
        self.tasks.abort_all();
    }
}

/// Signals that give up a start. A request to the engine is not interrupted; only no further one is sent.
#[derive(Debug, Default)]
struct GiveUpSignals {
    /// Gives up the start if the engine has no capacity: the user wants no further runs.
    without_capacity: Notify,
    /// Gives up the start after any answer: the run is not needed, or the dispatch ends. If a worker has started, the
    /// clean-up finds and removes it.
    in_any_case: Notify,
}

/// Starts a run. If a request has no clear answer, repeats it until `start_deadline` is over. If the engine has no
/// capacity, repeats the request without a time limit, and `start_deadline` begins again at the next unclear answer.
async fn start_with_retries(
    remote: &RemoteEngine,
    run: &str,
    spec: &RunSpec,
    start_deadline: Duration,
    signals: &GiveUpSignals,
    events: &mpsc::Sender<Event>,
) -> Result<Handle, StartFailure> {
    let mut pause = FIRST_RETRY_PAUSE;
    let mut deadline = None;
    let mut is_announced = false;
    loop {
        let failure = match remote.start(run, spec).await {
            Err(failure @ (StartFailure::Unknown(_) | StartFailure::NoCapacity(_))) => failure,
            result => return result,
        };
        let has_no_capacity = matches!(failure, StartFailure::NoCapacity(_));
        if has_no_capacity {
            deadline = None;
        } else if Instant::now() + pause > *deadline.get_or_insert(Instant::now() + start_deadline)
        {
            return Err(failure);
        }
        if !is_announced {
            is_announced = true;
            let why = failure.why();
            let text = format!("{run}: the start is tried again: {why}");
            let _ = events.send(Event::Message(text)).await;
        }
        tokio::select! {
            () = sleep(pause) => {}
            // Only if the engine has no capacity: after an unclear answer a worker may run, and the next request must find out.
            () = signals.without_capacity.notified(), if has_no_capacity => {
                let why = format!("it was given up while it waited for room: {}", failure.why());
                return Err(StartFailure::GivenUp(why));
            }
            () = signals.in_any_case.notified() => {
                let why = format!("it was given up: {}", failure.why());
                return Err(StartFailure::GivenUp(why));
            }
        }
        pause = (pause * 2).min(MAX_RETRY_PAUSE);
    }
}
