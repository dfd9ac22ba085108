//! The state that all requests of a gateway share.

use std::cell::{Cell, RefCell};

use hyper::header::{HeaderName, HeaderValue};
use reqwest::{Client, Url};
use tokio::sync::Notify;

use super::ledger::Ledger;
use super::reports::Reports;
use super::route::Endpoint;
use super::wire::Totals;
use crate::model::Provider;

/// A service to which requests are forwarded.
#[derive(Debug)]
pub struct Service {
    pub provider: &'static Provider,
    pub url: Url,
    pub client: Client,
    /// The headers that authenticate a request.
    pub credentials: Vec<(HeaderName, HeaderValue)>,
}

/// The state that all requests share.
pub struct Shared {
    pub services: Vec<Service>,
    pub endpoints: Vec<Endpoint>,
    pub ledger: RefCell<Ledger>,
    /// Is notified when the cost of a request was settled.
    pub settlement: Notify,
    /// Whether a refusal was reported to the worker, which gets only the first one.
    pub has_refused: Cell<bool>,
    /// The size of the bodies of all requests in memory, in bytes.
    pub buffered_size: Cell<usize>,
    /// The number of requests whose whole body arrived.
    pub requests: Cell<u64>,
    pub reports: Reports,
}

impl Shared {
    /// Sends the current totals to the worker.
    pub fn report_totals(&self) {
        let totals = self.ledger.borrow().totals();
        let usage = totals.usage;
        self.reports.set_totals(Totals {
            requests: self.requests.get(),
            answers: totals.answers,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read_input_tokens: usage.cache_read_input_tokens,
            cache_creation_input_tokens: usage.cache_creation_input_tokens,
            cost_usd: totals.cost_usd,
        });
    }
}
