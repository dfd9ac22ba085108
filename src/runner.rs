//! Runs a claimed task and always returns an outcome, also after an error, a panic, a timeout or a signal.
//!
//! The steps, in order: open the workspace, find the task, run the agent and the checks in rounds, mark the task as
//! done, commit and push the work. The runner knows nothing about the orchestrator: `lifecycle` reports its
//! [`Progress`] and its [`Outcome`].

pub mod agent;
mod checks;
pub mod dry_run;
mod failures;
mod hand_over;
mod isolate;
mod model_gateway;
mod output;
pub mod preflight;
mod product;
mod project_file;
pub mod project_settings;
mod project_task;
mod prompt;
mod push;
mod rounds;
mod run;
mod settings;
mod tool_spans;
pub mod workspace;

use std::cell::OnceCell;
use std::time::Duration;

use tokio::time::sleep;

use crate::panics::catch_panic;
use crate::process;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::scud::Project;
use crate::shutdown::Stop;
use crate::task::{Failure, Outcome, Reason, RunReport, Verdict};
use crate::telemetry::TraceContext;
use crate::temporary_dir::wait_for_deletions;
use checks::Checks;
pub use hand_over::branch_for_partial_work;
pub use prompt::MAX_NOTE_SIZE;
use rounds::Assignment;
use run::{PreparedWorkspace, Run};
pub use settings::{Settings, Steps};

/// Runs the task. `trace` is the context of the run's span.
pub async fn run(
    settings: &Settings,
    redactor: &Redactor,
    stop: &Stop,
    progress: &Progress,
    trace: &TraceContext,
) -> Outcome {
    // Declared before `run`, because `run` borrows these settings.
    let project_settings_cell = OnceCell::new();
    let mut run = Run::new(settings, redactor, stop, progress, trace);
    let verdict = match Box::pin(catch_panic(run.prepare())).await {
        Ok(Ok(prepared)) => match prepared.project_settings(settings) {
            Ok(settings) => {
                run.settings = project_settings_cell.get_or_init(|| settings);
                Box::pin(run_prepared(&mut run, prepared)).await
            }
            Err(failure) => Verdict::Failed(failure),
        },
        Ok(Err(failure)) => Verdict::Failed(failure),
        Err(bug) => handle_panic(bug).await,
    };
    wait_until_deleted(stop).await;
    let report = RunReport {
        duration: progress.elapsed(),
        phases: progress.phases(),
        output: progress.output(),
        ..run.report
    };
    Outcome { verdict, report }
}

/// Runs all steps after the preparation: the work and its hand-over. Begins the deletion of temporary directories.
async fn run_prepared(run: &mut Run<'_>, prepared: PreparedWorkspace<'_>) -> Verdict {
    run.user_variables
        .clone_from(&prepared.workspace.user_variables);
    let verdict = match Box::pin(catch_panic(work(run, &prepared))).await {
        Ok(Ok(message)) => Verdict::Completed { message },
        Ok(Err(failure)) => Verdict::Failed(failure),
        Err(bug) => handle_panic(bug).await,
    };
    let verdict = Box::pin(run.hand_over(&prepared, verdict)).await;
    mention_surviving_processes(verdict)
}

/// How long the report may wait for the deletion of temporary directories, which can take forever on a file system that hangs.
const MAX_DELETION_WAIT: Duration = Duration::from_secs(30);

/// Waits until all temporary directories are deleted, because the orchestrator may end the machine after the report. After
/// a stop or a cancellation, they are deleted while the outcome is reported: the time for the report is short.
async fn wait_until_deleted(stop: &Stop) {
    if stop.reason().is_some() {
        return;
    }
    tokio::select! {
        () = wait_for_deletions() => {}
        () = sleep(MAX_DELETION_WAIT) => {
            tracing::warn!("the temporary directories are not deleted yet; reporting before that");
        }
        // The rest of the stop window is for the report.
        () = stop.wait_for_hand_over_deadline() => {
            tracing::warn!("there was no time to delete all temporary directories");
        }
    }
}

/// If processes of the agent could not be killed, says so in the message of the verdict.
fn mention_surviving_processes(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Completed { message } if !process::no_descendants_left() => Verdict::Completed {
            message: format!(
                "{message}; processes of the agent survived SIGKILL and are still running"
            ),
        },
        verdict => verdict,
    }
}

/// Kills the processes that a panic has left without supervision; returns the verdict. `bug` describes the panic.
async fn handle_panic(bug: String) -> Verdict {
    process::kill_leftovers().await;
    Verdict::Failed(Failure::new(Reason::Internal, bug))
}

/// Runs the steps between the preparation and the hand-over; returns a sentence about what was done. Finds the checks
/// and the agent before the first round, so that a wrong setting fails before the agent costs anything.
async fn work(run: &mut Run<'_>, prepared: &PreparedWorkspace<'_>) -> Result<String, Failure> {
    let project = Project::at(prepared.workspace.dir.clone());
    if run.settings.steps == Steps::OnlyChecks {
        let checks = Checks::select(&project, run.settings.checks.as_deref())?;
        return rounds::run_checks_only(run, &prepared.workspace, &checks).await;
    }
    let task = project_task::find_task(run.settings, &project).await?;
    run.task = Some(task.clone());
    project_task::log_task(&task);
    let checks = Checks::select(&project, run.settings.checks.as_deref())?;
    let definition = project_task::agent_definition(&project, &task)?;
    let mut agent = agent::create(&run.settings.agent, definition.as_ref())?;
    let assignment = Assignment {
        task,
        definition,
        checks,
    };
    rounds::run_rounds(run, &prepared.workspace, agent.as_mut(), &assignment).await?;
    prepared.check_clone()?;
    if prepared.workspace.lacks_graph() {
        return Ok(project_task::done_sentence(&assignment.task));
    }
    Ok(project_task::mark_done(&project, &assignment.task).await)
}

/// Prevents the agent from reading the memory and the environment of this process, if the platform supports that. Has
/// no effect if the agent and this process run as root. Opens `oom_score_adj` of this process first: a process that is
/// not dumpable cannot open that file.
pub fn protect_from_agent() {
    process::memory::open_own_score();
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "other processes of this user can read the worker's memory");
    }
}
