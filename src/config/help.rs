//! The texts of `-h` and `--help`, the headings that group the flags, and the flags that all commands have.

use clap::{Arg, ArgAction, Command, builder::PossibleValuesParser};

use super::settings::{self, Setting};

/// The headings of the help, with the settings below them.
const GROUPS: [(&str, &[&Setting]); 6] = [
    (
        "Task",
        &[
            &settings::TASK_ID,
            &settings::PROJECT_ID,
            &settings::RUN_ID,
            &settings::TAG,
            &settings::FORCE,
            &settings::ONLY_CHECKS,
            &settings::NOTE,
        ],
    ),
    (
        "Repository and workspace",
        &[
            &settings::REPO,
            &settings::REF,
            &settings::BRANCH,
            &settings::WORKSPACE,
            &settings::GIT_NAME,
            &settings::GIT_EMAIL,
            &settings::GIT_IDLE_TIMEOUT,
            &settings::PUSH_TIMEOUT,
            &settings::SUBMODULES,
            &settings::LFS,
            &settings::KEEP_WORKSPACE,
        ],
    ),
    (
        "Agent",
        &[
            &settings::AGENT,
            &settings::AGENT_COMMAND,
            &settings::AGENT_ENV,
            &settings::AGENT_ENV_FILE,
            &settings::ISOLATION,
            &settings::AGENT_USER,
            &settings::MODEL,
            &settings::MODEL_GATEWAY,
        ],
    ),
    (
        "Limits and checks",
        &[
            &settings::MAX_TURNS,
            &settings::MAX_BUDGET_USD,
            &settings::MAX_TOKENS,
            &settings::TASK_TIMEOUT,
            &settings::IDLE_TIMEOUT,
            &settings::STOP_WINDOW,
            &settings::CHECKS,
            &settings::REPAIRS,
        ],
    ),
    (
        "Callbacks",
        &[
            &settings::CALLBACK_URL,
            &settings::HEARTBEAT,
            &settings::CALLBACK_TIMEOUT,
            &settings::CLAIM_DEADLINE,
            &settings::FINISH_DEADLINE,
            &settings::CALLBACK_OIDC_AUDIENCE,
            &settings::CALLBACK_OIDC_SOCKET,
        ],
    ),
    (
        OUTPUT_HEADING,
        &[&settings::RUST_LOG, &settings::LOG_FORMAT],
    ),
];
/// The heading of the flags for the log.
const OUTPUT_HEADING: &str = "Output";

/// The settings that `-h` shows.
const COMMON_SETTINGS: [&Setting; 15] = [
    &settings::TASK_ID,
    &settings::PROJECT_ID,
    &settings::CALLBACK_URL,
    &settings::REPO,
    &settings::REF,
    &settings::BRANCH,
    &settings::WORKSPACE,
    &settings::TAG,
    &settings::AGENT,
    &settings::AGENT_COMMAND,
    &settings::MODEL,
    &settings::MAX_BUDGET_USD,
    &settings::TASK_TIMEOUT,
    &settings::CHECKS,
    &settings::LISTEN,
];

/// The end of `-h`.
pub const SEE_LONG_HELP: &str = "--help shows all options, and which variables set them.";

/// Adds a setting's short help, long help and heading to its flag.
pub fn with_help(arg: Arg, setting: &Setting) -> Arg {
    let value = setting.default.or(setting.when_unset);
    let default = value.map(|default| format!("; default: {default}"));
    let long = format!(
        "{} [{}{}]",
        setting.help,
        setting.name(),
        default.unwrap_or_default()
    );
    let first = setting.help.split("; ").next().unwrap_or(setting.help);
    let short = match value {
        Some(default) => format!("{first} [default: {default}]"),
        None => first.to_owned(),
    };
    let is_same = |other: &&Setting| other.variable == setting.variable;
    let group = GROUPS
        .iter()
        .find(|(_, settings)| settings.iter().any(is_same));
    arg.help(short)
        .long_help(long)
        .help_heading(group.map(|(heading, _)| *heading))
        .hide_short_help(!COMMON_SETTINGS.iter().any(is_same))
}

/// The flags that every command has.
pub fn with_output_flags(command: Command) -> Command {
    let count = |name, short, help, long: &'static str| {
        let arg = Arg::new(name)
            .short(short)
            .long(name)
            .action(ArgAction::Count);
        arg.help(help)
            .long_help(long)
            .help_heading(OUTPUT_HEADING)
            .global(true)
    };
    let verbose = count(
        "verbose",
        'v',
        "Log more; can be repeated",
        "Log more: -v for debug lines of this program, -vv for those of its libraries too, -vvv for trace lines",
    );
    let quiet = count(
        "quiet",
        'q',
        "Log less; can be repeated",
        "Log less: -q for warnings and errors, -qq for errors alone",
    );
    let color = Arg::new("color")
        .long("color")
        .value_name("WHEN")
        .value_parser(PossibleValuesParser::new(["auto", "always", "never"]))
        .help("When to use colors [default: auto]")
        .long_help(
            "When to use colors; auto: on a terminal, unless the variable NO_COLOR is set, or always if CLICOLOR_FORCE is set",
        )
        .help_heading(OUTPUT_HEADING)
        .hide_possible_values(true)
        .global(true);
    command.args([verbose.conflicts_with("quiet"), quiet, color])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::WORKER_SETTINGS;

    #[test]
    fn every_flag_of_a_worker_is_in_exactly_one_group_of_the_help() {
        for setting in WORKER_SETTINGS
            .iter()
            .filter(|setting| setting.flag.is_some())
        {
            let is_same = |other: &&&Setting| other.variable == setting.variable;
            let groups = GROUPS.iter().flat_map(|(_, settings)| settings.iter());
            assert_eq!(groups.filter(is_same).count(), 1, "{}", setting.variable);
        }
    }
}
