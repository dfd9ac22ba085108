//! Starts runs on engines that answer in the background.

use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::calls::{Event, StartFailure};
use super::remote::Remote;
use super::spec::Spec;
use crate::dispatch::journal::Handle;

/// The pause before a call that had no answer is repeated; it doubles up to [`MAX_PAUSE`].
pub const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between two calls.
pub const MAX_PAUSE: Duration = Duration::from_secs(15);

/// Ends a start early. A request that the engine is working on always gets the time for its answer.
#[derive(Debug, Default)]
pub struct GiveUp {
    /// Notified if the run is not needed any more: a start that waits for room ends.
    pub waiting: Notify,
    /// Notified if the dispatch is over: no start is tried again. If a worker was started, the removal of everything
    /// finds it.
    pub trying: Notify,
}

/// Starts a run. A start without an answer is repeated until `limit` is over. It has the same name, so it finds a
/// worker that an earlier start has started. An engine without room is asked again without a limit.
pub async fn start_until(
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
            () = give_up.waiting.notified(), if is_full => {
                let why = format!("it was given up while it waited for room: {}", failure.why());
                return Err(StartFailure::Full(why));
            }
            () = give_up.trying.notified() => return Err(failure),
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
