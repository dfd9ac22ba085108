//! One run's exchange with the orchestrator: numbers its events and sends them.

use std::cell::Cell;

use tokio::time::Instant;

use super::answer::Answer;
use super::settings::Settings;
use super::transport::{SetupError, Transport};
use super::wire::{Event, Kind};
use crate::redact::Redactor;

/// The settings, the HTTP client and the event counter of one run.
#[derive(Debug)]
pub struct Exchange {
    pub settings: Settings,
    pub redactor: Redactor,
    transport: Transport,
    /// The number of the next event.
    sequence: Cell<u64>,
}

impl Exchange {
    /// Opens no connection yet.
    pub fn new(mut settings: Settings, redactor: Redactor) -> Result<Self, SetupError> {
        let transport = Transport::new(&settings, &redactor)?;
        settings.identity = settings.identity.masked(&redactor);
        Ok(Self {
            settings,
            redactor,
            transport,
            sequence: Cell::new(0),
        })
    }

    /// A new event with the next sequence number.
    pub fn next_event(&self, kind: Kind, message: &str) -> Event {
        let sequence = self.sequence.replace(self.sequence.get() + 1);
        let message = self.redactor.mask(message);
        Event::new(kind, &self.settings.identity, sequence, &message)
    }

    /// Sends an event once.
    pub async fn post(&self, route: &str, event: &Event, deadline: Instant) -> Answer {
        let (id, body) = (event.id(), event.body());
        self.transport.post(route, id, body, deadline).await
    }
}
