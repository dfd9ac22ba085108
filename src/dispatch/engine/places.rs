//! Which engine each run is on, and which runs wait until their engine has room.

use std::collections::HashMap;

use super::settings::{EngineChoice, EngineKind};
use super::spec::Spec;

/// A run that waits because the engine that it needs is at its limit.
#[derive(Debug)]
struct Waiting {
    run: String,
    spec: Spec,
    /// Whether the run is not needed any more.
    is_given_up: bool,
}

/// The runs that have waited for room.
#[derive(Debug, Default)]
pub struct Waited {
    /// They may have room now. Those that have none must wait again.
    pub ready: Vec<(String, Spec)>,
    pub given_up: Vec<String>,
}

/// Assigns runs to engines, within the limits of the engines.
#[derive(Debug)]
pub struct Places {
    choices: Vec<EngineChoice>,
    placed: HashMap<String, EngineKind>,
    waiting: Vec<Waiting>,
}

impl Places {
    pub fn new(choices: Vec<EngineChoice>) -> Self {
        Self {
            choices,
            placed: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    /// The names of the engines.
    pub fn engine_names(&self) -> Vec<String> {
        let names = self.choices.iter().map(|choice| choice.engine.word());
        names.map(str::to_owned).collect()
    }

    pub fn engine_of(&self, run: &str) -> Option<EngineKind> {
        self.placed.get(run).copied()
    }

    pub fn insert(&mut self, run: &str, engine: EngineKind) {
        self.placed.insert(run.to_owned(), engine);
    }

    pub fn remove(&mut self, run: &str) -> Option<EngineKind> {
        self.placed.remove(run)
    }

    /// Places a run on the engine that its task needs, if it has room, or else on the first one with room. A run that is placed
    /// already stays where it is.
    pub fn place(&mut self, run: &str, needed: Option<EngineKind>) -> Option<EngineKind> {
        if let Some(engine) = self.placed.get(run) {
            return Some(*engine);
        }
        let engine = self.choose(needed)?;
        self.insert(run, engine);
        Some(engine)
    }

    fn choose(&self, needed: Option<EngineKind>) -> Option<EngineKind> {
        let has_room = |choice: &&EngineChoice| {
            let here = self
                .placed
                .values()
                .filter(|engine| **engine == choice.engine);
            choice.limit.is_none_or(|limit| here.count() < limit)
        };
        let mut choices = self.choices.iter();
        // If the needed engine is not used, or starts no runs, any engine is taken. Otherwise the run would wait forever.
        let needed = choices.find(|choice| Some(choice.engine) == needed && choice.is_open());
        if let Some(needed) = needed {
            return has_room(&needed).then_some(needed.engine);
        }
        let mut choices = self.choices.iter();
        let choice = choices.find(has_room).or(self.choices.first());
        Some(choice.map_or(EngineKind::Local, |choice| choice.engine))
    }

    /// Queues a run until its engine has room.
    pub fn queue(&mut self, run: String, spec: Spec) {
        self.waiting.push(Waiting {
            run,
            spec,
            is_given_up: false,
        });
    }

    pub fn is_waiting(&self, run: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.run == run)
    }

    pub fn give_up(&mut self, run: Option<&str>) {
        for waiting in &mut self.waiting {
            waiting.is_given_up |= run.is_none_or(|run| run == waiting.run);
        }
    }

    /// Takes the runs that wait.
    pub fn take_waiting(&mut self) -> Waited {
        let mut waited = Waited::default();
        for waiting in self.waiting.drain(..) {
            if waiting.is_given_up {
                waited.given_up.push(waiting.run);
            } else {
                waited.ready.push((waiting.run, waiting.spec));
            }
        }
        waited
    }
}
