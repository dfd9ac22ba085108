//! descartes-worker: runs one coding-agent task on a throw-away machine.
//!
//! `main` wires the lifecycle, configuration to exit code, and is the only place that knows what
//! an outcome means for the process.

mod builtin;
mod callback;
mod check;
mod config;
mod durations;
mod environment;
mod excerpt;
mod exit;
mod git;
mod http;
mod line_splitter;
mod local;
mod merge_graph;
mod model;
mod panics;
mod process;
mod programs;
mod progress;
mod receiver;
mod redact;
mod ring_buffer;
mod runner;
mod scud;
mod shutdown;
mod stream_json;
mod task;
mod terminal;
mod vocabulary;
mod webhook;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use callback::{Callback, Claim, Delivery};
use config::{Command, Config, Rejected, Run};
use panics::caught;
use progress::Progress;
use redact::Redactor;
use shutdown::Stop;
use task::{Failure, Outcome, Reason, Verdict};
use terminal::{Outlet, Screen};

/// How long the outcome waits for a reader of standard output before it is delivered all the same;
/// a fair part of the smallest stop window in use.
const STDOUT_PATIENCE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let config = match Config::from_process() {
        Ok(config) => config,
        Err(rejected) => return rejection(&rejected),
    };
    let on_error = match config.command {
        Command::MergeGraph(_) => exit::MergeGraph::Failed.into(),
        _ => exit::Worker::Misconfigured.into(),
    };
    match live(config) {
        Ok(exit) => exit,
        Err(report) => {
            // One line: these are about the machine (a port that is taken), not about the code.
            terminal::complain(&format!("{report:#}"));
            on_error
        }
    }
}

/// Says what is wrong with the configuration, all of it.
fn rejection(rejected: &Rejected) -> ExitCode {
    match rejected {
        Rejected::Usage(usage) => {
            // Help and version are no mistakes: clap knows where they go.
            let _ = usage.error.print();
            if let Some(advice) = usage.advice {
                terminal::complain(advice);
            }
            match usage.error.use_stderr() {
                false => ExitCode::SUCCESS,
                true if usage.is_merge => exit::MergeGraph::Failed.into(),
                true => exit::Worker::Misconfigured.into(),
            }
        }
        Rejected::Settings(problems) => {
            let count = match problems.len() {
                1 => "1 setting is invalid".to_owned(),
                count => format!("{count} settings are invalid"),
            };
            terminal::complain(&count);
            for problem in problems {
                terminal::complain(&format!("  {problem}"));
            }
            exit::Worker::Misconfigured.into()
        }
        Rejected::CheckAsJson(problems) => {
            check::print_invalid_settings(problems.iter().map(ToString::to_string));
            exit::Check::NotReady.into()
        }
    }
}

fn live(config: Config) -> eyre::Result<ExitCode> {
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
                let exit = match check::run(&settings, &config.redactor).await? {
                    true => exit::Check::Ready,
                    false => exit::Check::NotReady,
                };
                Ok(exit.into())
            }
            Command::Demo(settings) => Ok(local::demo(settings, &screen).await?.into()),
            Command::Local(settings) => Ok(local::run(settings, &screen).await?.into()),
            Command::Receive { listen } => local::receive(listen, &screen)
                .await
                .map(|()| ExitCode::SUCCESS),
            Command::Agent(settings) => {
                // Its tools must not read the key out of it.
                runner::harden();
                let exit = match builtin::run(*settings).await? {
                    builtin::Done::Finished => exit::Agent::Finished,
                    builtin::Done::Failed => exit::Agent::Failed,
                    builtin::Done::Stopped => exit::Agent::Stopped,
                };
                Ok(exit.into())
            }
            Command::MergeGraph(versions) => {
                let exit = match merge_graph::run(&versions).await? {
                    merge_graph::Merged::Clean => exit::MergeGraph::Clean,
                    merge_graph::Merged::WithConflicts => exit::MergeGraph::Conflicts,
                };
                Ok(exit.into())
            }
            Command::Completions { shell, mut cli } => {
                clap_complete::generate(shell, &mut cli, env!("CARGO_PKG_NAME"), &mut io::stdout());
                Ok(ExitCode::SUCCESS)
            }
            Command::Vocabulary { cli } => {
                vocabulary::print(*cli)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    });
    screen.close();
    // A name that is still being looked up must not keep the process.
    runtime.shutdown_background();
    exit
}

/// The lifecycle: claim, run, report.
async fn work(settings: Run, redactor: Redactor, screen: &Screen) -> eyre::Result<exit::Worker> {
    let stop = Stop::on_signals(settings.stop_window)?;
    runner::harden();
    let callback = match Callback::new(settings.callback, redactor.clone()) {
        Ok(callback) => callback,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "nothing was sent");
            return Ok(exit::Worker::Misconfigured);
        }
    };
    if let Some(exit) = claim(&callback, &stop).await {
        return Ok(exit);
    }
    let progress = Progress::new();
    let outcome = {
        let _status = screen.follow(&progress);
        let executed = execute(&settings.runner, &redactor, &callback, &stop, &progress);
        Box::pin(executed).await
    };
    Ok(report(&callback, &outcome, &stop).await)
}

/// Claims the task; where it is not granted, that is the end.
async fn claim(callback: &Callback, stop: &Stop) -> Option<exit::Worker> {
    let (reason, why) = match callback.claim(stop).await {
        Claim::Granted => return None,
        Claim::Refused { why } => {
            tracing::info!(
                why,
                "the orchestrator refused the claim, so there is nothing to do"
            );
            return Some(exit::Worker::Refused);
        }
        Claim::Rejected { why } | Claim::Unanswered { why } => (Reason::Unclaimed, why),
        Claim::Stopped => (
            Reason::Interrupted,
            "told to stop before there was an answer".to_owned(),
        ),
    };
    tracing::error!(why, "the task was not claimed, so nothing was done");
    let failure = Failure::new(reason, format!("the task was not claimed: {why}"));
    last_resort(&callback.conclude(&Outcome::failed(failure)));
    Some(exit::Worker::Undelivered)
}

/// Prints and delivers what became of the task.
async fn report(callback: &Callback, outcome: &Outcome, stop: &Stop) -> exit::Worker {
    let event = callback.conclude(outcome);
    let stdout = last_resort(&event);
    let delivery = caught(callback.finish(&event, stop)).await;
    // Whoever was only slow to read has had the time of a delivery; the end would cut it off.
    stdout.drain(STDOUT_PATIENCE);
    let undelivered = match delivery {
        Ok(Delivery::Delivered) => None,
        Ok(Delivery::Rejected { why } | Delivery::OutOfTime { why }) => Some(why),
        Err(panic) => Some(format!("the worker has a bug: it panicked with {panic:?}")),
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
            tracing::error!(why, "the outcome could not be delivered; it is on stdout");
            exit::Worker::Undelivered
        }
    }
}

/// Runs the task while heartbeats tell of it and may bring a cancellation.
async fn execute(
    settings: &runner::Settings,
    redactor: &Redactor,
    callback: &Callback,
    stop: &Stop,
    progress: &Progress,
) -> Outcome {
    let heartbeats = async {
        match caught(callback.heartbeats(progress)).await {
            Ok(reason) => stop.cancel(reason),
            Err(panic) => tracing::error!(
                panic,
                "heartbeats have a bug; the task goes on without them"
            ),
        }
        std::future::pending().await
    };
    tokio::select! {
        outcome = runner::run(settings, redactor, stop, progress) => outcome,
        never = heartbeats => never,
    }
}

/// Prints the terminal event, so that the platform's log holds it even if no callback gets through.
fn last_resort(event: &callback::Event) -> Outlet {
    let mut line = b"descartes-result ".to_vec();
    line.extend(event.body());
    line.push(b'\n');
    let stdout = Outlet::new(io::stdout());
    stdout.write(&line);
    if !stdout.drain(STDOUT_PATIENCE) {
        tracing::warn!("nobody reads standard output, where the outcome would be");
    }
    stdout
}
