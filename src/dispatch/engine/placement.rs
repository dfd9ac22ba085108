//! Chooses the engine of each run, within the limits of `--engine`. A run occupies one slot of its engine. If the
//! engine that a run needs has no free slot, or if no engine has one, the run waits.

use std::collections::HashMap;

use super::settings::{EngineChoice, EngineKind};
use super::spec::RunSpec;

/// A run that waits for a free slot.
#[derive(Debug)]
struct WaitingRun {
    run: String,
    spec: RunSpec,
    /// Whether the run is not needed any more.
    is_given_up: bool,
}

/// Runs that have waited for a free slot, and that the caller now handles.
#[derive(Debug, Default)]
pub struct TakenRuns {
    /// The runs to place again. If there is still no free slot, the caller queues them again.
    pub to_place: Vec<(String, RunSpec)>,
    /// The ids of the runs that are not needed any more.
    pub given_up: Vec<String>,
}

/// The engine of each run, and the runs that wait for a free slot.
#[derive(Debug)]
pub struct Placement {
    choices: Vec<EngineChoice>,
    /// The engines, by the id of the run. Each entry occupies one slot.
    engines_by_run: HashMap<String, EngineKind>,
    waiting: Vec<WaitingRun>,
}

impl Placement {
    pub fn new(choices: Vec<EngineChoice>) -> Self {
        Self {
            choices,
            engines_by_run: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    /// The names of the engines that the dispatch uses.
    pub fn engine_names(&self) -> Vec<String> {
        let names = self.choices.iter().map(|choice| choice.engine.word());
        names.map(str::to_owned).collect()
    }

    pub fn engine_of(&self, run: &str) -> Option<EngineKind> {
        self.engines_by_run.get(run).copied()
    }

    /// Notes that a run occupies a slot of this engine, even if all slots are occupied already.
    pub fn insert(&mut self, run: &str, engine: EngineKind) {
        self.engines_by_run.insert(run.to_owned(), engine);
    }

    /// Frees the slot of a run; returns the engine of the slot.
    pub fn remove(&mut self, run: &str) -> Option<EngineKind> {
        self.engines_by_run.remove(run)
    }

    /// Assigns a run to the engine that its task needs, or else to the first engine with a free slot. A run that has an
    /// engine already stays there. `None` if the run must wait for a free slot.
    pub fn place(&mut self, run: &str, needed: Option<EngineKind>) -> Option<EngineKind> {
        if let Some(engine) = self.engines_by_run.get(run) {
            return Some(*engine);
        }
        let engine = self.choose(needed)?;
        self.insert(run, engine);
        Some(engine)
    }

    /// The engine for a run that has none yet.
    fn choose(&self, needed: Option<EngineKind>) -> Option<EngineKind> {
        let has_free_slot = |choice: &&EngineChoice| {
            let engines = self.engines_by_run.values();
            let occupied = engines.filter(|engine| **engine == choice.engine).count();
            choice.limit.is_none_or(|limit| occupied < limit)
        };
        let mut choices = self.choices.iter();
        let needed =
            choices.find(|choice| Some(choice.engine) == needed && choice.accepts_new_runs());
        if let Some(needed) = needed {
            return has_free_slot(&needed).then_some(needed.engine);
        }
        // If the dispatch does not use the needed engine, or that engine accepts no new runs, the run would wait forever. So
        // it gets any engine with a free slot. All slots can be occupied, because the number of jobs limits neither the checks
        // of merged work nor the runs of an earlier dispatcher; then the run waits.
        if self.choices.iter().any(EngineChoice::accepts_new_runs) {
            let choice = self.choices.iter().find(has_free_slot)?;
            return Some(choice.engine);
        }
        // No slot will ever be free, and a check of merged work must not wait forever.
        let choice = self.choices.first();
        Some(choice.map_or(EngineKind::Local, |choice| choice.engine))
    }

    /// Makes a run wait for a free slot.
    pub fn queue(&mut self, run: String, spec: RunSpec) {
        self.waiting.push(WaitingRun {
            run,
            spec,
            is_given_up: false,
        });
    }

    pub fn is_waiting(&self, run: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.run == run)
    }

    /// Marks this waiting run as not needed any more, or all waiting runs if `run` is `None`.
    pub fn give_up(&mut self, run: Option<&str>) {
        for waiting in &mut self.waiting {
            waiting.is_given_up |= run.is_none_or(|run| run == waiting.run);
        }
    }

    /// Removes all runs from the queue, and returns them.
    pub fn take_waiting(&mut self) -> TakenRuns {
        let mut taken = TakenRuns::default();
        for waiting in self.waiting.drain(..) {
            if waiting.is_given_up {
                taken.given_up.push(waiting.run);
            } else {
                taken.to_place.push((waiting.run, waiting.spec));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_waits_if_every_slot_is_occupied_and_no_engine_with_the_limit_0_gets_it() {
        let choice = |engine, limit| EngineChoice {
            engine,
            limit: Some(limit),
        };
        let choices = vec![choice(EngineKind::Fly, 0), choice(EngineKind::Local, 1)];
        let mut placement = Placement::new(choices);
        assert_eq!(placement.place("task", None), Some(EngineKind::Local));
        assert_eq!(placement.place("check", None), None);
        placement.remove("task");
        assert_eq!(placement.place("check", None), Some(EngineKind::Local));
    }
}
