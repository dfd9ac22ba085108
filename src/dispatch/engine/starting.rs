//! Starts on engines that answer later.

use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::calls::{Event, StartFailure};
use super::remote::Remote;
use super::spec::Spec;
use crate::dispatch::journal::Handle;

/// The pause before a call that had no answer is repeated; it doubles up to [`MAX_PAUSE`].
pub const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub const MAX_PAUSE: Duration = Duration::from_secs(15);

/// Ends a start early. A request that the engine is working on always gets the time for its answer.
#[derive(Debug, Default)]
pub struct GiveUp {
    /// The run is not needed any more: it does not wait for room.
    pub waiting: Notify,
    /// The run or the whole dispatch is over: nothing is tried again. What may have started is found and removed.
    pub trying: Notify,
}

/// Starts a run. A start without an answer is repeated until the limit is over: it has the same name, so it finds
/// what the first one has started. An engine without room is asked again for as long as it takes.
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
    let mut is_said = false;
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
        if !is_said {
            is_said = true;
            let why = failure.why();
            let text = format!("{run}: the start is tried again: {why}");
            let _ = events.send(Event::Said(text)).await;
        }
        tokio::select! {
            () = sleep(pause) => {}
            // If it may have started, the next attempt finds it.
            () = give_up.waiting.notified(), if is_full => {
                let why = format!("it was given up while it waited for room: {}", failure.why());
                return Err(StartFailure::Full(why));
            }
            () = give_up.trying.notified() => return Err(failure),
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
