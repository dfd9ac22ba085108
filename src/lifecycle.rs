//! The life of a worker: it claims the task, runs it, and reports the outcome once.

use std::io;
use std::time::Duration;

use eyre::WrapErr;
use futures_util::FutureExt;

use crate::callback::{self, Callback, Claim, Delivery};
use crate::config::RunSettings;
use crate::panics::catch_panic;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::shutdown::{Stop, StopReason};
use crate::task::{Failure, Outcome, Reason, Verdict};
use crate::telemetry::{Span, Telemetry};
use crate::temporary_dir::wait_for_deletions;
use crate::terminal::{OutputQueue, Screen};
use crate::{exit, local, result_line, runner};

/// How long the delivery waits until the result line is written, so that standard output has it
/// before the orchestrator does. That takes a few microseconds if standard output is read.
const STDOUT_WAIT_BEFORE_DELIVERY: Duration = Duration::from_millis(50);
/// How long the process waits, before its exit, until the result line is written.
const STDOUT_WAIT_BEFORE_EXIT: Duration = Duration::from_millis(500);

/// Claims the task, runs it, and reports its outcome.
///
/// Handles stop signals from before the claim on, so that the outcome of a claimed task is always reported. Exports
/// telemetry only after the claim, because a refused claim is not a run.
///
/// # Errors
/// If the worker cannot handle signals, watch standard input, begin a session or lock the task. Nothing was sent then.
pub async fn run(
    mut settings: RunSettings,
    redactor: Redactor,
    screen: &Screen,
) -> eyre::Result<exit::Worker> {
    let stop = Stop::on_signals(settings.stop_window)?;
    if settings.stop_at_end_of_stdin {
        stop.stop_at_end_of_stdin()
            .wrap_err("DESCARTES_STOP_AT_END_OF_STDIN needs a pipe as standard input")?;
    }
    if settings.new_session {
        rustix::process::setsid().wrap_err("cannot begin a session")?;
    }
    // Held until the worker has ended.
    let _lock = match &settings.task_lock {
        Some(path) => Some(local::TaskLock::share(path)?),
        None => None,
    };
    runner::protect_from_agent();
    let identity = &settings.callback.identity;
    let telemetry = Telemetry::new(&settings.telemetry, &identity.run_id, &redactor);
    let project = identity.project_id.clone();
    let mut span = begin_run_span(&telemetry, identity);
    let trace = span.context();
    if let Some(traceparent) = trace.traceparent() {
        // Callbacks name the span of this run. It belongs to the trace in the variable TRACEPARENT, if that is set.
        settings.callback.traceparent = callback::traceparent::parse(&traceparent);
    }
    let callback = match Callback::new(settings.callback, redactor.clone()) {
        Ok(callback) => callback,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "nothing was sent");
            return Ok(exit::Worker::Misconfigured);
        }
    };
    let mut claim_span = trace.child("claim");
    match claim(&callback, &stop).await {
        Ok(()) => claim_span.end(),
        Err(NotClaimed::Refused) => return Ok(exit::Worker::Refused),
        Err(NotClaimed::Failed(reason)) => {
            claim_span.fail(reason.word());
            claim_span.end();
            span.fail(reason.word());
            span.end();
            telemetry.finish(&stop).await;
            return Ok(exit::Worker::Undelivered);
        }
    }
    telemetry.start();
    let progress = Progress::new();
    let outcome = {
        let _status = screen.show_progress(&progress);
        let heartbeats = send_heartbeats(&callback, &stop, &progress);
        let run = runner::run(&settings.runner, &redactor, &stop, &progress, &trace);
        tokio::select! {
            // `boxed_local` hides the type, so that the compiler does not inline the run here: the claim would need stack
            // for the variables of the run.
            outcome = run.boxed_local() => outcome,
            never = heartbeats => never,
        }
    };
    let mut delivery = trace.child("deliver");
    let exit = report(&callback, &outcome, &stop).await;
    if exit == exit::Worker::Undelivered {
        delivery.fail("undelivered");
    }
    delivery.end();
    span.set_outcome(&outcome);
    span.end();
    telemetry.record_run(&outcome, &project);
    telemetry.finish(&stop).await;
    wait_until_deleted(&stop, settings.stop_at_end_of_stdin).await;
    Ok(exit)
}

/// Waits until all temporary directories are deleted; the end of the process would end the deletion. After a stop
/// signal, waits only until the end of the stop window. If `local` or `demo` has started the worker and still runs, waits
/// until a second stop signal instead: they do not kill the worker at the end of the window.
async fn wait_until_deleted(stop: &Stop, has_patient_parent: bool) {
    let limit = async {
        if has_patient_parent && !matches!(stop.reason(), Some(StopReason::ParentEnded)) {
            stop.wait_until_forced().await;
        } else {
            stop.wait_until_window_ends().await;
        }
    };
    tokio::select! {
        () = wait_for_deletions() => {}
        () = limit => tracing::warn!("the worker ends before all temporary directories are deleted"),
    }
}

/// Begins the span of a run.
fn begin_run_span(telemetry: &Telemetry, identity: &callback::Identity) -> Span {
    let mut span = telemetry.root_span("run");
    span.set_text("cicd.pipeline.name", &identity.project_id);
    span.set_text("cicd.pipeline.run.id", &identity.run_id);
    span.set_text("descartes.task.id", &identity.task_id);
    span
}

/// Why the worker does not run the task.
enum NotClaimed {
    /// The orchestrator refused the claim. This is not an error.
    Refused,
    /// The claim was neither granted nor refused. The result line has the same reason.
    Failed(Reason),
}

/// Claims the task. Prints the result line if the claim was neither granted nor refused.
async fn claim(callback: &Callback, stop: &Stop) -> Result<(), NotClaimed> {
    let (reason, why) = match callback.claim(stop).await {
        Claim::Granted => return Ok(()),
        Claim::Refused { why } => {
            tracing::info!(why, "the orchestrator refused the claim; nothing was done");
            return Err(NotClaimed::Refused);
        }
        Claim::PermanentError { why } | Claim::Unanswered { why } => (Reason::Unclaimed, why),
        Claim::Stopped => (
            Reason::Interrupted,
            "the worker was stopped before there was an answer".to_owned(),
        ),
    };
    tracing::error!(why, "the task was not claimed, so nothing was done");
    let failure = Failure::new(reason, format!("the task was not claimed: {why}"));
    let stdout = print_result(&callback.terminal_event(&Outcome::failed(failure)));
    warn_unless_written(stdout.wait_until_written(STDOUT_WAIT_BEFORE_EXIT).await);
    Err(NotClaimed::Failed(reason))
}

/// Prints and delivers the outcome. The result line goes first, so that it is in the platform's log even if the
/// orchestrator ends the machine as soon as it has the event.
async fn report(callback: &Callback, outcome: &Outcome, stop: &Stop) -> exit::Worker {
    let event = callback.terminal_event(outcome);
    let stdout = print_result(&event);
    stdout.wait_until_written(STDOUT_WAIT_BEFORE_DELIVERY).await;
    let delivery = catch_panic(callback.deliver(&event, stop)).await;
    // The exit would cut off a line that is not written yet.
    warn_unless_written(stdout.wait_until_written(STDOUT_WAIT_BEFORE_EXIT).await);
    let undelivered = match delivery {
        Ok(Delivery::Delivered) => None,
        Ok(Delivery::Rejected { why } | Delivery::OutOfTime { why }) => Some(why),
        Err(bug) => Some(bug),
    };
    match (undelivered, &outcome.verdict) {
        (None, Verdict::Completed { message }) => {
            tracing::info!("completed: {message}");
            exit::Worker::Completed
        }
        (None, Verdict::Failed(failure)) => {
            tracing::error!(
                reason = failure.reason.word(),
                "failed: {}",
                failure.message
            );
            exit::Worker::Failed
        }
        (Some(why), _) => {
            tracing::error!(
                why,
                "the outcome could not be delivered; it is on standard output"
            );
            exit::Worker::Undelivered
        }
    }
}

/// Sends heartbeats, whose answers may cancel the task. Never returns.
async fn send_heartbeats(callback: &Callback, stop: &Stop, progress: &Progress) -> ! {
    match catch_panic(callback.send_heartbeats(progress)).await {
        Ok(reason) => stop.cancel(reason),
        Err(bug) => tracing::error!(bug, "the task goes on without heartbeats"),
    }
    std::future::pending().await
}

/// Prints the terminal event, so that the platform's log has it even if no callback is delivered.
fn print_result(event: &callback::Event) -> OutputQueue {
    let stdout = OutputQueue::new(io::stdout());
    stdout.write(&result_line::line(event.body().as_ref()));
    stdout
}

fn warn_unless_written(written: bool) {
    if !written {
        tracing::warn!(
            "the result line could not be written: standard output is closed or not read"
        );
    }
}
