//! The end of a run: the worker commits the work and pushes it, however the task ended.
//!
//! The work of a completed task goes to the result branch. If the task failed, the partial work goes to a
//! branch with the same name and the suffix `-wip`, if there is time. A failed push of partial work does not change the
//! verdict.

use std::fmt::Write;
use std::time::Duration;

use tokio::time::timeout;

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
use crate::shutdown::Stop;
use crate::task::{Failure, Reason, Verdict};
use crate::telemetry::Span;

/// The limit for committing and pushing partial work, if no stop signal makes it shorter.
const PARTIAL_WORK_TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// How much of the work is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completeness {
    /// The whole work, for the result branch.
    Complete,
    /// The work so far, for the `-wip` branch.
    Partial,
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
        // A stop signal does not end the git processes of the hand-over, because the stop window has time for them. The
        // deadlines below end the hand-over.
        let (never_stop, stop) = (Stop::never_requested(), self.stop.clone());
        let branch = repository.branch.clone();
        let limit = self.settings.push_timeout;
        let mut span = match branch {
            Some(_) => self.trace.child("push"),
            None => Span::none(),
        };
        match verdict {
            Verdict::Completed { message } => {
                let hand_over = self.commit_and_push_catching_panics(
                    prepared,
                    Completeness::Complete,
                    branch,
                    &never_stop,
                );
                let result = tokio::select! {
                    result = timeout(limit, hand_over) => result.ok(),
                    () = stop.wait_for_hand_over_deadline() => None,
                    // After a cancellation, the orchestrator does not want the result any more.
                    () = stop.wait_until_cancelled() => None,
                };
                let result = result.unwrap_or_else(|| Err(self.late_push_failure()));
                self.describe_push(&mut span);
                match result {
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
                let limit = limit.min(PARTIAL_WORK_TIMEOUT);
                let hand_over = self.commit_and_push_catching_panics(
                    prepared,
                    Completeness::Partial,
                    branch,
                    &never_stop,
                );
                let result = tokio::select! {
                    result = timeout(limit, hand_over) => result.ok(),
                    () = stop.wait_for_hand_over_deadline() => None,
                };
                self.describe_push(&mut span);
                if !matches!(result, Some(Ok(_))) {
                    span.fail(Reason::PushFailed.word());
                }
                match result {
                    Some(Ok(location)) => tracing::info!("the partial work: {location}"),
                    Some(Err(error)) => {
                        let error = error.message_with_causes();
                        tracing::warn!("the partial work was not pushed: {error}");
                    }
                    None => tracing::warn!("there was no time to push the partial work"),
                }
                Verdict::Failed(failure)
            }
        }
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
    ) -> Result<String, Failure> {
        let result = Box::pin(catch_panic(self.commit_and_push(
            prepared,
            completeness,
            branch,
            stop,
        )))
        .await;
        result.unwrap_or_else(|bug| Err(Failure::new(Reason::Internal, bug)))
    }

    /// Commits the work, and pushes it if there is a branch for it; returns words that say where the work is.
    ///
    /// Git LFS objects are uploaded before the commits, because a pushed pointer without its object would break every
    /// clone.
    async fn commit_and_push(
        &mut self,
        prepared: &PreparedWorkspace<'_>,
        completeness: Completeness,
        branch: Option<String>,
        stop: &Stop,
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
            Completeness::Partial => branch_for_partial_work(&branch),
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
            done_task: self
                .task
                .clone()
                .filter(|_| completeness == Completeness::Complete),
        }
    }
}

/// Pushes the agent's other branches, under names that begin with `result_branch`; returns sentences about them.
async fn push_branches(
    push: &Push<'_>,
    result_branch: &str,
    branches: &[product::Branch],
) -> Result<String, Failure> {
    let mut sentences = String::new();
    for branch in branches {
        let name = branch
            .name
            .strip_prefix(result_branch)
            .unwrap_or(&branch.name);
        let target = format!("{result_branch}-{}", without_special_characters(name));
        let PushResult { branch: pushed, .. } = push.push(&branch.commit, &target).await?;
        let name = branch.name.escape_debug();
        let _ = write!(
            sentences,
            "; the agent's branch {name} is on branch {pushed}"
        );
    }
    Ok(sentences)
}

/// The longest part of the name of an agent's branch that is used, in bytes. A part of a reference between two slashes is a
/// file name on the remote, and may have 255 bytes.
const MAX_NAME_SIZE: usize = 100;

/// The name of an agent's branch, with a hyphen in place of each character that git may not allow in a name.
fn without_special_characters(name: &str) -> String {
    let allowed = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let mut word = String::new();
    for c in name.chars().map(allowed) {
        if word.len() + c.len_utf8() > MAX_NAME_SIZE {
            break;
        }
        word.push(c);
    }
    let word = word.trim_matches('-');
    if word.is_empty() { "branch" } else { word }.to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_branch_fits_into_a_file_name_in_any_script() {
        assert_eq!(without_special_characters("a/b c"), "a-b-c");
        assert_eq!(without_special_characters("//"), "branch");
        let long = without_special_characters(&"修".repeat(200));
        assert_eq!(long, "修".repeat(MAX_NAME_SIZE / 3));
    }
}
