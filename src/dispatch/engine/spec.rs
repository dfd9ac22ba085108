//! The description of a run for an engine.

use std::ffi::OsString;

use crate::environment::Variables;

use super::settings::EngineKind;

/// The needs of a task that differ from the settings of the engines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskNeeds {
    /// The memory limit of the first attempt, in bytes.
    pub memory: Option<u64>,
    /// How many processors the task needs, in billionths of one.
    pub nano_cpus: Option<u64>,
    pub image: Option<String>,
    pub engine: Option<EngineKind>,
}

impl TaskNeeds {
    /// These needs. A need that `later` has, too, is replaced by that of `later`.
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
pub struct Spec {
    /// The settings of its worker, in addition to this process's environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Variables of this process that the worker must not have.
    pub removed: Vec<&'static str>,
    /// The variables of this process that a worker reads. A process of this machine inherits them; every other
    /// engine must pass them on.
    pub inherited: Variables,
    /// The memory that the run may use, in bytes, for engines that can limit it.
    pub memory: Option<u64>,
    /// The needs of the task. The field `memory` in them is for a first attempt only; the field above counts.
    pub needs: TaskNeeds,
}

impl Spec {
    /// All variables of a worker that does not inherit this process's environment.
    pub fn environment(&self, run: &str) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        let inherited = self.inherited.iter().filter(|(name, _)| {
            let is_set = self.variables.iter().any(|(set, _)| set == name);
            !is_set && !self.removed.iter().any(|removed| name == removed)
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
    fn a_worker_elsewhere_gets_inherited_variables_except_those_that_are_set_or_removed() {
        let spec = Spec {
            variables: vec![variable("TASK_ID", "8"), variable("DESCARTES_MODEL", "new")],
            removed: vec!["DESCARTES_FORCE"],
            inherited: vec![
                variable("DESCARTES_MODEL", "old"),
                variable("DESCARTES_FORCE", "true"),
                variable("DESCARTES_CHECKS", "true"),
            ],
            memory: None,
            needs: TaskNeeds::default(),
        };
        let pairs = spec.environment("run-1");
        let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
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
