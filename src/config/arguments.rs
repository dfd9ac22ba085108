//! Parses the arguments: the command and its flags, or a request for help or for the version.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::ErrorKind;

use super::command_line;
use super::environment::Environment;
use super::reader::Problem;
use crate::terminal::Format;

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

/// The name of the command in the arguments (empty for the worker), and its flags. `args` begins with the program.
pub fn parse_arguments(
    args: Vec<OsString>,
    environment: &[(OsString, OsString)],
) -> Result<(String, clap::ArgMatches), NoConfig> {
    let args = without_own_path(args);
    if let [] | [_] = args.as_slice() {
        // The settings of a worker without arguments are in the environment. Making the flags of all settings would take
        // a third of the instructions of an empty run.
        return Ok((String::new(), clap::ArgMatches::default()));
    }
    let cli = command_line::cli().color(help_color(&args));
    let matches = cli.try_get_matches_from(&args);
    let mut matches = matches.map_err(|error| no_config_from_clap(error, &args, environment))?;
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
    let revision = Environment::new(environment.to_vec()).revision();
    match revision.filter(|_| command_line::VERSION == env!("CARGO_PKG_VERSION")) {
        Some(revision) => format!("{name} {} ({revision})", command_line::VERSION),
        None => format!("{name} {}", command_line::VERSION),
    }
}
