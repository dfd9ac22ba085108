//! Reads all settings from flags and environment, and reports all mistakes at once. No other module reads
//! the environment.
//!
//! [`settings`] is the table of all settings; the flags, `--help`, the names of the variables and the
//! defaults come from it. This module turns the values into types. It starts and sends nothing, and the only
//! file that it reads is the one with the agent's variables, so an invalid configuration has no effect.

mod agent;
mod arguments;
mod command_line;
mod commands;
mod dispatch;
pub mod environment;
mod fly;
mod help;
mod project_keys;
mod reader;
mod setting;
pub mod settings;
mod telemetry;
mod values;
mod worker;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::builtin;
use crate::check;
use crate::gateway;
use crate::local;
use crate::merge_graph::Versions;
use crate::probe;
use crate::redact::Redactor;
use crate::task_list;
use crate::terminal::{ColorChoice, Format, LogSettings};
pub use arguments::NoConfig;
use arguments::parse_arguments;
#[cfg(test)]
pub use command_line::cli;
use reader::Reader;
pub use worker::RunSettings;

/// The command to execute, and the settings that all commands have.
#[derive(Debug)]
pub struct Config {
    pub log: LogSettings,
    /// Masks every secret of the environment.
    pub redactor: Redactor,
    /// Mistakes that do not prevent the run.
    pub warnings: Vec<String>,
    /// How errors are printed: with `--json` also as an object.
    pub format: Format,
    pub command: Command,
    /// The name of the failure point or blocking point to arm; only tests set it.
    #[cfg(debug_assertions)]
    pub failure_point: Option<OsString>,
}

/// A subcommand, or the worker.
#[derive(Debug)]
pub enum Command {
    /// No subcommand: runs a task for an orchestrator.
    Run(Box<RunSettings>),
    /// `demo`: runs a worker on a sample project.
    Demo(local::Settings),
    /// `demo --graph`.
    DemoGraph(Box<crate::dispatch::Settings>),
    Local(local::Settings),
    LocalDryRun(Box<local::DryRun>),
    Receive(local::ReceiveSettings),
    Dispatch(Box<crate::dispatch::Settings>),
    Tasks(task_list::Settings),
    /// `local` without a task: shows what is ready in a project.
    ChooseTask(PathBuf),
    Probe(Box<probe::Settings>),
    Check(Box<check::Settings>),
    /// The built-in agent, started by the worker.
    Agent(Box<builtin::Settings>),
    /// The model gateway, started by the worker.
    Gateway(gateway::ServerSettings),
    /// `merge-graph`, which git runs as a merge driver.
    MergeGraph(Versions),
    Completions {
        shell: clap_complete::Shell,
        cli: Box<clap::Command>,
    },
    Vocabulary {
        cli: Box<clap::Command>,
    },
}

impl Config {
    /// Reads the arguments and the environment of this process.
    pub fn from_process() -> Result<Self, NoConfig> {
        #[expect(
            clippy::disallowed_methods,
            reason = "no other module reads the environment"
        )]
        let environment = std::env::vars_os().collect();
        Self::read(std::env::args_os().collect(), environment)
    }

    /// Reads arguments (the first is the program) and environment.
    ///
    /// The command is read first, because it decides which settings exist. The redactor comes after all of them,
    /// because any setting can hold a secret.
    fn read(args: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> Result<Self, NoConfig> {
        let (name, flags) = parse_arguments(args, &environment)?;
        let name = name.as_str();
        let mut reader = Reader::new(&flags, environment);
        let log = match name {
            // These commands read no settings, so an invalid setting must not stop them.
            "merge-graph" | "completions" | "vocabulary" | gateway::COMMAND => default_log(),
            _ => log_settings(&mut reader, &flags),
        };
        let mut command = match name {
            "" => Command::Run(Box::new(worker::run_settings(&mut reader))),
            "check" => Command::Check(Box::new(commands::check_settings(&mut reader, &flags))),
            "demo" if flags.get_flag("graph") => {
                let shared = commands::shared_settings(&mut reader);
                let mut settings = dispatch::demo_settings(&mut reader, &flags, shared);
                settings.format = command_line::format(&flags);
                Command::DemoGraph(Box::new(settings))
            }
            "demo" => {
                // The sample project does not exist yet.
                let project = local::Project::InPlace(PathBuf::new());
                Command::Demo(commands::local_settings(
                    &mut reader,
                    &flags,
                    project,
                    String::new(),
                ))
            }
            "local" => local_command(&mut reader, &flags),
            "dispatch" => {
                let shared = commands::shared_settings(&mut reader);
                let settings = dispatch::settings(&mut reader, &flags, shared);
                Command::Dispatch(Box::new(settings))
            }
            "tasks" => Command::Tasks(commands::tasks_settings(&mut reader, &flags)),
            "receive" => Command::Receive(commands::receive_settings(&mut reader, &flags)),
            "probe" => Command::Probe(Box::new(commands::probe_settings(&mut reader, &flags))),
            gateway::COMMAND => Command::Gateway(gateway::ServerSettings {
                authorities: reader.environment.get("SSL_CERT_FILE").map(PathBuf::from),
            }),
            builtin::COMMAND => {
                Command::Agent(Box::new(agent::builtin_agent_settings(&mut reader, &flags)))
            }
            "merge-graph" => {
                let file = |name| flags.get_one::<PathBuf>(name).cloned().unwrap_or_default();
                Command::MergeGraph(Versions {
                    base: file("base"),
                    ours: file("ours"),
                    theirs: file("theirs"),
                })
            }
            "vocabulary" => Command::Vocabulary {
                cli: Box::new(command_line::cli()),
            },
            _ => completions_command(&flags),
        };
        let format = match flags.try_get_one::<bool>("json") {
            Ok(Some(true)) => Format::Json,
            _ => Format::Lines,
        };
        let mut secrets = reader.secrets();
        if let Command::Receive(settings) = &command {
            secrets.extend(settings.secret.iter().cloned());
        }
        let redactor = Redactor::new(&secrets);
        if let Command::Dispatch(settings) | Command::DemoGraph(settings) = &mut command {
            settings.redactor = redactor.clone();
        }
        let mut warnings = match command {
            // The worker sets the variables of the built-in agent. The other commands read no settings.
            Command::Agent(_)
            | Command::Gateway(_)
            | Command::MergeGraph(_)
            | Command::Completions { .. } => Vec::new(),
            _ => reader.environment.unknown_settings(),
        };
        warnings.append(&mut reader.warnings);
        let config = Self {
            log,
            redactor,
            warnings,
            format,
            command,
            #[cfg(debug_assertions)]
            failure_point: reader
                .environment
                .get("DESCARTES_FAILURE_POINT")
                .map(OsStr::to_owned),
        };
        let is_check = name == "check";
        reader.finish(config).map_err(|problems| match format {
            Format::Json if is_check => NoConfig::CheckAsJson(problems),
            format => NoConfig::Settings(problems, format),
        })
    }
}

/// The command `local`, in one of its three forms: a run, a dry run, or a list of the tasks that are ready.
fn local_command(reader: &mut Reader, flags: &clap::ArgMatches) -> Command {
    let project = commands::local_project(reader, flags);
    if let local::Project::InPlace(dir) | local::Project::Committed(dir) = &project
        && !reader.is_set(&settings::TASK_ID)
    {
        let dir = dir.clone();
        // Reads the other settings too, so that their mistakes are reported.
        commands::local_settings(reader, flags, project, String::new());
        return Command::ChooseTask(dir);
    }
    let task = reader.required(&settings::TASK_ID, values::line);
    commands::reject_checked_out_branch(reader, &project, &task);
    if flags.get_flag("dry-run") {
        let settings = commands::dry_run_settings(reader, flags, project, task);
        return Command::LocalDryRun(Box::new(settings));
    }
    Command::Local(commands::local_settings(reader, flags, project, task))
}

/// The settings of the log.
fn log_settings(reader: &mut Reader, flags: &clap::ArgMatches) -> LogSettings {
    // An error means that the command has no flags.
    let color = flags.try_get_one::<String>("color").ok().flatten();
    LogSettings {
        color: match color.map(String::as_str) {
            Some("always") => ColorChoice::Always,
            Some("never") => ColorChoice::Never,
            _ => ColorChoice::Auto,
        },
        filter: reader.with_default(&settings::RUST_LOG, values::log_filter),
        format: reader.with_default(&settings::LOG_FORMAT, values::log_format),
    }
}

/// The log of a command that reads no settings.
fn default_log() -> LogSettings {
    let default = |setting: &settings::Setting| setting.default.expect("the table has a default");
    LogSettings {
        color: ColorChoice::Auto,
        filter: values::log_filter(default(&settings::RUST_LOG)).expect("a valid default"),
        format: values::log_format(default(&settings::LOG_FORMAT)).expect("a valid default"),
    }
}

fn completions_command(flags: &clap::ArgMatches) -> Command {
    let shell = flags
        .get_one("shell")
        .copied()
        .unwrap_or(clap_complete::Shell::Bash);
    Command::Completions {
        shell,
        cli: Box::new(command_line::cli()),
    }
}
