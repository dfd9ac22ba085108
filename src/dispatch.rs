//! `dispatch`: works through a whole task graph. Starts a worker for each ready task, and merges and verifies the
//! finished work on one branch.

mod agent_definitions;
mod attempts;
mod branch_searches;
mod claims;
mod control;
mod decide;
mod dispatcher;
mod end;
pub mod engine;
mod event_listener;
pub mod integration;
mod journal;
mod journaled_state;
mod listen;
mod merging;
mod names;
mod needs;
mod open;
mod policy;
pub mod preflight;
mod project_files;
mod reach;
mod report;
mod result;
mod run_output;
mod scope;
mod settings;
mod show;
mod spans;
mod standing;
mod state;
mod target;
pub mod verification;
mod worker_environment;

use std::collections::HashMap;

use eyre::{WrapErr, bail, eyre};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::report::ReportFile;
use crate::task_list;
use crate::terminal::{Format, Screen, print_object};
use control::Question;
use dispatcher::{Dispatcher, Inbox, Signals};
use journal::{Entry, UserCommand};
use open::{open, read_needs, read_project_settings, read_scope, start_dispatcher};
use preflight::preflight;
pub use project_files::ProjectRules;
use reach::{AnswerOrJournal, ask_or_open_journal, open_for_dispatcher};
use report::{Contents, DispatchStatus, write};
pub use result::DispatchResult;
pub use settings::{AgentOfWorkers, EarlierJournal, Phases, Settings, Subcommand, WorkerSettings};
use target::Target;

/// How many questions from the control socket may wait for the dispatcher.
const MAX_WAITING_QUESTIONS: usize = 16;

/// Runs a subcommand of `dispatch`.
///
/// # Errors
/// If the project, its repository or the state directory cannot be used.
pub async fn run(settings: Settings, screen: &Screen) -> eyre::Result<DispatchResult> {
    // Checks the file for the report first: a mistake in its path must not lose the report at the end.
    let report = settings.report.as_deref().map(ReportFile::check);
    let report = report.transpose()?;
    let target = Target::find(&settings).await?;
    match settings.subcommand.clone() {
        Subcommand::Run { earlier_journal } => {
            let work = work_through(&settings, &target, earlier_journal, report, screen);
            LocalSet::new().run_until(Box::pin(work)).await
        }
        Subcommand::Cancel(None) => {
            let cancel = cancel_all(&settings, &target, screen);
            LocalSet::new().run_until(Box::pin(cancel)).await
        }
        Subcommand::Plan => plan(&settings, &target).await,
        Subcommand::Status => {
            if let Some(file) = report {
                return write_status(&settings, &target, &file, screen).await;
            }
            let question = match settings.format {
                Format::Lines => Question::Status,
                Format::Json => Question::StatusJson,
            };
            ask_dispatcher(&settings, &target, question).await
        }
        Subcommand::Retry(task) => send_command(&settings, &target, UserCommand::Retry, task).await,
        Subcommand::Skip(task) => send_command(&settings, &target, UserCommand::Skip, task).await,
        Subcommand::Cancel(Some(task)) => {
            send_command(&settings, &target, UserCommand::Cancel, task).await
        }
    }
}

/// Works through the graph. The preflight comes before the first start, because a mistake in the project's files would
/// make every run fail.
async fn work_through(
    settings: &Settings,
    target: &Target,
    earlier_journal: EarlierJournal,
    report: Option<ReportFile>,
    screen: &Screen,
) -> eyre::Result<DispatchResult> {
    let opened = open_for_dispatcher(settings, target, earlier_journal, screen).await?;
    for message in &opened.messages {
        screen.line(message);
    }
    let findings = preflight(&opened.integration, &ProjectRules::of(settings)).await?;
    for warning in &findings.warnings {
        screen.line(warning);
    }
    if !findings.obstacles.is_empty() {
        bail!("{}", findings.obstacles.join("\n"));
    }
    let (dispatcher, listener) = start_dispatcher(settings, target, opened, screen).await?;
    dispatcher.show.print_message(&format!(
        "{} tasks, {} at a time, on the branch {} from {}",
        dispatcher.count_tasks(),
        settings.jobs,
        target.branch,
        dispatcher
            .tip
            .commit
            .get(..10)
            .unwrap_or(&dispatcher.tip.commit)
    ));
    run_dispatcher(dispatcher, listener, target, report.as_ref(), screen).await
}

/// Cancels all runs. If a dispatcher runs, asks it to do this. Otherwise this process becomes a dispatcher that starts
/// no new runs: it ends the runs of the last dispatcher, and merges their finished work. To find a run whose start no
/// engine has confirmed, it repeats the start with the same name.
async fn cancel_all(
    settings: &Settings,
    target: &Target,
    screen: &Screen,
) -> eyre::Result<DispatchResult> {
    let question = Question::Command {
        command: UserCommand::Cancel,
        task: None,
    };
    let opened = match ask_or_open_journal(settings, target, &question).await? {
        AnswerOrJournal::Answer(text) => {
            print_answer(settings, &question, &text)?;
            return Ok(DispatchResult::AllDone);
        }
        AnswerOrJournal::Journal(opened) => *opened,
    };
    let (mut dispatcher, listener) = start_dispatcher(settings, target, opened, screen).await?;
    let live = dispatcher.cancel_all();
    dispatcher
        .show
        .print_message(&format!("no dispatcher runs; cancelling {live} runs"));
    match run_dispatcher(dispatcher, listener, target, None, screen).await? {
        DispatchResult::StoppedWithRuns => Ok(DispatchResult::StoppedWithRuns),
        DispatchResult::AllDone | DispatchResult::Blocked | DispatchResult::Stopped => {
            Ok(DispatchResult::AllDone)
        }
    }
}

/// Runs a dispatcher to its end, and prints the summary.
///
/// The HTTP server and the control socket stop before the summary is made, because no loop answers their requests any
/// more. The journal is closed last, when everything has been recorded.
async fn run_dispatcher(
    mut dispatcher: Dispatcher<'_>,
    listener: TcpListener,
    target: &Target,
    report: Option<&ReportFile>,
    screen: &Screen,
) -> eyre::Result<DispatchResult> {
    let (requests_sender, requests) = mpsc::channel(event_listener::MAX_WAITING_REQUESTS);
    let (questions_sender, questions) = mpsc::channel(MAX_WAITING_QUESTIONS);
    let secret = dispatcher.secret.clone();
    let server = tokio::task::spawn_local(async move {
        event_listener::listen(&listener, secret, requests_sender).await;
    });
    let state_dir = target.state_dir.clone();
    let socket = tokio::task::spawn_local(async move {
        if let Err(error) = control::listen(&state_dir, questions_sender).await {
            tracing::warn!(%error, "`dispatch status` and the like cannot reach this dispatcher");
        }
    });
    let inbox = Inbox {
        requests,
        questions,
    };
    let mut signals = Signals::listen()?;
    let loop_end = dispatcher.run(inbox, &mut signals).await;
    server.abort();
    socket.abort();
    let loop_end = match loop_end {
        Ok(loop_end) => loop_end,
        Err(error) => {
            dispatcher.show.flush();
            screen.clear_status();
            screen.line(&format!("{error:#}"));
            screen.line(
                "the dispatcher has stopped; its workers go on, and the same command takes them over",
            );
            if let Some(file) = report {
                let status =
                    DispatchStatus::ended(DispatchResult::StoppedWithRuns, &format!("{error:#}"));
                let standings = dispatcher.standings();
                write(
                    file,
                    &dispatcher.report_contents(&standings, &status),
                    screen,
                );
            }
            dispatcher.journaled.close().await;
            dispatcher.end_trace(DispatchResult::StoppedWithRuns).await;
            return Ok(DispatchResult::StoppedWithRuns);
        }
    };
    let result = end::end_dispatch(
        &mut dispatcher,
        loop_end,
        &target.branch,
        report,
        &mut signals,
    )
    .await;
    dispatcher.journaled.close().await;
    // After an error, the next dispatcher takes over the runs.
    let result_in_trace = result.as_ref().copied();
    let result_in_trace = result_in_trace.unwrap_or(DispatchResult::StoppedWithRuns);
    dispatcher.end_trace(result_in_trace).await;
    result
}

/// Prints which tasks would run in which order, and which are blocked. Starts nothing.
async fn plan(settings: &Settings, target: &Target) -> eyre::Result<DispatchResult> {
    let opened = open(settings, target, EarlierJournal::Continue).await?;
    let (_, graph, scope) = read_scope(settings, target, &opened.integration).await?;
    // Only the errors of these two calls matter: the plan must show mistakes in the project's file.
    read_needs(&opened.integration, &graph).await?;
    read_project_settings(&opened.integration, &settings.project_settings).await?;
    let plan = task_list::Plan::of(&graph, |task| scope.contains(&task));
    match settings.format {
        Format::Lines => task_list::print(&plan.text())?,
        Format::Json => print_object("plan", plan, &settings.redactor)?,
    }
    Ok(DispatchResult::AllDone)
}

/// Sends a question to the running dispatcher, and prints its answer. If no dispatcher runs, reads the journal or
/// writes to it.
async fn ask_dispatcher(
    settings: &Settings,
    target: &Target,
    question: Question,
) -> eyre::Result<DispatchResult> {
    let opened = match ask_or_open_journal(settings, target, &question).await? {
        AnswerOrJournal::Answer(text) => {
            print_answer(settings, &question, &text)?;
            return Ok(DispatchResult::AllDone);
        }
        AnswerOrJournal::Journal(opened) => *opened,
    };
    let (tip, graph, scope) = read_scope(settings, target, &opened.integration).await?;
    match &question {
        Question::Status | Question::StatusJson => {
            let broken = tip.broken_definitions;
            let policy = policy::Policy::new(settings, scope, HashMap::new(), broken);
            let standings = standing::standings(&opened.journaled.state, &graph, &policy);
            let rows = show::status_rows(&opened.journaled.state, &graph, &standings);
            match settings.format {
                Format::Lines => task_list::print(&format!(
                    "no dispatcher runs; the journal says:\n{}",
                    show::status_text(&rows)
                ))?,
                Format::Json => print_object(
                    "status",
                    json!({ "is_running": false, "tasks": rows }),
                    &settings.redactor,
                )?,
            }
        }
        // `write_status` handles this question.
        Question::Report { .. } => {}
        Question::Command { command, task } => {
            let mut journaled = opened.journaled;
            let key_of = |name: &String| {
                let task = scope::find_task(&graph, &scope, name).map_err(|why| eyre!(why))?;
                eyre::Ok(graph.tasks[task].key.clone())
            };
            let task = task.as_ref().map(key_of).transpose()?;
            journaled
                .record(Entry::Asked {
                    what: *command,
                    task,
                })
                .await?;
            let text = "noted; the next `descartes-worker dispatch` acts on it\n";
            print_answer(settings, &question, text)?;
        }
    }
    Ok(DispatchResult::AllDone)
}

/// Prints the answer to a question: that of the running dispatcher, or the one that this process has made.
fn print_answer(settings: &Settings, question: &Question, text: &str) -> eyre::Result<()> {
    if settings.format == Format::Lines {
        return task_list::print(text);
    }
    let (kind, fields) = match question {
        Question::StatusJson => {
            let tasks: Value = serde_json::from_str(text).wrap_err_with(|| {
                format!("the dispatcher that runs is of another version, and cannot answer as JSON; leave --json out ({})", text.trim())
            })?;
            ("status", json!({ "is_running": true, "tasks": tasks }))
        }
        _ => ("answer", json!({ "text": text.trim_end() })),
    };
    Ok(print_object(kind, fields, &settings.redactor)?)
}

/// Writes a report about the running dispatch, or about the last one.
async fn write_status(
    settings: &Settings,
    target: &Target,
    file: &ReportFile,
    screen: &Screen,
) -> eyre::Result<DispatchResult> {
    let format = report::Format::of(file);
    let question = Question::Report { format };
    let text = match ask_or_open_journal(settings, target, &question).await? {
        AnswerOrJournal::Answer(text) if format.is_format_of(&text) => text,
        AnswerOrJournal::Answer(text) => bail!(
            "the dispatcher that runs cannot write a report: {}",
            text.trim()
        ),
        AnswerOrJournal::Journal(opened) => {
            let (tip, graph, scope) = read_scope(settings, target, &opened.integration).await?;
            let broken = tip.broken_definitions.clone();
            let policy = policy::Policy::new(settings, scope, HashMap::new(), broken);
            let state = &opened.journaled.state;
            let contents = Contents {
                state,
                graph: &graph,
                standings: &standing::standings(state, &graph, &policy),
                tip: &tip,
                project: &target.name,
                runs_dir: &target.state_dir.join("runs"),
                redactor: screen.redactor(),
                status: &DispatchStatus::of_journal(state),
            };
            contents.text(format)?
        }
    };
    file.write(&text)?;
    screen.line(&format!("the report is in {}", file.path().display()));
    Ok(DispatchResult::AllDone)
}

/// Sends a command about a task to the running dispatcher, or writes it to the journal.
async fn send_command(
    settings: &Settings,
    target: &Target,
    command: UserCommand,
    task: String,
) -> eyre::Result<DispatchResult> {
    let task = Some(task);
    ask_dispatcher(settings, target, Question::Command { command, task }).await
}
