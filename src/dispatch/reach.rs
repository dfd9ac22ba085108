//! How the other commands reach a dispatch: they ask its dispatcher, or open its journal if no dispatcher runs.

use std::time::Duration;

use eyre::bail;
use tokio::time::{Instant, sleep};

use super::control::{Question, accepts_questions, ask};
use super::journal::JournalInUse;
use super::open::{OpenDispatch, has_journal, open};
use super::settings::{EarlierJournal, Settings};
use super::target::Target;
use crate::terminal::Screen;

/// How long a command waits for a process that holds the lock of the journal and answers no questions. A dispatcher
/// does that while it starts and while it ends.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// The pause between two attempts to reach the dispatcher or to open the journal.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The answer of the running dispatcher, or the journal if no dispatcher runs.
pub enum AnswerOrJournal {
    Answer(String),
    Journal(Box<OpenDispatch>),
}

/// Sends a question to the running dispatcher, or opens the journal of the last one.
///
/// # Errors
/// If there was no dispatch yet, or if another process holds the lock of the journal and does not answer.
pub async fn ask_or_open_journal(
    settings: &Settings,
    target: &Target,
    question: &Question,
) -> eyre::Result<AnswerOrJournal> {
    let deadline = Instant::now() + MAX_WAIT;
    loop {
        if let Some(text) = ask(&target.state_dir, question).await? {
            return Ok(AnswerOrJournal::Answer(text));
        }
        require_journal(target)?;
        let error = match open(settings, target, EarlierJournal::Continue).await {
            Ok(opened) => return Ok(AnswerOrJournal::Journal(Box::new(opened))),
            Err(error) => error,
        };
        let Some(JournalInUse { process }) = error.downcast_ref() else {
            return Err(error);
        };
        if Instant::now() >= deadline {
            bail!(
                "process {process} starts or ends a dispatch of this project, and has not answered within {} seconds; run the command again later",
                MAX_WAIT.as_secs()
            );
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Opens the journal for a dispatcher. Waits if another command holds the lock of the journal, or if the last
/// dispatcher is still ending.
pub async fn open_for_dispatcher(
    settings: &Settings,
    target: &Target,
    earlier_journal: EarlierJournal,
    screen: &Screen,
) -> eyre::Result<OpenDispatch> {
    let deadline = Instant::now() + MAX_WAIT;
    let mut is_announced = false;
    loop {
        let error = match open(settings, target, earlier_journal).await {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        let Some(JournalInUse { process }) = error.downcast_ref() else {
            return Err(error);
        };
        // A second attempt could rename the journal of a dispatcher that has started since the first attempt.
        let may_repeat = earlier_journal == EarlierJournal::Continue;
        let is_deadline_over = Instant::now() >= deadline;
        if !may_repeat || is_deadline_over || accepts_questions(&target.state_dir).await {
            return Err(error);
        }
        if !std::mem::replace(&mut is_announced, true) {
            screen.line(&format!(
                "waiting for process {process}, which uses the journal of this dispatch"
            ));
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Returns an error if there was no dispatch yet.
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
