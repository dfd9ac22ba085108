//! The state of a dispatcher.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::dispatch::branch_searches::BranchSearches;
use crate::dispatch::engine::Engines;
use crate::dispatch::event_listener::Secret;
use crate::dispatch::integration::Integration;
use crate::dispatch::journaled_state::JournaledState;
use crate::dispatch::merging::{CheckRequest, CheckResult, Tip};
use crate::dispatch::policy::Policy;
use crate::dispatch::settings::Settings;
use crate::dispatch::show::Show;
use crate::dispatch::spans::Spans;
use crate::dispatch::verification::VerifyMode;
use crate::dispatch::worker_environment::SharedSettings;
use crate::scud::TaskGraph;

/// How long the main loop sleeps at most if no run is live; also the pause before a failed merge is repeated.
pub(super) const IDLE_PAUSE: Duration = Duration::from_secs(5);

/// Everything that the main loop works with.
pub struct Dispatcher<'a> {
    pub settings: &'a Settings,
    pub show: Show<'a>,
    pub journaled: JournaledState,
    pub engines: Engines,
    /// The secret from which the signing key of each run is derived.
    pub secret: Secret,
    /// The settings that all workers share.
    pub shared_settings: SharedSettings,
    /// The task graph at the tip.
    pub graph: TaskGraph,
    /// The last commit of the integration branch.
    pub tip: Tip,
    pub policy: Policy,
    /// The integration branch; `None` while a merge owns it.
    pub integration: Option<Integration>,
    pub spans: Spans,
    /// The searches for branches with finished work of lost runs.
    pub branch_searches: BranchSearches,
    /// The runs that only check a commit, by the id of the run.
    pub checks: HashMap<String, PendingCheck>,
    /// How many merges in a row have failed with an error.
    pub merge_failures: u32,
    /// The earliest time for the next merge, after a failed one.
    pub next_merge: Option<Instant>,
    /// Whether finished work stays unmerged until the next dispatcher starts, because a merge has failed while
    /// everything was being cancelled.
    pub has_given_up_merges: bool,
    /// When the checks run on merged work.
    pub verify: VerifyMode,
    /// The checks of the finished branch, with `--verify end`; `None` before they start.
    pub end_check: Option<EndCheck>,
}

/// The checks that run once on the finished branch.
pub struct EndCheck {
    /// The tip at which the checks were started. Their result says nothing about a later tip.
    pub commit: String,
    pub progress: EndCheckProgress,
}

pub enum EndCheckProgress {
    Running(oneshot::Receiver<CheckResult>),
    Ended(CheckResult),
}

/// A run that only checks a commit, and the request that it serves.
pub struct PendingCheck {
    pub request: CheckRequest,
    /// How often the check was started, counted from 1.
    pub attempt: u32,
}
