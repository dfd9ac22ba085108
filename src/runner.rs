//! Runs a claimed task and always returns an outcome, also after an error, a panic, a timeout or a signal.
//!
//! The steps, in order: workspace, task, agent and checks in rounds, task marked as done, work handed
//! over. Knows nothing about the orchestrator: it reads [`Progress`] and the [`Outcome`].

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

use crate::panics::catch_panic;
use crate::process;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::scud::Project;
use crate::shutdown::Stop;
use crate::task::{Failure, Outcome, Reason, Report, Verdict};
use crate::telemetry::TraceContext;
use checks::Checks;
pub use prompt::MAX_NOTE_SIZE;
use rounds::Assignment;
use run::{Prepared, Run};
pub use settings::{Settings, Steps};

/// Runs the task. `trace` is the span of the run.
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
        Err(bug) => failed_by_bug(bug).await,
    };
    let report = Report {
        duration: progress.elapsed(),
        phases: progress.phases(),
        output: progress.output(),
        ..run.report
    };
    Outcome { verdict, report }
}

/// All steps after the preparation: the work, its hand-over, and the deletion of temporary directories.
async fn run_prepared(run: &mut Run<'_>, prepared: Prepared<'_>) -> Verdict {
    run.user_variables
        .clone_from(&prepared.workspace.user_variables);
    let verdict = match Box::pin(catch_panic(work(run, &prepared))).await {
        Ok(Ok(message)) => Verdict::Completed { message },
        Ok(Err(failure)) => Verdict::Failed(failure),
        Err(bug) => failed_by_bug(bug).await,
    };
    let verdict = Box::pin(run.hand_over(&prepared, verdict)).await;
    let verdict = with_survivors_named(verdict);
    if !run.stop.has_stop_window_begun() {
        let delete = async {
            tokio::select! {
                () = prepared.workspace.delete() => {}
                // The rest of the stop window is for the report.
                () = run.stop.wait_for_hand_over_deadline() => {
                    tracing::warn!("there was no time to delete all temporary directories");
                }
            }
        };
        // tokio panics if it cannot start a thread. The outcome must be reported anyway.
        if let Err(bug) = catch_panic(delete).await {
            tracing::warn!(bug, "the temporary directories may not be deleted");
        }
    }
    verdict
}

/// Adds to the verdict's message that processes of the agent could not be killed, if that is so.
fn with_survivors_named(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Completed { message } if !process::no_descendants_left() => Verdict::Completed {
            message: format!(
                "{message}; processes of the agent survived SIGKILL and are still running"
            ),
        },
        verdict => verdict,
    }
}

/// The verdict after a panic. Kills the processes that the panic has left without supervision.
async fn failed_by_bug(bug: String) -> Verdict {
    process::kill_leftovers().await;
    Verdict::Failed(Failure::new(Reason::Internal, bug))
}

/// The steps between the preparation and the hand-over; returns a sentence about what was done. The checks and the
/// agent are looked up before the first round, so that a wrong setting fails before the agent costs anything.
async fn work(run: &mut Run<'_>, prepared: &Prepared<'_>) -> Result<String, Failure> {
    let project = Project::at(prepared.workspace.dir.clone());
    if run.settings.steps == Steps::OnlyChecks {
        let checks = Checks::of(&project, run.settings.checks.as_deref())?;
        return rounds::only_check(run, &prepared.workspace, &checks).await;
    }
    let task = project_task::find(run.settings, &project).await?;
    run.task = Some(task.clone());
    project_task::log(&task);
    let checks = Checks::of(&project, run.settings.checks.as_deref())?;
    let definition = project_task::definition(&project, &task)?;
    let mut agent = agent::create(&run.settings.agent, definition.as_ref())?;
    let assignment = Assignment {
        task,
        definition,
        checks,
    };
    rounds::work(run, &prepared.workspace, agent.as_mut(), &assignment).await?;
    prepared.check_clone()?;
    if prepared.workspace.lacks_graph() {
        return Ok(project_task::done(&assignment.task));
    }
    Ok(project_task::mark_done(&project, &assignment.task).await)
}

/// Keeps the agent from reading the worker's memory and environment, if the platform supports it. It has no effect if
/// both run as root. Opens the worker's `oom_score_adj` first: a process that is not dumpable cannot open that file.
pub fn protect_from_agent() {
    process::memory::open_own_score();
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "other processes of this user can read the worker's memory");
    }
}
