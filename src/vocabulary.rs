//! The words that this program and its documentation share, as JSON: settings, exit codes, failure
//! reasons, kinds of agents, subcommands.
//!
//! `descartes-worker vocabulary` prints the words from the tables that the program itself uses. The tests compare the
//! tables of the documentation with that output.

use std::io::{self, Write};

use clap::Command;
use serde::Serialize;

use crate::config::environment::{MIN_SECRET_LENGTH, PASSED_ON_VARIABLES};
use crate::config::settings::{
    DISPATCH_SETTINGS, InProjectFile, LISTEN, MODEL_ACCESS, REQUIRED_SETTINGS, Setting,
    WORKER_SETTINGS,
};
use crate::exit::{Check, Dispatch, MergeGraph, Probe, Worker};
use crate::git::GitErrorKind;
use crate::process;
use crate::progress::{self, Phase};
use crate::redact::names::SECRET_ENDINGS;
use crate::runner::agent::KINDS;
use crate::shutdown;
use crate::task::{Reason, Status};

/// The name of the worker itself in the list of subcommands.
const WORKER_COMMAND: &str = env!("CARGO_PKG_NAME");

#[derive(Serialize)]
struct Vocabulary {
    settings: Vec<SettingEntry>,
    subcommands: Vec<Subcommand>,
    exit_codes: Vec<ExitCodeEntry>,
    failure_reasons: Vec<ReasonEntry>,
    agent_kinds: Vec<&'static str>,
    phases: Vec<&'static str>,
    /// The letters of the task graph.
    task_statuses: Vec<StatusEntry>,
    /// Variables of the worker that the agent and the checks get.
    passed_on_variables: &'static [&'static str],
    /// Variables that only the agent gets.
    model_variables: Vec<&'static str>,
    /// A variable whose name ends with one of these holds a secret.
    secret_endings: &'static [&'static str],
    limits: Limits,
    /// The kinds of errors that git can report, except transient errors.
    git_errors: Vec<GitErrorEntry>,
}

#[derive(Serialize)]
struct SettingEntry {
    /// The name that people set.
    variable: &'static str,
    /// The name with `DESCARTES_` in front, if `variable` is shorter.
    long_variable: &'static str,
    /// For example `--task`.
    flag: Option<String>,
    default: Option<&'static str>,
    when_unset: Option<&'static str>,
    required: bool,
    meaning: &'static str,
    /// The key in a project's `.descartes.toml`, if the setting may be there.
    key: Option<String>,
    /// The type of the key's value in that file.
    kind_in_file: Option<&'static str>,
}

#[derive(Serialize)]
struct Subcommand {
    name: String,
    about: String,
    hidden: bool,
    flags: Vec<String>,
}

#[derive(Serialize)]
struct ExitCodeEntry {
    command: &'static str,
    code: u8,
    meaning: &'static str,
}

#[derive(Serialize)]
struct ReasonEntry {
    word: &'static str,
    retryable: bool,
}

#[derive(Serialize)]
struct GitErrorEntry {
    phrase: &'static str,
    retryable: bool,
}

#[derive(Serialize)]
struct StatusEntry {
    letter: char,
    name: String,
}

/// Numbers that the documentation repeats.
#[derive(Serialize)]
struct Limits {
    shortest_secret_bytes: usize,
    output_head_bytes: usize,
    output_tail_bytes: usize,
    heartbeat_output_bytes: usize,
    /// The time between SIGTERM and SIGKILL. After a stop signal it can be shorter.
    kill_grace_ms: u128,
    /// This share and the next one are fractions of the stop window, counted from the stop signal.
    agent_share_of_stop_window: f64,
    hand_over_share_of_stop_window: f64,
    stop_window_margin_ms: u128,
}

/// Prints the vocabulary on standard output.
pub fn print(cli: Command) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, &Vocabulary::of(cli))?;
    writeln!(stdout)
}

impl Vocabulary {
    fn of(cli: Command) -> Self {
        let statuses = Status::ALL.iter().map(|(status, letter, _)| StatusEntry {
            letter: char::from(*letter),
            name: status.to_string(),
        });
        let reasons = Reason::ALL.into_iter().map(|reason| ReasonEntry {
            word: reason.word(),
            retryable: reason.retryable(),
        });
        let settings = WORKER_SETTINGS
            .iter()
            .copied()
            .chain([&LISTEN])
            .chain(DISPATCH_SETTINGS);
        Self {
            settings: settings.map(SettingEntry::of).collect(),
            subcommands: subcommands(cli),
            exit_codes: exit_codes(),
            failure_reasons: reasons.collect(),
            agent_kinds: KINDS.iter().map(|kind| kind.word).collect(),
            phases: Phase::ALL.into_iter().map(Phase::word).collect(),
            task_statuses: statuses.collect(),
            passed_on_variables: &PASSED_ON_VARIABLES,
            model_variables: MODEL_ACCESS.into_iter().map(Setting::name).collect(),
            secret_endings: &SECRET_ENDINGS,
            git_errors: git_errors(),
            limits: Limits {
                shortest_secret_bytes: MIN_SECRET_LENGTH,
                output_head_bytes: progress::HEAD_SIZE,
                output_tail_bytes: progress::TAIL_SIZE,
                heartbeat_output_bytes: progress::OUTPUT_WINDOW_SIZE,
                kill_grace_ms: process::KILL_GRACE.as_millis(),
                agent_share_of_stop_window: shutdown::KILL_GRACE_SHARE,
                hand_over_share_of_stop_window: shutdown::HAND_OVER_SHARE,
                stop_window_margin_ms: shutdown::EXIT_MARGIN.as_millis(),
            },
        }
    }
}

impl SettingEntry {
    fn of(setting: &'static Setting) -> Self {
        let required = REQUIRED_SETTINGS
            .into_iter()
            .any(|required| required.variable == setting.variable);
        Self {
            variable: setting.name(),
            long_variable: setting.variable,
            flag: setting.flag.map(|flag| format!("--{flag}")),
            default: setting.default,
            when_unset: setting.when_unset,
            required,
            meaning: setting.help,
            key: (setting.in_project_file != InProjectFile::Forbidden).then(|| setting.key()),
            kind_in_file: match setting.in_project_file {
                InProjectFile::Forbidden => None,
                InProjectFile::Text => Some("a string"),
                InProjectFile::Number => Some("a number"),
                InProjectFile::NumberUpToDefault => Some("a number, at most the default"),
                InProjectFile::Texts => Some("a list of strings"),
                InProjectFile::DurationUpToDefault => Some("a duration, at most the default"),
            },
        }
    }
}

/// The entries of the worker itself and of its subcommands.
fn subcommands(mut cli: Command) -> Vec<Subcommand> {
    // Subcommands get their flags only when they are built.
    cli.build();
    let worker = std::iter::once(&cli);
    let commands = worker.chain(cli.get_subcommands());
    commands
        .map(|command| Subcommand {
            name: command.get_name().to_owned(),
            about: command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default(),
            hidden: command.is_hide_set(),
            flags: command
                .get_arguments()
                .filter_map(|arg| arg.get_long())
                .map(|flag| format!("--{flag}"))
                .collect(),
        })
        .collect()
}

/// What each command's exit codes mean.
fn exit_codes() -> Vec<ExitCodeEntry> {
    let entry = |command, code, meaning| ExitCodeEntry {
        command,
        code,
        meaning,
    };
    let worker = [
        Worker::Completed,
        Worker::Failed,
        Worker::Misconfigured,
        Worker::Undelivered,
        Worker::Refused,
    ]
    .map(|exit| entry(WORKER_COMMAND, exit.code(), worker_meaning(exit)));
    // The exit code of a command that cannot start.
    let misconfigured = Worker::Misconfigured.code();
    let others = [
        entry(
            "check",
            Check::Ready.code(),
            "everything that a run needs is there",
        ),
        entry(
            "check",
            Check::NotReady.code(),
            "a setting is invalid or something is missing; the output says what",
        ),
        entry(
            "merge-graph",
            MergeGraph::Clean.code(),
            "merged without conflicts",
        ),
        entry(
            "merge-graph",
            MergeGraph::Conflicts.code(),
            "conflicts are marked in the file",
        ),
        entry(
            "merge-graph",
            MergeGraph::Failed.code(),
            "an error; no file was changed. git fails the merge",
        ),
        entry(
            "dispatch",
            Dispatch::AllDone.code(),
            "all tasks are done and merged",
        ),
        entry(
            "dispatch",
            Dispatch::Blocked.code(),
            "some tasks are not done, or the checks of the merged work failed; the output says why",
        ),
        entry(
            "dispatch",
            misconfigured,
            "a setting is invalid, or the project cannot be used",
        ),
        entry(
            "dispatch",
            Dispatch::Stopped.code(),
            "stopped by a signal or by a person; the same command continues",
        ),
        entry("tasks", 0, "the tasks were listed"),
        entry(
            "tasks",
            misconfigured,
            "the project or its graph cannot be used",
        ),
        entry(
            "probe",
            Probe::AllKept.code(),
            "the orchestrator follows every rule that was tested",
        ),
        entry(
            "probe",
            Probe::SomeBroken.code(),
            "at least one rule is broken; the output says which",
        ),
        entry(
            "probe",
            Probe::Unreachable.code(),
            "the orchestrator did not answer the first claim",
        ),
        entry("receive", 0, "stopped by a signal"),
        entry("receive", misconfigured, "the address cannot be used"),
        entry("completions", 0, "the script was printed"),
        entry("completions", misconfigured, "the shell is not known"),
    ];
    worker.into_iter().chain(others).collect()
}

/// The meaning of a worker's exit code in words.
fn worker_meaning(exit: Worker) -> &'static str {
    match exit {
        Worker::Completed => "the task is completed, and the orchestrator knows",
        Worker::Failed => "the task failed, and the orchestrator knows",
        Worker::Misconfigured => "the configuration is invalid; nothing was sent",
        Worker::Undelivered => {
            "the claim was not granted or the outcome was not delivered; the outcome is on standard output"
        }
        Worker::Refused => "the orchestrator refused the claim; nothing was done",
    }
}

fn git_errors() -> Vec<GitErrorEntry> {
    let entries = GitErrorKind::all().filter_map(|kind| {
        Some(GitErrorEntry {
            phrase: kind.phrase()?,
            retryable: kind.is_retryable(),
        })
    });
    entries.collect()
}

#[cfg(test)]
mod tests;
