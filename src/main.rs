//! descartes-worker: runs one coding-agent task on a throw-away machine.
//!
//! `main` reads the configuration, runs the command that it names, and turns the result into an exit code.

mod amounts;
mod atomic_file;
mod builtin;
mod callback;
mod check;
mod clock;
mod completions;
mod config;
mod descartes_toml;
mod descriptors;
mod dispatch;
mod durations;
mod environment;
mod excerpt;
mod exit;
mod file_lock;
mod gateway;
mod git;
mod hangup;
mod http;
mod isolation;
mod lifecycle;
mod line_splitter;
mod local;
mod merge_graph;
mod model;
mod panics;
mod probe;
mod process;
mod programs;
mod progress;
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
mod temporary_dir;
mod terminal;
mod vocabulary;
mod webhook;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use config::{Command, Config, NoConfig};
use futures_util::FutureExt;
use redact::Redactor;
use terminal::{Format, Screen};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    // The hidden command `launch` comes before everything else, because every program of the project starts through it
    // and should not wait for anything that it does not need.
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
    descriptors::reserve_number();
    let config = match Config::from_process() {
        Ok(config) => config,
        Err(rejected) => return print_rejection(&rejected),
    };
    let exit_after_error = match config.command {
        Command::MergeGraph(_) => exit::MergeGraph::Failed.into(),
        _ => exit::Worker::Misconfigured.into(),
    };
    let (format, redactor) = (config.format, config.redactor.clone());
    match run_command(config) {
        Ok(exit) => exit,
        Err(report) => {
            // The error and its causes are one line: these errors are about the machine (a port that is in use), not
            // about the code.
            let message = redactor.mask(&format!("{report:#}"));
            terminal::print_error(&message);
            print_error_object(&[message], format);
            exit_after_error
        }
    }
}

/// Prints the help, the version, or everything that is wrong with the configuration; returns the exit code.
fn print_rejection(rejected: &NoConfig) -> ExitCode {
    match rejected {
        NoConfig::Usage(usage) => {
            // clap knows whether this is an error, or the help or the version for standard output.
            let _ = usage.error.print();
            if let Some(advice) = usage.advice {
                terminal::print_error(advice);
            }
            match usage.error.use_stderr() {
                false => ExitCode::SUCCESS,
                true if usage.is_merge_graph => exit::MergeGraph::Failed.into(),
                true => exit::Worker::Misconfigured.into(),
            }
        }
        NoConfig::Version(line) => {
            // The result is ignored, because a closed standard output is not reported.
            let _ = writeln!(io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        NoConfig::Settings(problems, format) => {
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
        NoConfig::CheckAsJson(problems) => {
            check::print_invalid_settings(problems.iter().map(ToString::to_string));
            exit::Check::NotReady.into()
        }
    }
}

/// With `--json`, prints why a command did not run or why it failed. The caller has masked the secrets in the messages.
fn print_error_object(messages: &[String], format: Format) {
    if format == Format::Json {
        let fields = serde_json::json!({ "messages": messages });
        // If standard output cannot be written, standard error and the exit code tell the result.
        let _ = terminal::print_object("error", fields, &Redactor::new(&[]));
    }
}

/// Prints that `local` needs a task, and lists the tasks that are ready.
async fn show_ready_tasks(project: PathBuf, format: Format, screen: &Screen) -> eyre::Result<()> {
    let message = "TASK_ID: is missing; choose a task with --task".to_owned();
    print_error_object(std::slice::from_ref(&message), format);
    screen.lines(&[message, task_list::ready_tasks(project).await?]);
    Ok(())
}

/// Runs the command. Not inlined into `main`, because the kernel would have to provide its 20 KiB of stack for the hidden
/// commands too, and in addition to the stack for reading the configuration.
#[inline(never)]
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
                let run = lifecycle::run(*run, config.redactor, &screen);
                // `boxed_local` hides the type, so that the compiler does not inline the worker here, where the stack
                // has room for the variables of every command.
                Ok(run.boxed_local().await?.into())
            }
            Command::Check(settings) => {
                let is_ready = check::run(*settings, &config.redactor).await?;
                let exit = if is_ready {
                    exit::Check::Ready
                } else {
                    exit::Check::NotReady
                };
                Ok(exit.into())
            }
            Command::Probe(settings) => {
                let result = probe::run(*settings, screen.redactor()).await?;
                Ok(exit_of_probe(result).into())
            }
            Command::Demo(settings) => {
                // This process has the same secrets in its environment as the worker that it starts.
                runner::protect_from_agent();
                Ok(local::demo(settings, &screen).await?.into())
            }
            Command::Local(settings) => {
                runner::protect_from_agent();
                Ok(local::run(settings, &screen).await?.into())
            }
            Command::LocalDryRun(settings) => {
                local::dry_run(&settings, screen.redactor()).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::DemoGraph(settings) => {
                runner::protect_from_agent();
                let result = Box::pin(local::demo_graph(*settings, &screen)).await?;
                Ok(exit_of_dispatch(result).into())
            }
            Command::Dispatch(settings) => {
                runner::protect_from_agent();
                let result = Box::pin(dispatch::run(*settings, &screen)).await?;
                Ok(exit_of_dispatch(result).into())
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
                // The tools of the built-in agent must not read the key from the memory of this process.
                runner::protect_from_agent();
                let exit = match builtin::run(*settings).await? {
                    builtin::AgentEnd::Finished => exit::Agent::Finished,
                    builtin::AgentEnd::Failed => exit::Agent::Failed,
                    builtin::AgentEnd::Stopped => exit::Agent::Stopped,
                };
                Ok(exit.into())
            }
            Command::Gateway(settings) => {
                // The agent must not read the keys from the memory of the gateway.
                runner::protect_from_agent();
                gateway::serve(&settings).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::MergeGraph(versions) => {
                let exit = match merge_graph::run(&versions).await? {
                    merge_graph::MergeResult::Clean => exit::MergeGraph::Clean,
                    merge_graph::MergeResult::WithConflicts => exit::MergeGraph::Conflicts,
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

fn exit_of_probe(result: probe::ProbeResult) -> exit::Probe {
    match result {
        probe::ProbeResult::AllKept => exit::Probe::AllKept,
        probe::ProbeResult::SomeBroken => exit::Probe::SomeBroken,
        probe::ProbeResult::Unreachable => exit::Probe::Unreachable,
    }
}

fn exit_of_dispatch(result: dispatch::DispatchResult) -> exit::Dispatch {
    match result {
        dispatch::DispatchResult::AllDone => exit::Dispatch::AllDone,
        dispatch::DispatchResult::Blocked => exit::Dispatch::Blocked,
        dispatch::DispatchResult::Stopped | dispatch::DispatchResult::StoppedWithRuns => {
            exit::Dispatch::Stopped
        }
    }
}
