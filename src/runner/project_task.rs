//! The task in the project's graph: found before the work, marked as done after it.

use super::failures::settings_failure;
use super::settings::Settings;
use crate::scud::{AgentDefinition, FindError, Project, TaskQuery};
use crate::task::{Failure, Reason, Status, Task};

/// Finds the task that the settings name.
pub async fn find_task(settings: &Settings, project: &Project) -> Result<Task, Failure> {
    let query = TaskQuery {
        reference: &settings.task,
        tag: settings.tag.as_deref(),
        finished_tasks: settings.finished_tasks,
    };
    project.find(&query).await.map_err(|error| {
        let reason = match error {
            FindError::NotFound { .. }
            | FindError::PhaseNotFound { .. }
            | FindError::Ambiguous { .. } => Reason::TaskNotFound,
            FindError::NotActionable { .. } => Reason::TaskNotActionable,
            FindError::File(_) | FindError::Malformed(_) => Reason::WorkspaceFailed,
        };
        Failure {
            retryable: !error.is_permanent(),
            ..Failure::from_error(reason, &error)
        }
    })
}

/// Logs the task, and warns about its dependencies that are not done.
pub fn log_task(task: &Task) {
    tracing::info!(task = task.id, phase = task.phase, status = %task.status, "found: {}", task.title);
    for dependency in task.unmet_dependencies() {
        let status = dependency.status.map_or_else(
            || "not in the graph".to_owned(),
            |status| status.to_string(),
        );
        tracing::warn!(
            status,
            "the task depends on {}, which is not done",
            dependency.id
        );
    }
}

/// The definition of the agent that the graph assigns to the task; `None` if there is none.
pub fn agent_definition(
    project: &Project,
    task: &Task,
) -> Result<Option<AgentDefinition>, Failure> {
    let Some(name) = &task.agent else {
        return Ok(None);
    };
    let definition = project
        .agent(name)
        .map_err(|error| settings_failure(&error))?;
    if definition.is_none() {
        tracing::warn!(
            agent = name,
            "the graph assigns an agent that .scud/agents does not define"
        );
    }
    Ok(definition)
}

/// A sentence that says that the task is done.
pub fn done_sentence(task: &Task) -> String {
    format!(
        "task {} of phase {} is done: {}",
        task.id, task.phase, task.title
    )
}

/// Marks the task as done in the graph; returns a sentence about the task. If the graph cannot be written,
/// that is only a warning, because the work is still useful.
pub async fn mark_done(project: &Project, task: &Task) -> String {
    let done = done_sentence(task);
    match project.set_status(task, Status::Done).await {
        Ok(()) => done,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the graph could not be marked"
            );
            format!("{done} (but the graph could not be marked: {error})")
        }
    }
}
