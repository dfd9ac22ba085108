//! What a person has asked of a dispatch, as far as decisions depend on it.

use std::collections::HashSet;

use super::state::Millis;

/// What decisions depend on, besides the state and the graph.
#[derive(Debug, Clone)]
pub struct Terms {
    pub jobs: usize,
    /// How many attempts a task has.
    pub attempts: u32,
    pub max_budget_usd: Option<f64>,
    pub start_deadline_ms: Millis,
    /// The pause before the second attempt; it doubles with every further one.
    pub retry_delay_ms: Millis,
    /// The memory of a first attempt, in bytes, and the most that a later one gets.
    pub memory: Option<u64>,
    pub max_memory: u64,
    /// The positions of the tasks to work on.
    pub scope: HashSet<usize>,
    /// What the person has asked for with Ctrl-C.
    pub stopping: Stopping,
}

impl Terms {
    pub fn new(settings: &super::settings::Settings, scope: HashSet<usize>) -> Self {
        let millis = |duration: std::time::Duration| {
            Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
        };
        Self {
            jobs: settings.jobs,
            attempts: settings.attempts,
            max_budget_usd: settings.max_budget_usd,
            start_deadline_ms: millis(settings.start_deadline),
            retry_delay_ms: millis(settings.retry_delay),
            memory: settings.memory,
            max_memory: settings.max_memory,
            scope,
            stopping: Stopping::No,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stopping {
    #[default]
    No,
    /// Nothing new starts.
    AfterRunning,
    /// What runs is cancelled.
    Cancelling,
}
