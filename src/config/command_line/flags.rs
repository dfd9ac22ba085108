//! The flags that several commands share, made from the table of settings.

use clap::{Arg, ArgAction, Command, value_parser};

use crate::config::help::{SEE_LONG_HELP, with_help};
use crate::config::settings::{Setting, WORKER_SETTINGS};

/// A flag without a value.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help);
    arg.action(ArgAction::SetTrue)
}

/// A flag with a value, which `value_name` stands for in the help.
pub fn value_flag(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help);
    arg.value_name(value_name)
}

/// The flag `--json` of a command that prints events.
pub fn json_lines_flag() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print every event as a line of JSON on standard output")
}

/// The flag `--report`, with this help text.
pub fn report_flag(help: &'static str) -> Arg {
    let report = Arg::new("report").long("report").value_name("FILE");
    report
        .help(help)
        .value_parser(value_parser!(std::path::PathBuf))
}

/// Adds all of the worker's flags, and the settings without a flag at the end of the help.
pub fn with_worker_flags(command: Command) -> Command {
    command
        .args(WORKER_SETTINGS.iter().copied().filter_map(flag_of))
        .after_help(SEE_LONG_HELP)
        .after_long_help(unflagged_help())
}

/// The worker's flags, without those in `excluded`.
pub fn flags_except(excluded: &[&str]) -> impl Iterator<Item = Arg> {
    let flags = WORKER_SETTINGS.iter().copied().filter_map(flag_of);
    flags.filter(|arg| !excluded.contains(&arg.get_id().as_str()))
}

/// A text about the worker's settings without a flag, for the end of the help.
pub fn unflagged_help() -> String {
    let unflagged = WORKER_SETTINGS
        .iter()
        .copied()
        .filter(|setting| setting.flag.is_none());
    let lines =
        unflagged.map(|setting| format!("\n  {}\n          {}", setting.name(), setting.help));
    format!("From the environment only:{}", lines.collect::<String>())
}

/// The flag of a setting. clap does not validate the value; `reader` reports all invalid values together.
pub fn flag_of(setting: &Setting) -> Option<Arg> {
    let flag = setting.flag?;
    let arg = Arg::new(flag)
        .long(flag)
        .value_name(setting.value_name)
        .action(ArgAction::Set)
        .value_parser(value_parser!(std::ffi::OsString));
    let arg = with_help(arg, setting);
    let arg = match setting.variable {
        "DESCARTES_RUST_LOG" => arg.conflicts_with_all(["verbose", "quiet"]),
        _ => arg,
    };
    Some(match setting.value_name {
        "BOOL" => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => arg,
    })
}
