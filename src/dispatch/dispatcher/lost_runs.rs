//! Runs that have ended without a report, or were never started. Looks for their results, and fences the runs that have
//! none.

use super::fields::Dispatcher;
use crate::dispatch::branch_searches::LostRunResult;
use crate::dispatch::integration::RunBranch;
use crate::dispatch::journal::Entry;
use crate::dispatch::run_output::{describe_loss, find_report};
use crate::dispatch::state::{WorkerEnd, WorkerState};

impl Dispatcher<'_> {
    /// Handles a run that has ended without sending a report. Looks for a report in its output, and for finished work
    /// on its branch; fences the run if there is neither. Returns whether the state has changed.
    pub(super) async fn find_result(&mut self, id: &str) -> eyre::Result<bool> {
        match self.record_result(id).await? {
            LostRunResult::Pending => Ok(false),
            LostRunResult::Report | LostRunResult::Branch(_) => Ok(true),
            LostRunResult::NotFound => {
                let Some(run) = self.journaled.state.run(id) else {
                    return Ok(false);
                };
                let end = match run.worker_state {
                    WorkerState::Ended(end) => end,
                    _ => WorkerEnd::default(),
                };
                let is_given_up = run.is_cancelled && run.grant.is_none();
                let why = run.stop_reason.clone();
                let why =
                    why.unwrap_or_else(|| describe_loss(end.code, &self.engines.log_file(id)));
                self.fence(id, &why, end, is_given_up).await?;
                Ok(true)
            }
        }
    }

    /// Handles a run that an earlier dispatcher was about to start, and that no engine has now: it was never started,
    /// or it has ended. Starts it unless there is a report or finished work of it. Returns whether the state has
    /// changed.
    pub(super) async fn start_again(&mut self, id: &str) -> eyre::Result<bool> {
        match self.record_result(id).await? {
            LostRunResult::Pending => Ok(false),
            LostRunResult::Report | LostRunResult::Branch(_) => Ok(true),
            LostRunResult::NotFound => {
                self.branch_searches.forget(id);
                self.start(vec![id.to_owned()]).await?;
                Ok(true)
            }
        }
    }

    /// Records the result of a run without a report: the report that its worker has printed, or finished work on its
    /// branch.
    async fn record_result(&mut self, id: &str) -> eyre::Result<LostRunResult> {
        let run = id.to_owned();
        if let Some(event) = find_report(&self.engines.stdout_file(id), id) {
            self.journaled
                .record(Entry::Reported { run, event })
                .await?;
            self.handle_report(id).await?;
            return Ok(LostRunResult::Report);
        }
        let is_check = self
            .journaled
            .state
            .run(id)
            .is_some_and(|run| run.task.is_none());
        if is_check {
            return Ok(LostRunResult::NotFound);
        }
        let result = self.branch_searches.result_of(id);
        if let LostRunResult::Branch(RunBranch { name, commit, .. }) = &result {
            self.show.print_message(&format!(
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
        Ok(result)
    }

    /// Fences a run whose start no engine has confirmed. The run does not count as an attempt.
    pub(super) async fn give_up(&mut self, id: &str, why: &str) -> eyre::Result<()> {
        self.fence(id, why, WorkerEnd::default(), true).await
    }

    /// Fences a run: it may not work on its task any longer, and another run may get the task. If the run is a check,
    /// starts it again.
    async fn fence(
        &mut self,
        id: &str,
        why: &str,
        end: WorkerEnd,
        is_given_up: bool,
    ) -> eyre::Result<()> {
        self.show.print_message(&format!("{id}: lost: {why}"));
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
