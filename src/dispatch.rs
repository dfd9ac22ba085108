//! `dispatch`: works through a whole graph, from ready tasks to one branch of merged, verified work.

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
mod open;
pub mod preflight;
mod run_output;
mod scope;
mod settings;
mod show;
mod standing;
mod start;
mod state;
mod terms;
pub mod verification;

use eyre::{bail, eyre};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::environment::value_of;
use crate::task_list;
use crate::terminal::Screen;
use control::Question;
use dispatcher::Inbox;
pub use end::Ended;
use journal::{Asked, Entry};
use open::{Place, begin, open, read_scope};
use preflight::{Questions, preflight};
pub use settings::{Fresh, Phases, Settings, What, WorkerSettings};

/// How many questions of people may wait.
const MAX_QUESTIONS: usize = 16;

/// Does what the person asks for.
pub async fn run(settings: Settings, screen: &Screen) -> eyre::Result<Ended> {
    let place = Place::find(&settings).await?;
    match settings.what.clone() {
        What::Run { fresh } => {
            let work = work(&settings, &place, fresh, screen);
            LocalSet::new().run_until(Box::pin(work)).await
        }
        What::Plan => plan(&settings, &place).await,
        What::Status => tell(&settings, &place, Question::Status).await,
        What::Retry(task) => ask(&settings, &place, Asked::Retry, Some(task)).await,
        What::Skip(task) => ask(&settings, &place, Asked::Skip, Some(task)).await,
        What::Cancel(task) => ask(&settings, &place, Asked::Cancel, task).await,
    }
}

async fn work(
    settings: &Settings,
    place: &Place,
    fresh: Fresh,
    screen: &Screen,
) -> eyre::Result<Ended> {
    let opened = open(settings, place, fresh).await?;
    for note in &opened.notes {
        screen.line(note);
    }
    // Only what runs here needs the programs of this machine.
    let is_local = settings.engines.uses(engine::EngineKind::Local);
    let questions = Questions {
        path: value_of(&settings.environment, "PATH").filter(|_| is_local),
        checks: settings.checks.as_deref(),
        missing_agent: settings.missing_agent.clone().filter(|_| is_local),
    };
    let findings = preflight(&opened.integration, &questions).await?;
    for warning in &findings.warnings {
        screen.line(warning);
    }
    if !findings.obstacles.is_empty() {
        bail!("{}", findings.obstacles.join("\n"));
    }
    let (mut dispatcher, listener) = begin(settings, place, opened, screen).await?;
    dispatcher.show.say(&format!(
        "{} tasks, {} at a time, on the branch {} from {}",
        dispatcher.count_tasks(),
        settings.jobs,
        place.branch,
        dispatcher
            .tip
            .commit
            .get(..10)
            .unwrap_or(&dispatcher.tip.commit)
    ));
    let (requests, heard_requests) = mpsc::channel(event_listener::MAX_WAITING);
    let (questions, heard_questions) = mpsc::channel(MAX_QUESTIONS);
    let secret = dispatcher.secret.clone();
    let server = tokio::task::spawn_local(async move {
        event_listener::listen(&listener, secret, requests).await;
    });
    let state_dir = place.state_dir.clone();
    let socket = tokio::task::spawn_local(async move {
        if let Err(error) = control::listen(&state_dir, questions).await {
            tracing::warn!(%error, "`dispatch status` and the like cannot reach this dispatcher");
            std::future::pending::<()>().await;
        }
    });
    let inbox = Inbox {
        requests: heard_requests,
        questions: heard_questions,
    };
    let finish = dispatcher.run(inbox).await;
    server.abort();
    socket.abort();
    let finish = match finish {
        Ok(finish) => finish,
        Err(error) => {
            dispatcher.show.flush();
            screen.clear_status();
            screen.line(&format!("{error:#}"));
            screen.line(
                "the dispatch has stopped; what runs goes on, and the same command takes it over",
            );
            return Ok(Ended::Stopped);
        }
    };
    end::end(&mut dispatcher, finish, &place.branch).await
}

async fn plan(settings: &Settings, place: &Place) -> eyre::Result<Ended> {
    let opened = open(settings, place, Fresh::GoOn).await?;
    let (_, graph, scope) = read_scope(settings, place, &opened.integration).await?;
    task_list::write(&task_list::plan(&graph, |task| scope.contains(&task)))?;
    Ok(Ended::AllDone)
}

/// Asks a running dispatcher, and prints its answer.
async fn tell(settings: &Settings, place: &Place, question: Question) -> eyre::Result<Ended> {
    if let Some(text) = control::ask(&place.state_dir, &question).await? {
        task_list::write(&text)?;
        return Ok(Ended::AllDone);
    }
    if !open::exists(&place.state_dir)? {
        bail!(
            "there is no dispatch for the branch {} ({} is empty)",
            place.branch,
            place.state_dir.display()
        );
    }
    let opened = open(settings, place, Fresh::GoOn).await?;
    let (_, graph, scope) = read_scope(settings, place, &opened.integration).await?;
    match question {
        Question::Status => {
            let terms = standing::Terms::new(settings, scope);
            let standings = standing::standings(&opened.journaled.state, &graph, &terms);
            let text = show::status(&opened.journaled.state, &graph, &standings);
            task_list::write(&format!("no dispatcher runs; the journal says:\n{text}"))?;
        }
        Question::Ask { asked, task } => {
            let mut journaled = opened.journaled;
            let Some(name) = task.filter(|_| asked != Asked::Cancel) else {
                bail!("no dispatcher runs, so there is nothing to cancel");
            };
            let task = scope::find_task(&graph, &scope, &name).map_err(|why| eyre!(why))?;
            let task = Some(standing::task_key(&graph, task));
            journaled.note(Entry::Asked { what: asked, task }).await?;
            task_list::write("noted; the next `descartes-worker dispatch` takes it up\n")?;
        }
    }
    Ok(Ended::AllDone)
}

async fn ask(
    settings: &Settings,
    place: &Place,
    asked: Asked,
    task: Option<String>,
) -> eyre::Result<Ended> {
    tell(settings, place, Question::Ask { asked, task }).await
}
