//! The command line of `dispatch`.

use clap::{Arg, ArgAction, Command, value_parser};

use super::flags::{flags_except, report_flag, switch, unflagged_help, value_flag};
use crate::config::help::SEE_LONG_HELP;
use crate::config::settings::DISPATCH_SETTINGS;

/// The flags of a worker that `dispatch` does not have, because it sets them itself or has a flag with the same name
/// and another meaning.
const NOT_FOR_DISPATCH: [&str; 10] = [
    "branch",
    "callback-oidc-audience",
    "callback-oidc-socket",
    "callback-url",
    "force",
    "max-budget-usd",
    "ref",
    "run-id",
    "task",
    "workspace",
];

/// The command `dispatch`.
pub fn dispatch_command() -> Command {
    Command::new("dispatch")
                .about("Works through a project's whole graph: starts a worker for every ready task, merges the finished work, until no task is left")
                .defer(|dispatch| {
                    let variables = DISPATCH_SETTINGS.map(|setting| {
                        format!("\n  {}\n          {}", setting.name(), setting.help)
                    });
                    dispatch
                        .args(dispatch_args())
                        .args(flags_except(&NOT_FOR_DISPATCH))
                        .after_help(SEE_LONG_HELP)
                        .after_long_help(unflagged_help() + &variables.concat())
                })
}

/// The arguments of `dispatch` that no variable sets.
fn dispatch_args() -> Vec<Arg> {
    let path = value_parser!(std::path::PathBuf);
    vec![
        Arg::new("action")
            .value_name("ACTION")
            .value_parser(["status", "retry", "skip", "cancel"])
            .help("Controls the running dispatch: status; retry, skip or cancel with a TASK; cancel alone cancels all runs"),
        Arg::new("task-of-action").value_name("TASK").help("The task to retry, skip or cancel"),
        value_flag("project", "DIR", "The project's directory [default: the current directory]")
            .value_parser(path.clone()),
        value_flag("base", "REF", "The branch, tag or commit to begin at [default: the project's HEAD]"),
        value_flag("branch", "BRANCH", "The branch for the merged work [default: descartes/<phase>]"),
        value_flag("into", "BRANCH", "Move this branch forward to the merged work at the end, if a fast-forward is possible"),
        switch("all-phases", "Work on all phases; needs --branch").conflicts_with("tag"),
        value_flag("only", "IDS", "Only these tasks, separated by commas; a split task stands for its subtasks"),
        value_flag("engine", "ENGINE", "Where workers run: local, docker, fly or command; local=2 for at most two. Can be repeated: the first one with room gets the next run [default: local]")
            .action(ArgAction::Append),
        value_flag("jobs", "COUNT", "How many workers at a time [default: the sum of the limits of the engines; without limits, half of the cores, at least 2]"),
        value_flag("attempts", "COUNT", "How many attempts a task has [default: 3]"),
        value_flag("max-budget-usd", "DOLLARS", "How much all agents together may spend before nothing new starts; DESCARTES_MAX_BUDGET_USD limits each one"),
        value_flag("verify", "WHEN", "When the checks run on merged work: changed (if the merged tree differs from the one that a run has checked), always, end or never [default: changed]")
            .value_parser(["changed", "always", "end", "never"]),
        switch("plan", "Print what would run in which order, and what is blocked and why; start nothing"),
        switch("fresh", "Start a new journal and put the last one aside; tasks whose work is on the branch stay done"),
        switch("json", "Print every journal entry as a line of JSON; with --plan or an ACTION, print the answer as one JSON object"),
        report_flag("Write a report at the end: a page if FILE ends in .html, else JSON. With status: write it now"),
    ]
}
