//! Runs that only check a commit. Starts them, repeats them if they could not run, and reads their results.

use tokio::sync::oneshot;

use super::fields::{Dispatcher, EndCheck, EndCheckProgress, PendingCheck};
use crate::dispatch::engine::StartFailure;
use crate::dispatch::journal::Entry;
use crate::dispatch::merging::{CheckRequest, CheckResult};
use crate::dispatch::policy::Stopping;
use crate::dispatch::run_output::failed_output;
use crate::dispatch::verification::VerifyMode;

/// How often a check is started before its request is answered with [`CheckResult::NotRun`].
const CHECK_ATTEMPTS: u32 = 3;

impl Dispatcher<'_> {
    /// With `--verify end`, starts the checks of the finished branch; a later call reads their result. Returns whether
    /// this call has started the checks; if so, the main loop must continue until they have ended.
    pub(super) async fn check_at_end(&mut self) -> eyre::Result<bool> {
        // A task that was retried during the checks may have moved the branch. Then the checks must run again.
        let current = self.end_check.take();
        let current = current.filter(|check| check.commit == self.tip.commit);
        let Some(EndCheck { commit, progress }) = current else {
            if self.verify != VerifyMode::End || self.policy.stopping != Stopping::No {
                return Ok(false);
            }
            let (answer, answer_receiver) = oneshot::channel();
            let commit = self.tip.commit.clone();
            self.end_check = Some(EndCheck {
                commit: commit.clone(),
                progress: EndCheckProgress::Running(answer_receiver),
            });
            self.start_check(CheckRequest { commit, answer }, 1).await?;
            return Ok(true);
        };
        let result = match progress {
            EndCheckProgress::Running(mut answer_receiver) => {
                let result = answer_receiver.try_recv();
                result.unwrap_or_else(|_| CheckResult::NotRun("no answer".to_owned()))
            }
            EndCheckProgress::Ended(result) => result,
        };
        self.end_check = Some(EndCheck {
            commit,
            progress: EndCheckProgress::Ended(result),
        });
        Ok(false)
    }

    /// Why the checks of the finished branch have not passed on this commit; `None` if they have, and without
    /// `--verify end`.
    pub fn end_check_failure(&self, commit: &str) -> Option<String> {
        if self.verify != VerifyMode::End {
            return None;
        }
        let check = self.end_check.as_ref();
        let check = check.filter(|check| check.commit == commit);
        match check.map(|check| &check.progress) {
            Some(EndCheckProgress::Ended(CheckResult::Passed)) => None,
            Some(EndCheckProgress::Ended(CheckResult::Failed(why))) => {
                Some(format!("the checks fail on the branch: {why}"))
            }
            Some(EndCheckProgress::Ended(CheckResult::NotRun(why))) => {
                Some(format!("the checks could not run on the branch: {why}"))
            }
            Some(EndCheckProgress::Running(_)) | None => {
                Some("the checks have not run on the finished branch".to_owned())
            }
        }
    }

    /// Starts a check again that could not run. After [`CHECK_ATTEMPTS`] starts, or if everything is being cancelled,
    /// answers the request with the error instead. Does nothing if the run `id` is not a check.
    pub(super) async fn repeat_check(&mut self, id: &str, why: &str) -> eyre::Result<()> {
        let attempt = self.checks.get(id).map(|check| check.attempt);
        if self.policy.stopping != Stopping::Cancelling
            && attempt.is_some_and(|attempt| attempt < CHECK_ATTEMPTS)
            && let Some(check) = self.checks.remove(id)
        {
            return Box::pin(self.start_check(check.request, check.attempt + 1)).await;
        }
        self.answer_check_not_run(id, why);
        Ok(())
    }

    /// Handles a run that was not started. If it is a check, starts it again, or answers its request with the error if
    /// another start would fail too or must not happen.
    pub(super) async fn handle_failed_start(
        &mut self,
        id: &str,
        failure: &StartFailure,
    ) -> eyre::Result<()> {
        let is_refused = matches!(failure, StartFailure::Refused(_));
        if is_refused || self.policy.stopping != Stopping::No {
            self.answer_check_not_run(id, failure.why());
            return Ok(());
        }
        self.repeat_check(id, failure.why()).await
    }

    /// Answers the request of a check that could not run.
    fn answer_check_not_run(&mut self, id: &str, why: &str) {
        if let Some(check) = self.checks.remove(id) {
            let result = CheckResult::NotRun(why.to_owned());
            let _ = check.request.answer.send(result);
        }
    }

    /// Releases a run that has reported. If the run is a check, answers its request.
    pub(super) async fn handle_report(&mut self, id: &str) -> eyre::Result<()> {
        self.release(id);
        if !self.checks.contains_key(id) {
            return Ok(());
        }
        let report = self
            .journaled
            .state
            .run(id)
            .and_then(|run| run.report.clone());
        let Some(report) = report else { return Ok(()) };
        let result = if report.is_completed() {
            CheckResult::Passed
        } else if report.reason == "checks_failed" {
            CheckResult::Failed(format!(
                "{}\n{}",
                report.message,
                failed_output(&report.event())
            ))
        } else {
            let why = format!("{}: {}", report.reason, report.message);
            return self.repeat_check(id, &why).await;
        };
        if let Some(check) = self.checks.remove(id) {
            let _ = check.request.answer.send(result);
        }
        Ok(())
    }

    /// Starts a run that only checks a commit.
    pub(super) async fn start_check(
        &mut self,
        request: CheckRequest,
        attempt: u32,
    ) -> eyre::Result<()> {
        if self.policy.stopping == Stopping::Cancelling {
            let why = "everything is being cancelled, so no checks start".to_owned();
            let _ = request.answer.send(CheckResult::NotRun(why));
            return Ok(());
        }
        let state = &self.journaled.state;
        let earlier = state.runs.iter().filter(|run| run.task.is_none()).count();
        let number = u32::try_from(earlier).unwrap_or(u32::MAX).saturating_add(1);
        let run = format!("{}-checks-{number}", state.dispatch);
        let intent = Entry::Intent {
            run: run.clone(),
            task: None,
            attempt,
            base: request.commit.clone(),
            note: None,
            memory: self.policy.memory,
        };
        self.checks.insert(run, PendingCheck { request, attempt });
        self.record_and_start(vec![intent]).await
    }
}
