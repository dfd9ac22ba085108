//! Heartbeats: each one reports that the run is alive and what it has produced since the last heartbeat. The
//! answer may cancel the task.
//!
//! A heartbeat is never queued and never repeated, because the next one follows anyway. This module does not end
//! the run: it returns when the orchestrator cancels the task, and the caller ends the run.

use std::future::pending;
use std::mem::replace;

use tokio::time::{Instant, sleep};

use super::answer::Answer;
use super::exchange::Exchange;
use super::wire::{self, Kind};
use crate::progress::Progress;

/// If the route never answered 2xx, this many answers of 404 in a row show that the orchestrator has no such route.
/// Fewer may come from a proxy while the orchestrator restarts.
const MISSING_ROUTE_ANSWERS: u32 = 5;

/// The next step after the answer to a heartbeat.
enum NextStep {
    Continue,
    /// The orchestrator wants smaller heartbeats.
    WithoutOutput,
    /// The orchestrator has no route for heartbeats.
    TurnOff,
    /// The orchestrator cancels the task, possibly with a reason.
    Cancelled(Option<String>),
}

/// The state of the orchestrator's route for heartbeats.
#[derive(Default)]
struct Route {
    /// Whether the route ever answered 2xx.
    exists: bool,
    /// How many answers in a row were 404.
    not_found_in_a_row: u32,
    /// Whether a permanent error was logged. Each kind of error is logged only once, because the later heartbeats will
    /// probably fail in the same way.
    permanent_error_is_logged: bool,
    temporary_error_is_logged: bool,
}

/// Sends heartbeats until the future is dropped or the orchestrator cancels the task. Returns the reason of the
/// cancellation, if there is one.
pub async fn send_heartbeats(exchange: &Exchange, progress: &Progress) -> Option<String> {
    let Some(interval) = exchange.settings.heartbeat_interval else {
        return pending().await;
    };
    let mut route = Route::default();
    let mut with_output = true;
    loop {
        // The interval starts at the last answer, so that a slow orchestrator gets fewer heartbeats.
        sleep(interval).await;
        let answer = send_one(exchange, progress, with_output).await;
        with_output = match route.next_step(answer) {
            NextStep::Continue => true,
            NextStep::WithoutOutput => false,
            NextStep::TurnOff => return pending().await,
            NextStep::Cancelled(reason) => return reason,
        };
    }
}

/// Sends one heartbeat. Output that the orchestrator did not accept counts as dropped.
async fn send_one(exchange: &Exchange, progress: &Progress, with_output: bool) -> Answer {
    let window = with_output.then(|| progress.take_output_window());
    let snapshot = progress.snapshot();
    let mut event = exchange.next_event(Kind::Progress, &snapshot.message());
    event.add_progress(&snapshot, window.as_ref(), &exchange.redactor);
    let deadline = Instant::now() + exchange.settings.request_timeout;
    let answer = exchange.post(event.kind().route(), &event, deadline).await;
    if let (Some(window), false) = (&window, matches!(answer, Answer::Accepted { .. })) {
        progress.count_as_dropped(window);
    }
    answer
}

impl Route {
    /// Decides the next step, and logs an error of a kind that was not logged before.
    fn next_step(&mut self, answer: Answer) -> NextStep {
        let not_found_before = replace(&mut self.not_found_in_a_row, 0);
        let (is_logged, why, next) = match answer {
            Answer::Accepted { body } => {
                self.exists = true;
                return match wire::cancellation(&body) {
                    Some(cancellation) => NextStep::Cancelled(cancellation.reason),
                    None => NextStep::Continue,
                };
            }
            Answer::ConflictOrGone { why } => return NextStep::Cancelled(Some(why)),
            Answer::NoRoute { why } => return turn_off(&why),
            Answer::NotFound { why, .. } => {
                self.not_found_in_a_row = not_found_before + 1;
                if !self.exists && self.not_found_in_a_row >= MISSING_ROUTE_ANSWERS {
                    return turn_off(&why);
                }
                (&mut self.temporary_error_is_logged, why, NextStep::Continue)
            }
            Answer::PermanentError { why } => {
                (&mut self.permanent_error_is_logged, why, NextStep::Continue)
            }
            Answer::TemporaryError { why, .. } => {
                (&mut self.temporary_error_is_logged, why, NextStep::Continue)
            }
            Answer::TooLarge { why } => (
                &mut self.temporary_error_is_logged,
                why,
                NextStep::WithoutOutput,
            ),
        };
        if !replace(is_logged, true) {
            tracing::warn!(
                why,
                "a heartbeat was not accepted; the same trouble will not be logged again"
            );
        }
        next
    }
}

/// Logs that the orchestrator has no route for heartbeats, and turns them off.
fn turn_off(why: &str) -> NextStep {
    tracing::info!(
        why,
        "the orchestrator has no route /progress: no further heartbeats"
    );
    NextStep::TurnOff
}
