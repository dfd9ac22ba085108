//! The environment of a worker.

use std::ffi::OsString;

use super::engine::{RunSpec, TaskNeeds};
use super::integration::{Integration, WorkerLocation};
use super::settings::WorkerSettings;
use super::state::Run;
use crate::excerpt::both_ends;
use crate::runner::MAX_NOTE_SIZE;

/// The heartbeat interval of workers, unless the user has set one.
const HEARTBEAT_INTERVAL: &str = "5s";

/// Variables of this process that a worker must not inherit: the dispatcher sets them itself, or they make sense only
/// for a worker that runs without a dispatcher.
const ALWAYS_REMOVED: [&str; 18] = [
    "DESCARTES_BRANCH",
    "DESCARTES_CALLBACK_OIDC_AUDIENCE",
    "DESCARTES_CALLBACK_SECRET",
    "DESCARTES_CALLBACK_TOKEN",
    "DESCARTES_CALLBACK_URL",
    "DESCARTES_FORCE",
    "DESCARTES_NOTE",
    "DESCARTES_PROJECT_ID",
    "DESCARTES_REF",
    "DESCARTES_REPO",
    "DESCARTES_RUN_ID",
    "DESCARTES_STOP_AT_END_OF_STDIN",
    "DESCARTES_TAG",
    "DESCARTES_TASK_ID",
    "DESCARTES_TASK_LOCK",
    "DESCARTES_WORKSPACE",
    "DESCARTES_ONLY_CHECKS",
    "TASK_ID",
];

/// Workers that clone from a repository on this machine must not inherit this variable either, because they need no
/// token.
const GIT_TOKEN: &str = "DESCARTES_GIT_TOKEN";

/// The variables of this process that a worker must not inherit.
pub fn removed_variables(worker_location: WorkerLocation) -> Vec<&'static str> {
    let mut removed = ALWAYS_REMOVED.to_vec();
    if worker_location == WorkerLocation::OnThisMachine {
        removed.push(GIT_TOKEN);
    }
    removed
}

/// The settings that are the same for all workers of a dispatch.
#[derive(Debug)]
pub struct SharedSettings {
    pub project_id: String,
    pub callback_url: String,
    /// The URL that workers clone from and push to.
    pub clone_url: String,
    /// The variables of this process that a worker must not inherit.
    pub removed_variables: Vec<&'static str>,
}

/// The specification of a run's worker for an engine: its environment and what it needs. `secret` is the secret of the
/// run, and `traceparent` names the parent of the worker's spans.
pub fn worker_spec(
    shared: &SharedSettings,
    worker: &WorkerSettings,
    run: &Run,
    needs: TaskNeeds,
    secret: String,
    traceparent: Option<String>,
) -> RunSpec {
    let mut variables: Vec<(OsString, OsString)> = Vec::new();
    let mut set = |name: &str, value: OsString| variables.push((name.into(), value));
    if !worker.has_heartbeat_interval {
        set("DESCARTES_HEARTBEAT", HEARTBEAT_INTERVAL.into());
    }
    for (name, value) in &worker.variables {
        set(name, value.clone());
    }
    set("PROJECT_ID", shared.project_id.clone().into());
    set("CALLBACK_URL", shared.callback_url.clone().into());
    set("DESCARTES_CALLBACK_SECRET", secret.into());
    set("DESCARTES_REPO", shared.clone_url.clone().into());
    set("DESCARTES_REF", run.base.clone().into());
    set("DESCARTES_LOG_FORMAT", "pretty".into());
    if let Some(task) = &run.task {
        set("TASK_ID", task.into());
        set("DESCARTES_BRANCH", Integration::run_branch(&run.id).into());
    } else {
        // This run only checks a commit, so it has no task and pushes nothing.
        set("TASK_ID", "checks".into());
        set("DESCARTES_BRANCH", "none".into());
        set("DESCARTES_ONLY_CHECKS", "true".into());
    }
    if let Some(traceparent) = traceparent {
        set("TRACEPARENT", traceparent.into());
    }
    if let Some(note) = &run.note {
        // The system limits the length of a variable, and a note may name many files.
        set("DESCARTES_NOTE", both_ends(note, MAX_NOTE_SIZE).into());
    }
    RunSpec {
        variables,
        removed_variables: shared.removed_variables.clone(),
        inherited_variables: worker.inherited.clone(),
        memory: run.memory,
        needs,
    }
}
