//! Reads all settings from flags and environment, and reports all mistakes at once. No other module reads
//! the environment.
//!
//! [`settings`] is the table of all settings; the flags, `--help`, the names of the variables and the
//! defaults come from it. This module turns the values into types. It starts and sends nothing, and the only
//! file that it reads is the one with the agent's variables, so an invalid configuration has no effect.

mod agent;
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

use clap::error::ErrorKind;

use crate::builtin;
use crate::check;
use crate::gateway;
use crate::local;
use crate::merge_graph::Versions;
use crate::probe;
use crate::redact::Redactor;
use crate::task_list;
use crate::terminal::{ColorChoice, Format, LogSettings};
#[cfg(test)]
pub use command_line::cli;
pub use reader::Problem;
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

/// Why the arguments and the environment give no command to execute.
#[derive(Debug)]
pub enum NoConfig {
    /// The arguments are invalid, or ask for help.
    Usage(Usage),
    /// The user asked for the version, which is this line.
    Version(String),
    /// All settings that are invalid, and how to print them.
    Settings(Vec<Problem>, Format),
    /// All settings that are invalid, for a `check` that must print JSON.
    CheckAsJson(Vec<Problem>),
}

/// Arguments that the command line does not have, or a request for help.
#[derive(Debug)]
pub struct Usage {
    pub error: clap::Error,
    /// What to do next, if clap does not say it.
    pub advice: Option<&'static str>,
    /// Whether the command is `merge-graph`: git expects certain exit statuses of a merge driver.
    pub is_merge_graph: bool,
}

impl Usage {
    fn new(error: clap::Error, args: &[OsString]) -> Self {
        let is_flag_without_value = |flag: &OsStr| {
            flag.as_encoded_bytes().starts_with(b"--") && !flag.as_encoded_bytes().contains(&b'=')
        };
        let hyphen_after_flag = args.windows(2).any(|pair| {
            is_flag_without_value(&pair[0]) && pair[1].as_encoded_bytes().starts_with(b"-")
        });
        let advice = "a value that begins with a hyphen needs an equals sign: --flag=VALUE";
        let is_about_value = matches!(
            error.kind(),
            ErrorKind::InvalidValue | ErrorKind::UnknownArgument
        );
        let is_word_after_local = error.kind() == ErrorKind::UnknownArgument
            && args.get(1).is_some_and(|arg| arg == "local")
            && args
                .get(2)
                .is_some_and(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
        let advice = if is_word_after_local {
            Some("the task needs its flag: descartes-worker local --task ID")
        } else {
            (is_about_value && hyphen_after_flag).then_some(advice)
        };
        Self {
            advice,
            is_merge_graph: args.iter().any(|arg| arg == "merge-graph"),
            error,
        }
    }
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
        let (name, flags) = parse_arguments(&without_own_path(args), &environment)?;
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
        let mut secrets = reader.environment.secrets();
        secrets.append(&mut reader.secrets);
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
    if flags.get_flag("dry-run") {
        let settings = commands::dry_run_settings(reader, flags, project, task);
        return Command::LocalDryRun(Box::new(settings));
    }
    Command::Local(commands::local_settings(reader, flags, project, task))
}

/// Removes the first argument if it is the path of this program: a platform that replaces the CMD of an image, but not
/// its entrypoint, passes the path twice.
fn without_own_path(mut args: Vec<OsString>) -> Vec<OsString> {
    const NAMES: [&str; 2] = ["worker", "descartes-worker"];
    let is_own_path = |arg: &OsString| {
        let path = PathBuf::from(arg);
        let name = path.file_name().and_then(|name| name.to_str());
        Some(arg) == args.first()
            || path.is_absolute() && name.is_some_and(|name| NAMES.contains(&name))
    };
    if args.get(1).is_some_and(is_own_path) {
        args.remove(1);
    }
    args
}

/// The command in the arguments (empty for the worker), and its flags.
fn parse_arguments(
    args: &[OsString],
    environment: &[(OsString, OsString)],
) -> Result<(String, clap::ArgMatches), NoConfig> {
    if let [] | [_] = args {
        // The settings of a worker without arguments are in the environment. Making the flags of all settings would take
        // a third of the instructions of an empty run.
        return Ok((String::new(), clap::ArgMatches::default()));
    }
    let cli = command_line::cli().color(help_color(args));
    let matches = cli.try_get_matches_from(args);
    let mut matches = matches.map_err(|error| no_config_from_clap(error, args, environment))?;
    match matches.remove_subcommand() {
        None => Ok((String::new(), matches)),
        Some((name, flags)) if name == "help" => Err(help_of(&flags)),
        Some(subcommand) => Ok(subcommand),
    }
}

/// The help that `help COMMAND` asks for.
fn help_of(flags: &clap::ArgMatches) -> NoConfig {
    let program = env!("CARGO_PKG_NAME");
    let command = flags.get_one::<String>("command").map(String::as_str);
    let args: Vec<OsString> = [program]
        .into_iter()
        .chain(command)
        .chain(["--help"])
        .map(OsString::from)
        .collect();
    let help = command_line::cli()
        .color(help_color(&[]))
        .try_get_matches_from(&args);
    let error = help.expect_err("clap reports the help as an error");
    NoConfig::Usage(Usage::new(error, &args))
}

/// Whether the help and the errors about arguments have colors. Searches the arguments for `--color`, because clap
/// makes these texts before it returns the parsed arguments.
fn help_color(args: &[OsString]) -> clap::ColorChoice {
    let mut words = args
        .iter()
        .map_while(|arg| arg.to_str())
        .take_while(|arg| *arg != "--");
    let mut choice = clap::ColorChoice::Auto;
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(value) => value.strip_prefix('='),
            None => continue,
        };
        choice = match value {
            Some("always") => clap::ColorChoice::Always,
            Some("never") => clap::ColorChoice::Never,
            _ => clap::ColorChoice::Auto,
        };
    }
    choice
}

/// Why the arguments give no command: a mistake, or a request for help or the version.
fn no_config_from_clap(
    error: clap::Error,
    args: &[OsString],
    environment: &[(OsString, OsString)],
) -> NoConfig {
    match error.kind() {
        ErrorKind::DisplayVersion => NoConfig::Version(version_line(environment)),
        _ => NoConfig::Usage(Usage::new(error, args)),
    }
}

/// The program's name and version, and the commit that it was built from. Images name the commit in a variable, because
/// Nix builds the same program from every commit with the same sources.
fn version_line(environment: &[(OsString, OsString)]) -> String {
    let name = env!("CARGO_PKG_NAME");
    let revision = environment::Environment::new(environment.to_vec()).revision();
    match revision.filter(|_| command_line::VERSION == env!("CARGO_PKG_VERSION")) {
        Some(revision) => format!("{name} {} ({revision})", command_line::VERSION),
        None => format!("{name} {}", command_line::VERSION),
    }
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
