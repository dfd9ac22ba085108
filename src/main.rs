//! descartes-worker: runs one coding-agent task on a throw-away machine.
//!
//! `main` wires the lifecycle, configuration to exit code, and is the only place that knows what
//! an outcome means for the process.

mod amounts;
mod builtin;
mod callback;
mod check;
mod clock;
mod completions;
mod config;
mod descriptors;
mod dispatch;
mod durations;
mod environment;
mod excerpt;
mod exit;
mod file_lock;
mod gateway;
mod git;
mod http;
mod isolation;
mod line_splitter;
mod local;
mod merge_graph;
mod model;
mod panics;
mod probe;
mod process;
mod programs;
mod progress;
mod project_file;
mod receiver;
mod redact;
mod report;
mod result_line;
mod ring_buffer;
mod runner;
mod scud;
mod shutdown;
mod stream_json;
mod task;
mod task_list;
mod telemetry;
mod terminal;
mod vocabulary;
mod webhook;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use eyre::WrapErr;

use callback::{Callback, Claim, Delivery};
use config::{Command, Config, Rejected, Run};
use panics::catch_panic;
use progress::Progress;
use redact::Redactor;
use shutdown::Stop;
use task::{Failure, Outcome, Reason, Verdict};
use telemetry::{Span, Telemetry};
use terminal::{Format, OutputQueue, Screen};

/// How long the delivery waits until the result line is written, so that standard output has it
/// before the orchestrator does. That takes a few microseconds if standard output is read.
const STDOUT_HEAD_START: Duration = Duration::from_millis(50);
/// How long the process waits for the result line once more, after the delivery and before the exit.
const STDOUT_PATIENCE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    // Before everything else: every program of the project starts through this.
    match isolation::run_if_requested() {
        Some(Ok(code)) => return code,
        Some(Err(error)) => {
            terminal::print_error(&error.to_string());
            return exit::Worker::Misconfigured.into();
        }
        None => {}
    }
    match git::answer_if_requested() {
        Some(Ok(code)) => return code,
        Some(Err(error)) => {
            terminal::print_error(&error.to_string());
            return exit::Worker::Misconfigured.into();
        }
        None => {}
    }
    descriptors::reserve();
    let config = match Config::from_process() {
        Ok(config) => config,
        Err(rejected) => return rejection(&rejected),
    };
    let on_error = match config.command {
        Command::MergeGraph(_) => exit::MergeGraph::Failed.into(),
        _ => exit::Worker::Misconfigured.into(),
    };
    let (format, redactor) = (config.format, config.redactor.clone());
    match run_command(config) {
        Ok(exit) => exit,
        Err(report) => {
            // In one line: these errors concern the machine (a port that is in use), not the code.
            let message = redactor.text(&format!("{report:#}"));
            terminal::print_error(&message);
            print_error_object(&[message], format);
            on_error
        }
    }
}

/// Prints everything that is wrong with the configuration.
fn rejection(rejected: &Rejected) -> ExitCode {
    match rejected {
        Rejected::Usage(usage) => {
            // clap knows whether this is an error, or the help or the version for standard output.
            let _ = usage.error.print();
            if let Some(advice) = usage.advice {
                terminal::print_error(advice);
            }
            match usage.error.use_stderr() {
                false => ExitCode::SUCCESS,
                true if usage.is_merge => exit::MergeGraph::Failed.into(),
                true => exit::Worker::Misconfigured.into(),
            }
        }
        Rejected::Version(line) => {
            // A closed standard output cannot be reported there.
            let _ = writeln!(io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Rejected::Settings(problems, format) => {
            let count = match problems.len() {
                1 => "1 setting is invalid".to_owned(),
                count => format!("{count} settings are invalid"),
            };
            terminal::print_error(&count);
            for problem in problems {
                terminal::print_error(&format!("  {problem}"));
            }
            let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
            print_error_object(&messages, *format);
            exit::Worker::Misconfigured.into()
        }
        Rejected::CheckAsJson(problems) => {
            check::print_invalid_settings(problems.iter().map(ToString::to_string));
            exit::Check::NotReady.into()
        }
    }
}

/// Prints why a command with `--json` did not run, or stopped. The messages have no secrets.
fn print_error_object(messages: &[String], format: Format) {
    if format == Format::Json {
        let fields = serde_json::json!({ "messages": messages });
        // If standard output cannot be written, standard error and the exit code tell the result.
        let _ = terminal::print_object("error", fields, &Redactor::new(&[]));
    }
}

/// `local` without a task.
async fn show_ready_tasks(project: PathBuf, format: Format, screen: &Screen) -> eyre::Result<()> {
    let message = "TASK_ID: is missing; choose a task with --task".to_owned();
    print_error_object(std::slice::from_ref(&message), format);
    screen.lines(&[message, task_list::ready_tasks(project).await?]);
    Ok(())
}

fn run_command(config: Config) -> eyre::Result<ExitCode> {
    #[cfg(debug_assertions)]
    if let Some(name) = config.failure_point {
        panics::arm_failure_point(name);
    }
    color_eyre::config::HookBuilder::default()
        .display_env_section(false)
        .install()?;
    let screen = Screen::open(&config.log, config.redactor.clone());
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let exit = runtime.block_on(async {
        match config.command {
            Command::Run(run) => {
                let exit = Box::pin(work(*run, config.redactor, &screen)).await?;
                Ok(exit.into())
            }
            Command::Check(settings) => {
                let exit = if check::run(*settings, &config.redactor).await? {
                    exit::Check::Ready
                } else {
                    exit::Check::NotReady
                };
                Ok(exit.into())
            }
            Command::Probe(settings) => {
                let probed = probe::run(*settings, screen.redactor()).await?;
                Ok(probed_exit(probed).into())
            }
            Command::Demo(settings) => {
                // This process has the key in its environment, too.
                runner::harden();
                Ok(local::demo(settings, &screen).await?.into())
            }
            Command::Local(settings) => {
                runner::harden();
                Ok(local::run(settings, &screen).await?.into())
            }
            Command::LocalDryRun(settings) => {
                local::dry_run(&settings, screen.redactor()).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::DemoGraph(settings) => {
                runner::harden();
                let ended = Box::pin(local::demo_graph(*settings, &screen)).await?;
                Ok(dispatched(ended).into())
            }
            Command::Dispatch(settings) => {
                runner::harden();
                let ended = Box::pin(dispatch::run(*settings, &screen)).await?;
                Ok(dispatched(ended).into())
            }
            Command::Tasks(settings) => {
                task_list::run(&settings, screen.redactor()).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::ChooseTask(project) => show_ready_tasks(project, config.format, &screen)
                .await
                .map(|()| exit::Worker::Misconfigured.into()),
            Command::Receive(settings) => local::receive(settings, &screen)
                .await
                .map(|()| ExitCode::SUCCESS),
            Command::Agent(settings) => {
                // The tools that it starts must not read the key from its memory.
                runner::harden();
                let exit = match builtin::run(*settings).await? {
                    builtin::AgentEnd::Finished => exit::Agent::Finished,
                    builtin::AgentEnd::Failed => exit::Agent::Failed,
                    builtin::AgentEnd::Stopped => exit::Agent::Stopped,
                };
                Ok(exit.into())
            }
            Command::Gateway(settings) => {
                // The agent must not read the keys from its memory.
                runner::harden();
                gateway::serve(&settings).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::MergeGraph(versions) => {
                let exit = match merge_graph::run(&versions).await? {
                    merge_graph::Merged::Clean => exit::MergeGraph::Clean,
                    merge_graph::Merged::WithConflicts => exit::MergeGraph::Conflicts,
                };
                Ok(exit.into())
            }
            Command::Completions { shell, mut cli } => {
                completions::print(shell, &mut cli)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Vocabulary { cli } => {
                vocabulary::print(*cli)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    });
    screen.close();
    // A DNS lookup that is still running must not delay the exit.
    runtime.shutdown_background();
    exit
}

fn probed_exit(probed: probe::Probed) -> exit::Probe {
    match probed {
        probe::Probed::AllKept => exit::Probe::AllKept,
        probe::Probed::SomeBroken => exit::Probe::SomeBroken,
        probe::Probed::Unreachable => exit::Probe::Unreachable,
    }
}

fn dispatched(ended: dispatch::Ended) -> exit::Dispatch {
    match ended {
        dispatch::Ended::AllDone => exit::Dispatch::AllDone,
        dispatch::Ended::Blocked => exit::Dispatch::Blocked,
        dispatch::Ended::Stopped | dispatch::Ended::StoppedWithRuns => exit::Dispatch::Stopped,
    }
}

/// The lifecycle: claim, run, report.
async fn work(
    mut settings: Run,
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
    runner::harden();
    let identity = &settings.callback.identity;
    let telemetry = Telemetry::new(&settings.telemetry, &identity.run_id, &redactor);
    let project = identity.project_id.clone();
    let mut span = begin_run(&telemetry, identity);
    let trace = span.context();
    if let Some(traceparent) = trace.traceparent() {
        // The requests of the run belong to its span, which has the trace of the variable.
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
            outcome = Box::pin(run) => outcome,
            never = heartbeats => never,
        }
    };
    let mut delivery = trace.child("deliver");
    let exit = report(&callback, &outcome, &stop).await;
    if exit == exit::Worker::Undelivered {
        delivery.fail("undelivered");
    }
    delivery.end();
    span.conclude(&outcome);
    span.end();
    telemetry.record_run(&outcome, &project);
    telemetry.finish(&stop).await;
    Ok(exit)
}

/// Begins the span of a run.
fn begin_run(telemetry: &Telemetry, identity: &callback::Identity) -> Span {
    let mut span = telemetry.root("run");
    span.set_text("cicd.pipeline.name", &identity.project_id);
    span.set_text("cicd.pipeline.run.id", &identity.run_id);
    span.set_text("descartes.task.id", &identity.task_id);
    span
}

/// Why the worker does not run the task.
enum NotClaimed {
    /// The orchestrator refused the claim. This is not an error.
    Refused,
    /// There was no usable answer. The result line has the same reason.
    Failed(Reason),
}

/// Claims the task, and prints the result line if there is no usable answer.
async fn claim(callback: &Callback, stop: &Stop) -> Result<(), NotClaimed> {
    let (reason, why) = match callback.claim(stop).await {
        Claim::Granted => return Ok(()),
        Claim::Refused { why } => {
            tracing::info!(why, "the orchestrator refused the claim; nothing was done");
            return Err(NotClaimed::Refused);
        }
        Claim::Rejected { why } | Claim::Unanswered { why } => (Reason::Unclaimed, why),
        Claim::Stopped => (
            Reason::Interrupted,
            "the worker was stopped before there was an answer".to_owned(),
        ),
    };
    tracing::error!(why, "the task was not claimed, so nothing was done");
    let failure = Failure::new(reason, format!("the task was not claimed: {why}"));
    let stdout = print_result(&callback.terminal_event(&Outcome::failed(failure)));
    warn_unless_read(stdout.wait_until_written(STDOUT_PATIENCE).await);
    Err(NotClaimed::Failed(reason))
}

/// Prints and delivers the outcome.
async fn report(callback: &Callback, outcome: &Outcome, stop: &Stop) -> exit::Worker {
    let event = callback.terminal_event(outcome);
    let stdout = print_result(&event);
    stdout.wait_until_written(STDOUT_HEAD_START).await;
    let delivery = catch_panic(callback.deliver(&event, stop)).await;
    // The exit would cut off a line that is not written yet.
    warn_unless_read(stdout.wait_until_written(STDOUT_PATIENCE).await);
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
    match catch_panic(callback.heartbeats(progress)).await {
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

fn warn_unless_read(written: bool) {
    if !written {
        tracing::warn!(
            "the result line could not be written: standard output is closed or not read"
        );
    }
}
