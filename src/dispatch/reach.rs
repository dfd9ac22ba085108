//! How the other commands reach a dispatch: they ask its dispatcher, or open its journal if no dispatcher runs.

use std::time::Duration;

use eyre::bail;
use tokio::time::{Instant, sleep};

use super::control::{Question, ask, is_answered};
use super::journal::InUse;
use super::open::{Opened, has_journal, open};
use super::settings::{EarlierJournal, Settings};
use super::target::Target;
use crate::terminal::Screen;

/// How long a command waits for a process that has the journal and answers no questions. A dispatcher is such a process
/// while it starts and while it ends.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

pub enum Reached {
    /// The answer of the dispatcher that runs.
    Answer(String),
    /// No dispatcher runs.
    Journal(Box<Opened>),
}

/// Asks the dispatcher that runs, or opens the journal of the last one.
///
/// # Errors
/// If there was no dispatch yet, or if another process has the journal and does not answer.
pub async fn reach(
    settings: &Settings,
    target: &Target,
    question: &Question,
) -> eyre::Result<Reached> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(text) = ask(&target.state_dir, question).await? {
            return Ok(Reached::Answer(text));
        }
        require_journal(target)?;
        let error = match open(settings, target, EarlierJournal::Continue).await {
            Ok(opened) => return Ok(Reached::Journal(Box::new(opened))),
            Err(error) => error,
        };
        let Some(InUse { process }) = error.downcast_ref() else {
            return Err(error);
        };
        if Instant::now() >= deadline {
            bail!(
                "process {process} starts or ends a dispatch of this project, and has not answered within {} seconds; run the command again later",
                PATIENCE.as_secs()
            );
        }
        sleep(PAUSE).await;
    }
}

/// Opens the journal for a dispatcher. Waits if another command reads the journal, or if the last dispatcher still ends.
pub async fn open_for_dispatcher(
    settings: &Settings,
    target: &Target,
    earlier_journal: EarlierJournal,
    screen: &Screen,
) -> eyre::Result<Opened> {
    let deadline = Instant::now() + PATIENCE;
    let mut is_waiting = false;
    loop {
        let error = match open(settings, target, earlier_journal).await {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        let Some(InUse { process }) = error.downcast_ref() else {
            return Err(error);
        };
        // A second attempt could put aside the journal of a dispatcher that has begun since the first one.
        let may_repeat = earlier_journal == EarlierJournal::Continue;
        let is_late = Instant::now() >= deadline;
        if !may_repeat || is_late || is_answered(&target.state_dir).await {
            return Err(error);
        }
        if !std::mem::replace(&mut is_waiting, true) {
            screen.line(&format!(
                "waiting for process {process}, which uses the journal of this dispatch"
            ));
        }
        sleep(PAUSE).await;
    }
}

/// Errors if there was no dispatch yet.
fn require_journal(target: &Target) -> eyre::Result<()> {
    if has_journal(&target.state_dir)? {
        return Ok(());
    }
    bail!(
        "there is no dispatch for the branch {} ({} is empty)",
        target.branch,
        target.state_dir.display()
    )
}
