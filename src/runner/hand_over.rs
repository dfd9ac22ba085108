//! The end of a run: the worker commits the work and pushes it, however the task ended.
//!
//! The work of a completed task goes to the result branch. If the task failed, the partial work goes to a
//! branch with the same name and the suffix `-wip`, if there is time; so does the work of a completed task that is
//! cancelled before its push has begun. A failed push of partial work does not change the verdict.

mod branches;

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use branches::push_branches;

use super::failures::stop_failure;
use super::product::{self, CommitMessage, Product};
use super::push::{Push, PushResult};
use super::run::{PreparedWorkspace, Run};
use super::settings::Steps;
use super::workspace::Source;
use crate::durations::in_words;
use crate::panics::catch_panic;
use crate::progress::Phase;
use crate::scud::GRAPH_PATH;
use crate::shutdown::{Stop, StopReason};
use crate::task::{Failure, Reason, Verdict};
use crate::telemetry::Span;

/// The limit for committing and pushing partial work, if no stop signal makes it shorter.
const PARTIAL_WORK_TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// How much of the work is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completeness {
    /// The whole work, for the result branch.
    Complete,
    /// The work so far of a task that failed, for the `-wip` branch.
    Partial,
    /// The whole work of a task that was cancelled after the worker had marked it as done, for the `-wip` branch.
    Cancelled,
}

impl Run<'_> {
    /// Commits and pushes the work; returns the final verdict.
    pub(super) async fn hand_over(
        &mut self,
        prepared: &PreparedWorkspace<'_>,
        verdict: Verdict,
    ) -> Verdict {
        let Source::Repository(repository) = &self.settings.source else {
            return verdict;
        };
        if self.settings.steps == Steps::OnlyChecks {
            return verdict;
        }
        self.progress.enter(Phase::HandOver);
        let branch = repository.branch.clone();
        let mut span = match branch {
            Some(_) => self.trace.child("push"),
            None => Span::none(),
        };
        let verdict = match verdict {
            Verdict::Completed { message } => {
                match self.hand_over_finished_work(prepared, branch).await {
                    Ok(location) => Verdict::Completed {
                        message: format!("{message} ({location})"),
                    },
                    Err(failure) => {
                        span.fail(failure.reason.word());
                        Verdict::Failed(failure)
                    }
                }
            }
            Verdict::Failed(failure) => {
                let is_handed_over = self
                    .hand_over_partial_work(prepared, Completeness::Partial, branch)
                    .await;
                if !is_handed_over {
                    span.fail(Reason::PushFailed.word());
                }
                Verdict::Failed(failure)
            }
        };
        self.describe_push(&mut span);
        verdict
    }

    /// Commits and pushes the work of a completed task; returns words that say where the work is.
    ///
    /// After a cancellation, a push that has begun may go on for a while; if it has not begun, the work goes to the
    /// `-wip` branch.
    async fn hand_over_finished_work(
        &mut self,
        prepared: &PreparedWorkspace<'_>,
        branch: Option<String>,
    ) -> Result<String, Failure> {
        // A stop signal does not end the git processes of the hand-over, because the stop window has time for them. The
        // deadlines below end the hand-over.
        let (never_stop, stop) = (Stop::never_requested(), self.stop.clone());
        let limit = self.settings.push_timeout;
        let push_has_begun = Cell::new(false);
        let cancellation = async {
            stop.wait_until_cancelled().await;
            if push_has_begun.get() {
                sleep(PARTIAL_WORK_TIMEOUT).await;
            }
        };
        let hand_over = self.commit_and_push_catching_panics(
            prepared,
            Completeness::Complete,
            branch.clone(),
            &never_stop,
            &push_has_begun,
        );
        let result = tokio::select! {
            result = timeout(limit, hand_over) => result.ok(),
            () = stop.wait_for_hand_over_deadline() => None,
            () = cancellation => None,
        };
        let Some(reason @ StopReason::Cancelled(_)) = stop.reason() else {
            return result.unwrap_or_else(|| Err(self.late_push_failure()));
        };
        match result {
            Some(Ok(location)) => Ok(location),
            None if !push_has_begun.get() => {
                self.hand_over_partial_work(prepared, Completeness::Cancelled, branch)
                    .await;
                Err(stop_failure(&reason))
            }
            None => Err(self.late_push_failure()),
            Some(Err(failure)) if failure.reason != Reason::PushFailed => Err(failure),
            Some(Err(failure)) => Err(Failure {
                causes: vec![failure.message_with_causes()],
                ..self.late_push_failure()
            }),
        }
    }

    /// Commits and pushes the work to the `-wip` branch, if there is time; returns whether that succeeded.
    async fn hand_over_partial_work(
        &mut self,
        prepared: &PreparedWorkspace<'_>,
        completeness: Completeness,
        branch: Option<String>,
    ) -> bool {
        let (never_stop, stop) = (Stop::never_requested(), self.stop.clone());
        let limit = self.settings.push_timeout.min(PARTIAL_WORK_TIMEOUT);
        let push_has_begun = Cell::new(false);
        let hand_over = self.commit_and_push_catching_panics(
            prepared,
            completeness,
            branch,
            &never_stop,
            &push_has_begun,
        );
        let result = tokio::select! {
            result = timeout(limit, hand_over) => result.ok(),
            () = stop.wait_for_hand_over_deadline() => None,
        };
        match &result {
            Some(Ok(location)) => tracing::info!("the partial work: {location}"),
            Some(Err(error)) => {
                let error = error.message_with_causes();
                tracing::warn!("the partial work was not pushed: {error}");
            }
            None => tracing::warn!("there was no time to push the partial work"),
        }
        matches!(result, Some(Ok(_)))
    }

    /// Adds the commit and the branch to the span of the push.
    fn describe_push(&self, span: &mut Span) {
        let Some(work) = &self.report.work else {
            return;
        };
        span.set_text("vcs.ref.head.revision", &work.head_commit);
        if let Some(branch) = &work.branch {
            span.set_text("vcs.ref.head.name", branch);
        }
    }

    /// The failure of a completed task whose work was not pushed in time.
    fn late_push_failure(&self) -> Failure {
        let Some(reason) = self.stop.reason() else {
            let limit = in_words(self.settings.push_timeout);
            return Failure::new(
                Reason::PushFailed,
                format!("the work was not pushed within {limit} (DESCARTES_PUSH_TIMEOUT)"),
            );
        };
        let mut failure = stop_failure(&reason);
        failure.message.push_str(" before the work was pushed");
        failure
    }

    /// Like [`Run::commit_and_push`], but turns a panic into a failure.
    async fn commit_and_push_catching_panics(
        &mut self,
        prepared: &PreparedWorkspace<'_>,
        completeness: Completeness,
        branch: Option<String>,
        stop: &Stop,
        push_has_begun: &Cell<bool>,
    ) -> Result<String, Failure> {
        let result = Box::pin(catch_panic(self.commit_and_push(
            prepared,
            completeness,
            branch,
            stop,
            push_has_begun,
        )))
        .await;
        result.unwrap_or_else(|bug| Err(Failure::new(Reason::Internal, bug)))
    }

    /// Commits the work, and pushes it if there is a branch for it; returns words that say where the work is. Sets
    /// `push_has_begun` before the first data is sent.
    ///
    /// Git LFS objects are uploaded before the commits, because a pushed pointer without its object would break every
    /// clone.
    async fn commit_and_push(
        &mut self,
        prepared: &PreparedWorkspace<'_>,
        completeness: Completeness,
        branch: Option<String>,
        stop: &Stop,
        push_has_begun: &Cell<bool>,
    ) -> Result<String, Failure> {
        let message = self.commit_message(completeness);
        let (Some(clone), Some(git)) = (&prepared.workspace.clone, &prepared.git) else {
            return Ok("nothing was cloned".to_owned());
        };
        let git = git.with_stop(stop);
        let environment = self.environment_of_git();
        let launch = self.settings.isolation.launch();
        let product = product::collect(&git, clone, &environment, launch, &message).await?;
        let further_sentences = further_sentences(&product);
        let Product {
            push_repository,
            work,
            unpushable_files,
            incomplete_reason,
            branches,
            upload,
            ..
        } = &product;
        let work = self.report.work.insert(work.clone());
        if let Some(files) = unpushable_files {
            let message = format!("the work was not pushed, because of files {files}");
            return Err(Failure {
                retryable: false,
                ..Failure::new(Reason::PushFailed, message)
            });
        }
        let mut completeness = completeness;
        if incomplete_reason.is_some() {
            completeness = Completeness::Partial;
        }
        let branch = branch.map(|branch| match completeness {
            Completeness::Complete => branch,
            Completeness::Partial | Completeness::Cancelled => branch_for_partial_work(&branch),
        });
        let location = match (&branch, work.is_empty(), branches.is_empty()) {
            (_, true, true) => "nothing was changed",
            (None, ..) => "nothing is pushed",
            (Some(_), ..) => "the agent's HEAD has no changes",
        };
        let mut location = location.to_owned();
        let mut about_branches = String::new();
        if let Some(branch) = branch {
            let push = Push {
                git: &git,
                repository: push_repository,
                url: &clone.url,
                suffix: &clone.suffix,
                run_id: &self.settings.run_id,
            };
            push_has_begun.set(true);
            if let Some(upload) = upload {
                push.upload(upload).await?;
            }
            if !work.is_empty() {
                let pushed = push.push(&work.head_commit, &branch).await?;
                let PushResult {
                    branch,
                    earlier_commit,
                } = pushed;
                location = format!("on branch {branch}");
                if let Some(commit) = earlier_commit {
                    location.push_str(", pushed by an earlier worker of this run");
                    work.head_commit = commit;
                }
                work.branch = Some(branch);
            }
            about_branches = push_branches(&push, &branch, branches).await?;
        }
        let further_sentences = format!("{about_branches}{further_sentences}");
        let rest = if work.branch.is_some() {
            "the rest is "
        } else {
            ""
        };
        match incomplete_reason {
            None => Ok(location + &further_sentences),
            Some(why) => Err(Failure {
                causes: vec![why.clone()],
                retryable: false,
                ..Failure::new(
                    Reason::PushFailed,
                    format!(
                        "not all of the work could be committed; {rest}{location}{further_sentences}"
                    ),
                )
            }),
        }
    }

    /// The message of the commit, and the task that it marks as done.
    fn commit_message(&self, completeness: Completeness) -> CommitMessage {
        let subject = match &self.task {
            Some(task) => format!(
                "{}: {}",
                task.id,
                task.title.lines().next().unwrap_or_default()
            ),
            None => format!("{}: unfinished", self.settings.task),
        };
        let trailers = vec![
            ("Task-Id", self.settings.task.clone()),
            ("Project-Id", self.settings.project.clone()),
            ("Run-Id", self.settings.run_id.clone()),
        ];
        CommitMessage {
            subject: self.redactor.mask(&subject),
            trailers,
            marked_task: self
                .task
                .clone()
                .filter(|_| completeness != Completeness::Partial),
            is_partial: completeness != Completeness::Complete,
        }
    }
}

/// Sentences about the work that are added to the place where it is; each begins with a semicolon.
fn further_sentences(product: &Product) -> String {
    let mut text = String::new();
    if product.only_path.as_deref() == Some(GRAPH_PATH) {
        text.push_str("; nothing was changed but the task graph");
    }
    for sentence in &product.notes {
        tracing::warn!("{sentence}");
        text.push_str("; ");
        text.push_str(sentence);
    }
    text
}

/// The branch that partial work is pushed to if complete work would go to `branch`.
pub fn branch_for_partial_work(branch: &str) -> String {
    format!("{branch}-wip")
}
