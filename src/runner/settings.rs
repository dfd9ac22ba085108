//! The settings of a run.

use std::time::Duration;

use super::agent;
use super::project_settings::{ProjectSettings, ProjectSettingsReader};
use super::workspace::Source;
use crate::environment::{Variables, VariablesFile};
use crate::isolation::Isolation;
use crate::scud::FinishedTasks;

/// Everything that a run must know before it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the project comes from.
    pub source: Source,
    /// The id of this run.
    pub run_id: String,
    /// The orchestrator's name for the task: `8`, `8.2` or `phase:8`.
    pub task: String,
    /// The orchestrator's name for the project.
    pub project: String,
    /// The phase of the task, if `task` does not name it.
    pub tag: Option<String>,
    pub finished_tasks: FinishedTasks,
    pub agent: agent::Settings,
    /// The variables of the worker's environment that the agent and the checks get too. The run adds further variables.
    pub environment: Variables,
    /// What separates the agent and the checks from the worker.
    pub isolation: Isolation,
    /// A file with variables that only the agent and the checks get.
    pub variables_file: Option<VariablesFile>,
    /// How long the agent and the checks may take together; cloning does not count.
    pub task_timeout: Duration,
    /// How long committing and pushing the work may take, including all attempts to push.
    pub push_timeout: Duration,
    /// How long the agent may print nothing; `None` is unlimited.
    pub idle_timeout: Option<Duration>,
    /// The checks to run instead of the project's; `None` runs the project's.
    pub checks: Option<Vec<String>>,
    /// How often a failed check starts another round of the agent.
    pub repairs: u32,
    pub steps: Steps,
    /// Further text for the first prompt.
    pub note: Option<String>,
    /// Reads the project's `.descartes.toml`.
    pub project_settings: ProjectSettingsReader,
}

impl Settings {
    /// These settings with those of the project. `project` has only settings that no flag and no variable sets, so the
    /// values of the operator take precedence.
    pub fn with_project_settings(&self, project: &ProjectSettings) -> Self {
        let mut settings = self.clone();
        settings.agent = self.agent.with_project_settings(project);
        if let Some(timeout) = project.task_timeout {
            settings.task_timeout = timeout;
        }
        if project.idle_timeout.is_some() {
            settings.idle_timeout = project.idle_timeout;
        }
        if project.checks.is_some() {
            settings.checks.clone_from(&project.checks);
        }
        if let Some(repairs) = project.repairs {
            settings.repairs = repairs;
        }
        settings
    }
}

/// Which steps a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    /// The agent works, the checks run, and the work is pushed.
    All,
    /// Only the checks run: no agent works, and nothing is pushed.
    OnlyChecks,
}
