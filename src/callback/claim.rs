//! The claim: asks the orchestrator for the task, and repeats the request until a usable answer arrives or the
//! claim deadline is over.

use super::answer::Answer;
use super::exchange::Exchange;
use super::pause::{next_delay, pause};
use super::wire::Kind;
use crate::http::retries::Retries;
use crate::shutdown::Stop;

/// The result of the claim.
#[derive(Debug)]
pub enum Claim {
    /// This worker has the task.
    Granted,
    /// Another run has the task, or no run may have the task. This is not an error.
    Refused { why: String },
    /// The orchestrator answered with an error that a retry would not change.
    PermanentError { why: String },
    /// The orchestrator gave no usable answer before the deadline.
    Unanswered { why: String },
    /// A stop signal arrived before the claim was granted.
    Stopped,
}

/// Claims the task. The caller starts no work unless this returns [`Claim::Granted`].
///
/// A stop signal ends the retries, but not a request that was already sent: its answer decides whether the
/// orchestrator expects a terminal event.
pub async fn claim(exchange: &Exchange, stop: &Stop) -> Claim {
    let mut event = exchange.next_event(Kind::Started, "claiming the task");
    event.add_limits(&exchange.settings);
    let mut retries = Retries::within(exchange.settings.claim_timeout);
    loop {
        if stop.reason().is_some() {
            return Claim::Stopped;
        }
        let request = exchange.post(event.kind().route(), &event, retries.deadline());
        let answer = tokio::select! {
            answer = request => answer,
            () = stop.wait_until_window_ends() => return Claim::Stopped,
        };
        let (why, retry_after) = match answer {
            Answer::Accepted { .. } => return Claim::Granted,
            Answer::ConflictOrGone { why } => return Claim::Refused { why },
            Answer::PermanentError { why } | Answer::TooLarge { why } => {
                return Claim::PermanentError { why };
            }
            Answer::NoRoute { why } => (why, None),
            Answer::NotFound { why, retry_after } | Answer::TemporaryError { why, retry_after } => {
                (why, retry_after)
            }
        };
        let delay = match next_delay(&mut retries, retry_after, stop) {
            Ok(delay) => delay,
            Err(no_retry) => {
                let why = no_retry.append_to(&why);
                return Claim::Unanswered { why };
            }
        };
        tracing::warn!(why, "the claim got no usable answer, trying again");
        pause(delay, stop).await;
    }
}
