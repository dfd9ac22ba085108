//! What an engine must know about a run and its task to start it.

use std::ffi::OsString;

use crate::environment::Variables;

use super::settings::EngineKind;

/// The needs of a task according to `[[needs]]` in `.descartes.toml`. A field that is `None` leaves the decision to the
/// settings of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskNeeds {
    /// The memory limit of the first attempt, in bytes.
    pub memory: Option<u64>,
    /// How many processors the task needs, in billionths of one.
    pub nano_cpus: Option<u64>,
    /// The image of the worker.
    pub image: Option<String>,
    /// The engine on which the task should run. If the dispatch does not use it, the task runs on any engine.
    pub engine: Option<EngineKind>,
}

impl TaskNeeds {
    /// These needs, in which the needs that are set in `later` replace the earlier values.
    pub fn overridden_by(self, later: &Self) -> Self {
        Self {
            memory: later.memory.or(self.memory),
            nano_cpus: later.nano_cpus.or(self.nano_cpus),
            image: later.image.clone().or(self.image),
            engine: later.engine.or(self.engine),
        }
    }
}

/// Everything that an engine must know to start a run.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// The variables that the dispatcher sets for the worker.
    pub variables: Vec<(OsString, OsString)>,
    /// The names of variables of this process that the worker must not inherit.
    pub removed_variables: Vec<&'static str>,
    /// The variables of this process that a worker reads. A process of this machine inherits them; every other
    /// engine must pass them on.
    pub inherited_variables: Variables,
    /// The memory limit of this run, in bytes; `None` if no setting says it. Engines that cannot limit the memory
    /// ignore it.
    pub memory: Option<u64>,
    /// The needs of the task. Engines ignore their `memory`, which is only for a first attempt.
    pub needs: TaskNeeds,
}

impl RunSpec {
    /// All variables of a worker that does not inherit this process's environment, with names and values.
    pub fn environment(&self, run: &str) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        let inherited = self.inherited_variables.iter().filter(|(name, _)| {
            let is_set = self.variables.iter().any(|(set, _)| set == name);
            !is_set && !self.removed_variables.iter().any(|removed| name == removed)
        });
        for (name, value) in inherited.chain(&self.variables) {
            all.push((
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            ));
        }
        all.push(("DESCARTES_RUN_ID".to_owned(), run.to_owned()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::variable;

    #[test]
    fn a_worker_on_another_machine_gets_inherited_variables_except_those_that_are_set_or_removed() {
        let spec = RunSpec {
            variables: vec![variable("TASK_ID", "8"), variable("DESCARTES_MODEL", "new")],
            removed_variables: vec!["DESCARTES_FORCE"],
            inherited_variables: vec![
                variable("DESCARTES_MODEL", "old"),
                variable("DESCARTES_FORCE", "true"),
                variable("DESCARTES_CHECKS", "true"),
            ],
            memory: None,
            needs: TaskNeeds::default(),
        };
        let pairs = spec.environment("run-1");
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            pairs,
            [
                "DESCARTES_CHECKS=true",
                "TASK_ID=8",
                "DESCARTES_MODEL=new",
                "DESCARTES_RUN_ID=run-1"
            ]
        );
    }
}
