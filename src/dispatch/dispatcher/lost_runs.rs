//! Runs that have ended, or were never started, without a report. Looks for their results, and ends their claim on the
//! task if there are none.

use super::fields::Dispatcher;
use crate::dispatch::harvest::Harvest;
use crate::dispatch::integration::RunBranch;
use crate::dispatch::journal::Entry;
use crate::dispatch::run_output::{describe_loss, find_report};
use crate::dispatch::state::{End, Seen};

impl Dispatcher<'_> {
    /// Handles a run that has ended without sending a report. Looks for the report in its output and for finished work
    /// on its branch; fences the run if there is neither. Returns whether the state has changed.
    pub(super) async fn read_report(&mut self, id: &str) -> eyre::Result<bool> {
        match self.harvest(id).await? {
            Harvest::Pending => Ok(false),
            Harvest::Report | Harvest::Branch(_) => Ok(true),
            Harvest::NotFound => {
                let Some(run) = self.journaled.state.run(id) else {
                    return Ok(false);
                };
                let end = match run.seen {
                    Seen::Ended(end) => end,
                    _ => End::default(),
                };
                let is_given_up = run.is_cancelled && run.grant.is_none();
                let why = run.stop_reason.clone();
                let why = why.unwrap_or_else(|| describe_loss(end.code, &self.engine.log_file(id)));
                self.fence(id, &why, end, is_given_up).await?;
                Ok(true)
            }
        }
    }

    /// Handles a run that an earlier dispatcher was about to start and that the engine does not have now: it was never
    /// started, or it has ended. Starts it unless it has left a report or finished work. Returns whether the state has
    /// changed.
    pub(super) async fn start_again(&mut self, id: &str) -> eyre::Result<bool> {
        match self.harvest(id).await? {
            Harvest::Pending => Ok(false),
            Harvest::Report | Harvest::Branch(_) => Ok(true),
            Harvest::NotFound => {
                self.branch_searches.forget(id);
                self.start(vec![id.to_owned()]).await?;
                Ok(true)
            }
        }
    }

    /// Records the result of a run without a report: the report that its worker has printed, or finished work on its
    /// branch.
    async fn harvest(&mut self, id: &str) -> eyre::Result<Harvest> {
        let run = id.to_owned();
        if let Some(event) = find_report(&self.engine.stdout_file(id), id) {
            self.journaled
                .record(Entry::Reported { run, event })
                .await?;
            self.after_report(id).await?;
            return Ok(Harvest::Report);
        }
        let is_check = self
            .journaled
            .state
            .run(id)
            .is_some_and(|run| run.task.is_none());
        if is_check {
            return Ok(Harvest::NotFound);
        }
        let harvest = self.branch_searches.result_of(id);
        if let Harvest::Branch(RunBranch { name, commit, .. }) = &harvest {
            self.show.say(&format!(
                "{id}: its worker is gone, but it has pushed finished work; the checks run on it again"
            ));
            let (branch, commit) = (name.clone(), commit.clone());
            let entry = Entry::Harvested {
                run,
                branch,
                commit,
            };
            self.journaled.record(entry).await?;
            self.release(id);
        }
        Ok(harvest)
    }

    /// Fences a run that is not needed any more, and whose worker was never confirmed.
    pub(super) async fn give_up(&mut self, id: &str, why: &str) -> eyre::Result<()> {
        self.fence(id, why, End::default(), true).await
    }

    /// Fences a run: from now on, another run may get its task.
    async fn fence(
        &mut self,
        id: &str,
        why: &str,
        end: End,
        is_given_up: bool,
    ) -> eyre::Result<()> {
        self.show.say(&format!("{id}: lost: {why}"));
        self.journaled
            .record(Entry::Fenced {
                run: id.to_owned(),
                why: why.to_owned(),
                exit_code: end.code,
                is_out_of_memory: end.is_out_of_memory,
                is_given_up,
            })
            .await?;
        self.release(id);
        self.repeat_check(id, why).await
    }
}
