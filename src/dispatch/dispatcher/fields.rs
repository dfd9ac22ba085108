//! What a dispatcher knows and uses.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::dispatch::engine::Engines;
use crate::dispatch::event_listener::Secret;
use crate::dispatch::harvest::Harvests;
use crate::dispatch::integration::Integration;
use crate::dispatch::journaled_state::JournaledState;
use crate::dispatch::merging::{CheckRequest, CheckResult, Tip};
use crate::dispatch::settings::Settings;
use crate::dispatch::show::Show;
use crate::dispatch::standing::Terms;
use crate::dispatch::start::Common;
use crate::dispatch::verification::Mode;
use crate::scud::TaskGraph;

/// How often everything is looked at if nothing happens.
pub(super) const TICK: Duration = Duration::from_secs(5);

pub struct Dispatcher<'a> {
    pub settings: &'a Settings,
    pub show: Show<'a>,
    pub journaled: JournaledState,
    pub engine: Engines,
    pub secret: Secret,
    pub common: Common,
    pub graph: TaskGraph,
    pub tip: Tip,
    pub terms: Terms,
    /// `None` while a merge owns it.
    pub integration: Option<Integration>,
    pub harvests: Harvests,
    pub checks: HashMap<String, PendingCheck>,
    pub merge_failures: u32,
    pub next_merge: Option<Instant>,
    pub mode: Mode,
    /// The result of the checks at the end, if they run only then.
    pub end_check: Option<EndCheck>,
}

/// The checks of the whole branch, when everything is merged.
pub enum EndCheck {
    Running(oneshot::Receiver<CheckResult>),
    Ended(CheckResult),
}

/// A run that only checks a commit, and what waits for it.
pub struct PendingCheck {
    pub request: CheckRequest,
    pub attempt: u32,
}
