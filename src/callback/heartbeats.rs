//! Heartbeats: alive, and what was produced since the last one; the answer may ask to stop.
//!
//! Never queued and never retried: the next one comes anyway. Ends nothing itself; it says that the
//! orchestrator wants the end.

use std::future::pending;
use std::mem::replace;

use tokio::time::{Instant, sleep};

use super::answer::Answer;
use super::{Callback, Kind, wire};
use crate::progress::Progress;

/// What an answer means for the heartbeats to come.
enum Next {
    GoOn,
    /// The receiver wants smaller ones.
    WithoutOutput,
    /// There is nobody who listens.
    Off,
    /// No more of anything, for this reason if one was given.
    Cancelled(Option<String>),
}

/// What was complained about already: a log is not a place for heartbeats.
#[derive(Default)]
struct Complaints {
    rejected: bool,
    missed: bool,
}

impl Callback {
    /// Tells the orchestrator how the run goes until it is dropped, or until the orchestrator
    /// cancels the task: then this returns, with the reason if one was given.
    pub async fn heartbeats(&self, progress: &Progress) -> Option<String> {
        let Some(interval) = self.settings.heartbeat else {
            return pending().await;
        };
        let mut with_output = true;
        let mut complaints = Complaints::default();
        loop {
            // Counted from the last answer, so that a slow receiver gets fewer of them.
            sleep(interval).await;
            let answer = self.beat(progress, with_output).await;
            with_output = match complaints.next(answer) {
                Next::GoOn => true,
                Next::WithoutOutput => false,
                Next::Off => return pending().await,
                Next::Cancelled(reason) => return reason,
            };
        }
    }

    async fn beat(&self, progress: &Progress, with_output: bool) -> Answer {
        let window = with_output.then(|| progress.take_window());
        let snapshot = progress.snapshot();
        let mut event = self.event(Kind::Progress, &snapshot.message());
        let window = window.as_ref();
        event.progress = Some(wire::Progress::new(&snapshot, window, &self.redactor));
        let deadline = Instant::now() + self.settings.request_timeout;
        let answer = self.transport.post("progress", &event, deadline).await;
        if let (Some(window), false) = (window, matches!(answer, Answer::Accepted { .. })) {
            progress.count_as_dropped(window);
        }
        answer
    }
}

impl Complaints {
    fn next(&mut self, answer: Answer) -> Next {
        let (complained, why, next) = match answer {
            Answer::Accepted { body } => {
                return wire::cancellation(&body)
                    .map_or(Next::GoOn, |cancel| Next::Cancelled(cancel.reason));
            }
            Answer::Known { why } => return Next::Cancelled(Some(why)),
            Answer::NotFound { why } | Answer::NoRoute { why } => {
                tracing::info!(
                    why,
                    "the orchestrator knows no heartbeats, so there will be none"
                );
                return Next::Off;
            }
            Answer::Rejected { why } => (&mut self.rejected, why, Next::GoOn),
            Answer::Later { why, .. } => (&mut self.missed, why, Next::GoOn),
            Answer::TooLarge { why } => (&mut self.missed, why, Next::WithoutOutput),
        };
        if !replace(complained, true) {
            tracing::warn!(
                why,
                "a heartbeat was not taken; further ones like it will not be mentioned"
            );
        }
        next
    }
}
