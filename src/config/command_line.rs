//! The command line, made from the table of settings.

mod dispatch;
mod flags;

use clap::{Arg, ArgAction, Command, value_parser};

use super::help::{SEE_LONG_HELP, with_output_flags};
use super::settings::{
    AGENT_ENV, AGENT_ENV_FILE, CALLBACK_OIDC_AUDIENCE, CALLBACK_OIDC_SOCKET, CALLBACK_TIMEOUT,
    IDLE_TIMEOUT, LISTEN, LOG_FORMAT, MAX_BUDGET_USD, MAX_TURNS, MODEL, PROJECT_ID, RUST_LOG, TAG,
};
use crate::builtin::COMMAND as BUILTIN_COMMAND;
use crate::gateway::COMMAND as GATEWAY_COMMAND;
use crate::terminal::Format;
use dispatch::dispatch_command;
use flags::{
    flag_of, flags_except, json_lines_flag, report_flag, switch, unflagged_help, value_flag,
    with_worker_flags,
};

/// The flags that `local` does not have, because it sets them itself or has a flag with another name instead.
const NOT_FOR_LOCAL: [&str; 3] = ["callback-url", "log-format", "workspace"];
/// The flags that `demo` does not have, because it makes its own project, and shows the log of its worker itself.
const NOT_FOR_DEMO: [&str; 10] = [
    "branch",
    "callback-url",
    "git-email",
    "git-idle-timeout",
    "git-name",
    "log-format",
    "ref",
    "repo",
    "task",
    "workspace",
];

/// The help of `--report` for a command that runs one worker.
const REPORT_PAGE_HELP: &str = "Write a page about the run at the end; FILE must end in .html";

/// The version, with the commit that the program was built from if the build script found one.
pub const VERSION: &str = match option_env!("DESCARTES_WORKER_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// The command line. The flags of a subcommand are made only if it is used, so that a worker starts fast.
pub fn cli() -> Command {
    let name = env!("CARGO_PKG_NAME");
    with_output_flags(with_worker_flags(Command::new(name)))
        .version(VERSION)
        .about("Runs one coding-agent task: claims it, supervises the agent, checks the work, reports the outcome exactly once")
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("demo")
                .about("Runs a worker on a sample project; needs no set-up")
                .defer(|demo| {
                    let graph = Arg::new("graph").long("graph").action(ArgAction::SetTrue);
                    let graph = graph.help("Works through the whole graph of another sample project, as dispatch does");
                    demo.arg(graph).arg(json_lines_flag()).arg(report_flag(REPORT_PAGE_HELP)).args(flags_except(&NOT_FOR_DEMO)).after_help(SEE_LONG_HELP)
                }),
        )
        .subcommand(
            Command::new("local")
                .about("Runs one task of a project on this machine, under a built-in orchestrator")
                .defer(|local| {
                    let project = Arg::new("project")
                        .long("project")
                        .value_name("DIR")
                        .help("The project's directory; with --repo, the directory to clone to [DESCARTES_WORKSPACE; default: the current directory, with --repo a new temporary one]")
                        .value_parser(value_parser!(std::path::PathBuf));
                    local.arg(project).args(local_args()).arg(report_flag(REPORT_PAGE_HELP)).args(flags_except(&NOT_FOR_LOCAL)).after_help(SEE_LONG_HELP).after_long_help(unflagged_help())
                }),
        )
        .subcommand(dispatch_command())
        .subcommand(tasks_command())
        .subcommand(
            Command::new("receive")
                .about("Runs the built-in orchestrator alone: prints what workers report, and checks fields, order and signatures")
                .defer(|receive| {
                    let settings = [&LISTEN, &RUST_LOG, &LOG_FORMAT];
                    receive.args(settings.into_iter().filter_map(flag_of)).args(receive_args()).arg(json_lines_flag())
                }),
        )
        .subcommand(probe_command())
        .subcommand(
            Command::new("check")
                .about("Checks whether everything that a run needs is there; connects to the repository, but not to the orchestrator")
                .defer(|check| {
                    with_worker_flags(check.args([
                        switch("local", "For a run with `local`: PROJECT_ID and CALLBACK_URL are not needed"),
                        switch("json", "Print the findings as one JSON object"),
                    ]))
                }),
        )
        .subcommand(
            Command::new("merge-graph")
                .about("Merges two versions of a task graph, as a merge driver for git")
                .defer(|merge| {
                    let file = |name, help| {
                        let path = value_parser!(std::path::PathBuf);
                        Arg::new(name).required(true).value_parser(path).help(help)
                    };
                    merge.args([
                        file("base", "The common ancestor of both versions (%O)"),
                        file("ours", "Our version; the result is written to this file (%A)"),
                        file("theirs", "Their version (%B)"),
                    ])
                }),
        )
        // The worker starts this command itself.
        .subcommand(
            Command::new(BUILTIN_COMMAND)
                .hide(true)
                .about("The built-in agent: reads the prompt from standard input, and writes its messages as stream-json to standard output")
                .defer(|agent| {
                    let session = Arg::new("session")
                        .long("session")
                        .value_name("FILE")
                        .help("The file that keeps the conversation from one round to the next")
                        .value_parser(value_parser!(std::path::PathBuf));
                    let settings = [
                        &AGENT_ENV, &AGENT_ENV_FILE, &MODEL, &MAX_TURNS, &MAX_BUDGET_USD, &IDLE_TIMEOUT, &RUST_LOG,
                        &LOG_FORMAT,
                    ];
                    agent.arg(session).args(settings.into_iter().filter_map(flag_of))
                }),
        )
        .subcommand(
            Command::new(GATEWAY_COMMAND)
                .hide(true)
                .about("The model gateway: gets the keys on standard input, and forwards the agent's requests to the model's service"),
        )
        .subcommand(
            Command::new("vocabulary")
                .hide(true)
                .about("Prints the settings, exit codes and other words of this program as JSON, for the tests of the documentation"),
        )
        .subcommand(
            Command::new("help")
                .about("Prints the help of a command")
                .arg(Arg::new("command").value_name("COMMAND").help("The command; without one, the help of the worker")),
        )
        .subcommand(Command::new("completions").about("Prints a completion script for a shell").defer(|completions| {
            let shell = Arg::new("shell").required(true);
            completions.arg(shell.value_parser(value_parser!(clap_complete::Shell)))
        }))
}

/// The flags that only `local` has.
fn local_args() -> [Arg; 3] {
    [
        switch(
            "commit",
            "Leave the project's files as they are: the worker clones the last commit of the project's git repository, and pushes \
             its work to a branch of that repository (--branch)",
        ),
        switch(
            "dry-run",
            "Print the agent's command line and the prompt, start nothing and change nothing; needs no key",
        ),
        json_lines_flag(),
    ]
}

fn tasks_command() -> Command {
    Command::new("tasks")
        .about(
            "Lists the tasks of a project: which are ready, which wait, and which are blocked and why",
        )
        .defer(|tasks| {
            let project = Arg::new("project")
                .long("project")
                .value_name("DIR")
                .help(
                    "The project's directory [DESCARTES_WORKSPACE; default: the current directory]",
                )
                .value_parser(value_parser!(std::path::PathBuf));
            let settings = [&TAG, &RUST_LOG, &LOG_FORMAT];
            tasks
                .arg(project)
                .args(settings.into_iter().filter_map(flag_of))
                .args([
                    switch(
                        "ready",
                        "Only the tasks that are ready, the most important first",
                    )
                    .conflicts_with("blocked"),
                    switch("blocked", "Only the tasks that are blocked, and why"),
                    switch("ids", "Print the ids alone, one a line").conflicts_with("json"),
                    switch("json", "Print the tasks as one JSON object"),
                ])
        })
}

/// The flags that only `receive` has. A variable sets `--secret` too; the others are flags only.
fn receive_args() -> [Arg; 5] {
    [
        value_flag(
            "secret",
            "SECRET",
            "Accepts only requests with a signature by this secret (whsec_ and base64; several separated by spaces). \
             Other users of this machine can read flags: the variable is safer [DESCARTES_CALLBACK_SECRET]",
        ),
        value_flag(
            "lease",
            "DURATION",
            "How long a task stays with a worker that sends nothing; default: four of its heartbeat intervals, at least 60s",
        ),
        Arg::new("again").long("again").action(ArgAction::SetTrue).help(
            "Grants also tasks that are completed, or failed in a way that another run would not change",
        ),
        value_flag(
            "cancel",
            "ID",
            "Cancels this task, or this run, at each of its heartbeats; can be repeated",
        )
        .action(ArgAction::Append),
        value_flag(
            "answer",
            "ROUTE=STATUS",
            "Answers started, progress, completed or failed with this status; several, separated by commas, are used in \
             order, and the last one is repeated; ok is the normal answer: started=503,503,ok. Can be repeated",
        )
        .action(ArgAction::Append),
    ]
}

fn probe_command() -> Command {
    Command::new("probe")
        .about("Tests an orchestrator: sends the events of sample runs, and says which rules of the protocol it follows")
        .defer(|probe| {
            let settings = [&PROJECT_ID, &CALLBACK_TIMEOUT, &CALLBACK_OIDC_AUDIENCE, &CALLBACK_OIDC_SOCKET, &RUST_LOG, &LOG_FORMAT];
            probe.args(probe_args()).args(settings.into_iter().filter_map(flag_of)).after_help(
                "From the environment only:\n  DESCARTES_CALLBACK_SECRET, DESCARTES_CALLBACK_TOKEN, SSL_CERT_FILE: as for a worker",
            )
        })
}

/// The arguments that only `probe` has. A variable sets the URL too; the others are arguments only.
fn probe_args() -> [Arg; 6] {
    [
        // An `OsString`, because `reader` reads this argument like the flag of the setting CALLBACK_URL.
        Arg::new("callback-url")
            .value_name("URL")
            .value_parser(value_parser!(std::ffi::OsString))
            .help("The orchestrator's callback URL [CALLBACK_URL]"),
        value_flag(
            "task",
            "ID",
            "A task that the orchestrator knows and that nobody works on; up to four, one flag for each: the first is completed, \
             the second is claimed by several runs at once, the third is left silent, the fourth is cancelled; default: probe-1 to probe-4",
        )
        .action(ArgAction::Append),
        value_flag(
            "other-project-id",
            "ID",
            "Another project that has a task of the same id as the first; default: the project's id and -other",
        ),
        value_flag(
            "cancel-within",
            "DURATION",
            "Waits this long for you to cancel the fourth task at the orchestrator; default: cancelling is not tried",
        ),
        switch("leases", "Waits until the lease of a silent run is over, which takes more than a minute"),
        switch("json", "Print the verdicts as one JSON object"),
    ]
}

/// The output format of a command that has the flag `--json`.
pub fn format(flags: &clap::ArgMatches) -> Format {
    if flags.get_flag("json") {
        Format::Json
    } else {
        Format::Lines
    }
}
