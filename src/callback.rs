//! The worker's side of the HTTP protocol: claim, heartbeats, exactly one terminal event.
//!
//! Implements docs/protocol.md. Runs nothing and decides nothing about the task: the caller passes
//! an [`Outcome`], and this module returns whether it could be delivered.

mod answer;
mod claim;
pub mod credentials;
mod delivery;
mod exchange;
mod heartbeats;
mod pause;
mod settings;
pub mod traceparent;
mod transport;
mod wire;

use crate::progress::Progress;
use crate::redact::Redactor;
use crate::shutdown::Stop;
use crate::task::{Outcome, Verdict};
pub use claim::Claim;
pub use delivery::Delivery;
use exchange::Exchange;
pub use settings::{Identity, Limits, Machine, Settings};
pub use transport::SetupError;
pub use wire::{Event, Kind, cancellation};

/// Sends the events of one run to the orchestrator.
#[derive(Debug)]
pub struct Callback {
    exchange: Exchange,
}

impl Callback {
    /// Opens no connection yet: the claim opens the first one.
    ///
    /// # Errors
    /// If the file with certificate authorities cannot be read.
    pub fn new(settings: Settings, redactor: Redactor) -> Result<Self, SetupError> {
        let exchange = Exchange::new(settings, redactor)?;
        Ok(Self { exchange })
    }

    /// Claims the task: the caller works only after [`Claim::Granted`].
    pub async fn claim(&self, stop: &Stop) -> Claim {
        claim::claim(&self.exchange, stop).await
    }

    /// Sends heartbeats until the orchestrator cancels the task; returns the reason, if the orchestrator names
    /// one.
    pub async fn send_heartbeats(&self, progress: &Progress) -> Option<String> {
        heartbeats::send_heartbeats(&self.exchange, progress).await
    }

    /// Makes the terminal event. Every attempt to deliver it sends the same event.
    pub fn terminal_event(&self, outcome: &Outcome) -> Event {
        let kind = match outcome.verdict {
            Verdict::Completed { .. } => Kind::Completed,
            Verdict::Failed(_) => Kind::Failed,
        };
        let mut event = self.exchange.next_event(kind, outcome.message());
        event.add_outcome(outcome, &self.exchange.redactor);
        event
    }

    /// Delivers the terminal event. After a stop signal, the attempts end with the stop window.
    pub async fn deliver(&self, event: &Event, stop: &Stop) -> Delivery {
        delivery::deliver(&self.exchange, event, stop).await
    }
}
