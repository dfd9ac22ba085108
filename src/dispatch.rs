//! `dispatch`: works through a whole task graph. Starts a worker for each ready task, and merges and verifies the
//! finished work on one branch.

mod attempts;
mod claims;
mod control;
mod decide;
mod dispatcher;
mod end;
pub mod engine;
mod event_listener;
mod harvest;
pub mod integration;
mod journal;
mod journaled_state;
mod merging;
mod names;
mod needs;
mod open;
mod policy;
pub mod preflight;
mod run_output;
mod scope;
mod settings;
mod show;
mod standing;
mod start;
mod state;
pub mod verification;

use std::collections::HashMap;

use eyre::{bail, eyre};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::environment::value_of;
use crate::task_list;
use crate::terminal::Screen;
use control::Question;
use dispatcher::{Dispatcher, Inbox};
pub use end::Ended;
use journal::{Entry, UserCommand};
use open::{Target, open, read_needs, read_project_settings, read_scope, start_dispatcher};
use preflight::{Questions, preflight};
pub use settings::{EarlierJournal, Phases, Settings, Subcommand, WorkerSettings, WorkersAgent};

/// How many requests from the control socket may wait.
const MAX_QUESTIONS: usize = 16;

/// Runs the subcommand.
pub async fn run(settings: Settings, screen: &Screen) -> eyre::Result<Ended> {
    let target = Target::find(&settings).await?;
    match settings.subcommand.clone() {
        Subcommand::Run { earlier_journal } => {
            let work = work_through(&settings, &target, earlier_journal, screen);
            LocalSet::new().run_until(Box::pin(work)).await
        }
        Subcommand::Cancel(None) => {
            let cancel = cancel_all(&settings, &target, screen);
            LocalSet::new().run_until(Box::pin(cancel)).await
        }
        Subcommand::Plan => plan(&settings, &target).await,
        Subcommand::Status => ask_dispatcher(&settings, &target, Question::Status).await,
        Subcommand::Retry(task) => {
            send_command(&settings, &target, UserCommand::Retry, Some(task)).await
        }
        Subcommand::Skip(task) => {
            send_command(&settings, &target, UserCommand::Skip, Some(task)).await
        }
        Subcommand::Cancel(Some(task)) => {
            send_command(&settings, &target, UserCommand::Cancel, Some(task)).await
        }
    }
}

async fn work_through(
    settings: &Settings,
    target: &Target,
    earlier_journal: EarlierJournal,
    screen: &Screen,
) -> eyre::Result<Ended> {
    let opened = open(settings, target, earlier_journal).await?;
    for note in &opened.notes {
        screen.line(note);
    }
    // Workers on other machines do not use the programs of this one.
    let is_local = settings.engines.uses(engine::EngineKind::Local);
    let project = read_project_settings(&opened.integration, &settings.project_settings).await?;
    let checks = settings.checks.as_ref().or(project.checks.as_ref());
    let questions = Questions {
        path: value_of(&settings.environment, "PATH").filter(|_| is_local),
        checks: checks.map(Vec::as_slice),
        missing_agent: settings.missing_agent(&project).filter(|_| is_local),
    };
    let findings = preflight(&opened.integration, &questions).await?;
    for warning in &findings.warnings {
        screen.line(warning);
    }
    if !findings.obstacles.is_empty() {
        bail!("{}", findings.obstacles.join("\n"));
    }
    let (dispatcher, listener) = start_dispatcher(settings, target, opened, screen).await?;
    dispatcher.show.say(&format!(
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
    run_dispatcher(dispatcher, listener, target, screen).await
}

/// Cancels all runs: asks the running dispatcher to do it. If no dispatcher runs, becomes one that starts nothing, so that
/// the runs of the last one end, and what they have finished is merged.
async fn cancel_all(settings: &Settings, target: &Target, screen: &Screen) -> eyre::Result<Ended> {
    let question = Question::Command {
        command: UserCommand::Cancel,
        task: None,
    };
    if let Some(text) = control::ask(&target.state_dir, &question).await? {
        task_list::write(&text)?;
        return Ok(Ended::AllDone);
    }
    require_journal(target)?;
    let opened = open(settings, target, EarlierJournal::Continue).await?;
    let (mut dispatcher, listener) = start_dispatcher(settings, target, opened, screen).await?;
    let live = dispatcher.cancel_all();
    dispatcher
        .show
        .say(&format!("no dispatcher runs; cancelling {live} runs"));
    match run_dispatcher(dispatcher, listener, target, screen).await? {
        Ended::StoppedWithRuns => Ok(Ended::StoppedWithRuns),
        Ended::AllDone | Ended::Blocked | Ended::Stopped => Ok(Ended::AllDone),
    }
}

/// Runs a dispatcher to its end, and prints the summary.
async fn run_dispatcher(
    mut dispatcher: Dispatcher<'_>,
    listener: TcpListener,
    target: &Target,
    screen: &Screen,
) -> eyre::Result<Ended> {
    let (requests, requests_receiver) = mpsc::channel(event_listener::MAX_WAITING);
    let (questions, questions_receiver) = mpsc::channel(MAX_QUESTIONS);
    let secret = dispatcher.secret.clone();
    let server = tokio::task::spawn_local(async move {
        event_listener::listen(&listener, secret, requests).await;
    });
    let state_dir = target.state_dir.clone();
    let socket = tokio::task::spawn_local(async move {
        if let Err(error) = control::listen(&state_dir, questions).await {
            tracing::warn!(%error, "`dispatch status` and the like cannot reach this dispatcher");
            std::future::pending::<()>().await;
        }
    });
    let inbox = Inbox {
        requests: requests_receiver,
        questions: questions_receiver,
    };
    let loop_end = dispatcher.run(inbox).await;
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
            return Ok(Ended::StoppedWithRuns);
        }
    };
    end::end(&mut dispatcher, loop_end, &target.branch).await
}

async fn plan(settings: &Settings, target: &Target) -> eyre::Result<Ended> {
    let opened = open(settings, target, EarlierJournal::Continue).await?;
    let (_, graph, scope) = read_scope(settings, target, &opened.integration).await?;
    // Mistakes in the project's file are reported before anything starts.
    read_needs(&opened.integration, &graph).await?;
    read_project_settings(&opened.integration, &settings.project_settings).await?;
    task_list::write(&task_list::plan(&graph, |task| scope.contains(&task)))?;
    Ok(Ended::AllDone)
}

/// Sends a question to the running dispatcher, and prints its answer. If no dispatcher runs, reads the journal or
/// writes to it.
async fn ask_dispatcher(
    settings: &Settings,
    target: &Target,
    question: Question,
) -> eyre::Result<Ended> {
    if let Some(text) = control::ask(&target.state_dir, &question).await? {
        task_list::write(&text)?;
        return Ok(Ended::AllDone);
    }
    require_journal(target)?;
    let opened = open(settings, target, EarlierJournal::Continue).await?;
    let (_, graph, scope) = read_scope(settings, target, &opened.integration).await?;
    match question {
        Question::Status => {
            let policy = policy::Policy::new(settings, scope, HashMap::new());
            let standings = standing::standings(&opened.journaled.state, &graph, &policy);
            let text = show::status(&opened.journaled.state, &graph, &standings);
            task_list::write(&format!("no dispatcher runs; the journal says:\n{text}"))?;
        }
        Question::Command { command, task } => {
            let mut journaled = opened.journaled;
            let find = |name: String| {
                let task = scope::find_task(&graph, &scope, &name).map_err(|why| eyre!(why))?;
                eyre::Ok(standing::task_key(&graph, task))
            };
            let task = task.map(find).transpose()?;
            journaled
                .record(Entry::Asked {
                    what: command,
                    task,
                })
                .await?;
            task_list::write("noted; the next `descartes-worker dispatch` acts on it\n")?;
        }
    }
    Ok(Ended::AllDone)
}

fn require_journal(target: &Target) -> eyre::Result<()> {
    if open::has_journal(&target.state_dir)? {
        return Ok(());
    }
    bail!(
        "there is no dispatch for the branch {} ({} is empty)",
        target.branch,
        target.state_dir.display()
    )
}

/// Sends a command about a task, or about all tasks.
async fn send_command(
    settings: &Settings,
    target: &Target,
    command: UserCommand,
    task: Option<String>,
) -> eyre::Result<Ended> {
    ask_dispatcher(settings, target, Question::Command { command, task }).await
}
