//! The settings, the requests of the user and the mistakes in the project that decisions depend on.

use std::collections::{HashMap, HashSet};

use super::engine::TaskNeeds;
use crate::clock::Millis;

/// The settings, the requests of the user and the mistakes in the project that decisions depend on.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The maximum number of live runs.
    pub jobs: usize,
    /// The maximum number of attempts at a task.
    pub attempts: u32,
    /// No new run starts when all runs together have cost this much, in US dollars.
    pub max_budget_usd: Option<f64>,
    /// How long after its start a run may take to claim its task.
    pub start_deadline_ms: Millis,
    /// The pause before the second attempt; it doubles with every further one.
    pub retry_delay_ms: Millis,
    /// The memory limit of a first attempt, in bytes, for tasks that do not need another one; `None` for no limit.
    pub memory: Option<u64>,
    /// The highest memory limit of a later attempt, in bytes.
    pub max_memory: u64,
    /// The needs of tasks that differ from the settings, by the key of the task.
    pub needs: HashMap<String, TaskNeeds>,
    /// The mistakes in definitions of agents at the tip, by the key of the task that they block.
    pub broken_definitions: HashMap<String, String>,
    /// The positions in the graph of the tasks to work on.
    pub scope: HashSet<usize>,
    /// How far the user has stopped the dispatch, with Ctrl-C or `dispatch cancel`.
    pub stopping: Stopping,
}

impl Policy {
    pub fn new(
        settings: &super::settings::Settings,
        scope: HashSet<usize>,
        needs: HashMap<String, TaskNeeds>,
        broken_definitions: HashMap<String, String>,
    ) -> Self {
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
            needs,
            broken_definitions,
            scope,
            stopping: Stopping::No,
        }
    }
}

impl Policy {
    /// The memory limit of the first attempt at a task, in bytes.
    pub fn first_memory(&self, key: &str) -> Option<u64> {
        let needed = self.needs.get(key).and_then(|needs| needs.memory);
        needed
            .map(|memory| memory.min(self.max_memory))
            .or(self.memory)
    }
}

/// How far the user has stopped the dispatch; later variants stop more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stopping {
    /// The user has not stopped it.
    #[default]
    No,
    /// No new run starts, and live runs continue.
    AfterRunning,
    /// Live runs are cancelled.
    Cancelling,
}
