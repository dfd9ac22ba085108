//! descartes-worker: runs one coding-agent task on a throw-away machine.
//!
//! `main` wires the lifecycle, configuration to exit code, and is the only place that knows what
//! an outcome means for the process.

mod callback;
mod config;
mod local;
mod orchestrator;
mod panics;
mod progress;
mod redact;
mod runner;
mod screen;
mod scud;
mod shutdown;
mod task;

use std::io::{self, Write};
use std::process::ExitCode;

use callback::{Callback, Claim, Delivery};
use config::{Command, Config, Rejected, Run};
use panics::caught;
use progress::Progress;
use redact::Redactor;
use screen::Screen;
use shutdown::Stop;
use task::{Failure, Outcome, Reason, Verdict};

/// What the process's end says; README.md has the same table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Completed, and the orchestrator knows.
    Completed,
    /// Failed, and the orchestrator knows.
    Failed,
    /// The configuration was rejected; nothing was sent.
    Misconfigured,
    /// The orchestrator could not be told; the outcome is on stdout.
    Undelivered,
    /// The orchestrator refused; nothing was done.
    Refused,
    /// A worker under the embedded orchestrator ended so.
    Worker(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Completed => 0,
            Exit::Failed => 1,
            Exit::Misconfigured => 2,
            Exit::Undelivered => 3,
            Exit::Refused => 4,
            Exit::Worker(code) => code,
        })
    }
}

fn main() -> ExitCode {
    let config = match Config::from_process() {
        Ok(config) => config,
        Err(rejected) => return rejection(&rejected),
    };
    match live(config) {
        Ok(exit) => exit.into(),
        Err(report) => {
            screen::complain(&format!("{report:?}"));
            Exit::Misconfigured.into()
        }
    }
}

/// Says what is wrong with the configuration, all of it.
fn rejection(rejected: &Rejected) -> ExitCode {
    match rejected {
        Rejected::Usage(usage) => {
            // Help and version are no mistakes: clap knows where they go.
            let _ = usage.print();
            if usage.use_stderr() {
                Exit::Misconfigured.into()
            } else {
                ExitCode::SUCCESS
            }
        }
        Rejected::Settings(problems) => {
            let count = match problems.len() {
                1 => "one setting is wrong".to_owned(),
                count => format!("{count} settings are wrong"),
            };
            screen::complain(&format!("{count}; nothing was sent"));
            for problem in problems {
                screen::complain(&format!("  {problem}"));
            }
            Exit::Misconfigured.into()
        }
    }
}

fn live(config: Config) -> eyre::Result<Exit> {
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
    runtime.block_on(async {
        match config.command {
            Command::Run(run) => Box::pin(work(*run, config.redactor, &screen)).await,
            Command::Check(run) => Ok(check(&run.runner, &screen).await),
            Command::Demo(settings) => Ok(Exit::Worker(local::demo(settings, &screen).await?)),
            Command::Local(settings) => Ok(Exit::Worker(local::run(settings, &screen).await?)),
            Command::Receive { listen } => local::receive(listen, &screen)
                .await
                .map(|()| Exit::Completed),
            Command::Completions { shell, mut cli } => {
                clap_complete::generate(shell, &mut cli, env!("CARGO_PKG_NAME"), &mut io::stdout());
                Ok(Exit::Completed)
            }
        }
    })
}

/// The lifecycle: claim, run, report.
async fn work(settings: Run, redactor: Redactor, screen: &Screen) -> eyre::Result<Exit> {
    let stop = Stop::on_signals(settings.stop_window)?;
    runner::harden();
    let callback = match Callback::new(settings.callback, redactor.clone()) {
        Ok(callback) => callback,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "nothing was sent");
            return Ok(Exit::Misconfigured);
        }
    };
    let unclaimed = |reason, why: String| {
        tracing::error!(why, "the task was not claimed, so nothing was done");
        let outcome = Outcome::failed(Failure::new(
            reason,
            format!("the task was not claimed: {why}"),
        ));
        last_resort(&callback.conclude(&outcome));
        Ok(Exit::Undelivered)
    };
    match callback.claim(&stop).await {
        Claim::Granted => {}
        Claim::Refused { why } => {
            tracing::info!(
                why,
                "the orchestrator refused the claim, so there is nothing to do"
            );
            return Ok(Exit::Refused);
        }
        Claim::Rejected { why } | Claim::Unanswered { why } => {
            return unclaimed(Reason::Unclaimed, why);
        }
        Claim::Stopped => {
            return unclaimed(
                Reason::Interrupted,
                "told to stop before there was an answer".to_owned(),
            );
        }
    }
    let progress = Progress::new();
    let outcome = {
        let _status = screen.follow(&progress);
        Box::pin(execute(
            &settings.runner,
            &redactor,
            &callback,
            &stop,
            &progress,
        ))
        .await
    };
    let event = callback.conclude(&outcome);
    last_resort(&event);
    Ok(
        match (callback.finish(&event, &stop).await, outcome.verdict) {
            (Delivery::Delivered, Verdict::Completed { message }) => {
                tracing::info!("completed: {message}");
                Exit::Completed
            }
            (Delivery::Delivered, Verdict::Failed(failure)) => {
                tracing::error!(
                    reason = failure.reason.word(),
                    "failed: {}",
                    failure.message
                );
                Exit::Failed
            }
            (Delivery::Rejected { why } | Delivery::OutOfTime { why }, _) => {
                tracing::error!(why, "the outcome could not be delivered; it is on stdout");
                Exit::Undelivered
            }
        },
    )
}

/// Says whether everything is here that a run would need.
async fn check(settings: &runner::Settings, screen: &Screen) -> Exit {
    let findings = runner::preflight::preflight(settings).await;
    screen.line("ok      settings: all of them make sense");
    for runner::preflight::Finding { what, result } in &findings {
        match result {
            Ok(found) => screen.line(&format!("ok      {what}: {found}")),
            Err(failure) => screen.line(&format!("MISSING {what}: {}", failure.sentence())),
        }
    }
    let missing = findings.iter().any(|finding| finding.result.is_err());
    if missing {
        Exit::Misconfigured
    } else {
        Exit::Completed
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
fn last_resort(event: &callback::Event) {
    let mut line = b"descartes-result ".to_vec();
    line.extend(event.body());
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(&line).and_then(|()| stdout.flush()) {
        tracing::warn!(%error, "the outcome could not be printed");
    }
}
