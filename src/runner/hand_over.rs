//! The end of a run: what was made leaves the machine, whatever became of the task.
//!
//! A completed task's work goes to its branch; of any other, the work so far goes to a branch
//! beside it while there is time. Only the first can change the verdict.

use std::time::Duration;

use tokio::time::timeout;

use super::product::{self, Message};
use super::workspace::Source;
use super::{Run, push, stopped};
use crate::panics::caught;
use crate::progress::Phase;
use crate::shutdown::Stop;
use crate::task::{Failure, Reason, Verdict};

/// How long the work of a task that is not done may take to leave, where no signal hurries.
const UNFINISHED: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Hands over what was made; the verdict that it leads to.
    pub(super) async fn hand_over(&mut self, verdict: Verdict) -> Verdict {
        let Source::Repository(repository) = &self.settings.source else {
            return verdict;
        };
        if self.workspace.is_none() {
            return verdict;
        }
        self.progress.enter(Phase::HandOver);
        let failure = match verdict {
            Verdict::Completed { message } => {
                match self.deliver(repository.branch.clone(), self.stop).await {
                    Ok(note) => {
                        return Verdict::Completed {
                            message: format!("{message} ({note})"),
                        };
                    }
                    Err(failure) => self.stop.why().map_or(failure, |why| stopped(&why)),
                }
            }
            Verdict::Failed(failure) => failure,
        };
        // Being told to stop is what this is for, so that does not end it; the window does.
        let (nobody, stop) = (Stop::nobody(), self.stop.clone());
        let unfinished = repository
            .branch
            .as_ref()
            .map(|branch| format!("{branch}-wip"));
        let delivered = tokio::select! {
            delivered = timeout(UNFINISHED, self.deliver(unfinished, &nobody)) => delivered.ok(),
            () = stop.hand_over_over() => None,
        };
        match delivered {
            Some(Ok(note)) => tracing::info!("the work so far: {note}"),
            Some(Err(error)) => {
                tracing::warn!("the work so far was not handed over: {}", error.sentence());
            }
            None => tracing::warn!("there was no time to hand over the work so far"),
        }
        Verdict::Failed(failure)
    }

    /// Commits, and pushes to the branch if there is one; says where the work is.
    async fn deliver(&mut self, branch: Option<String>, stop: &Stop) -> Result<String, Failure> {
        let delivered = caught(self.commit_and_push(branch, stop)).await;
        delivered.unwrap_or_else(|panic| {
            Err(Failure::new(
                Reason::Internal,
                format!("the worker has a bug: it panicked with {panic:?}"),
            ))
        })
    }

    async fn commit_and_push(
        &mut self,
        branch: Option<String>,
        stop: &Stop,
    ) -> Result<String, Failure> {
        let message = self.message();
        let clone = self
            .workspace
            .as_ref()
            .and_then(|workspace| workspace.clone.as_ref());
        let (Some(clone), Some(git)) = (clone, &self.git) else {
            return Ok("nothing was cloned".to_owned());
        };
        let git = git.under(stop);
        let product = product::collect(&git, clone, &message).await?;
        let work = self.report.work.insert(product.work);
        if let Some(files) = product.held_back {
            let message = format!("the work was not pushed, because of files {files}");
            return Err(Failure {
                retryable: false,
                ..Failure::new(Reason::PushFailed, message)
            });
        }
        if work.is_empty() {
            return Ok("nothing was changed".to_owned());
        }
        let Some(branch) = branch else {
            return Ok("nothing is pushed".to_owned());
        };
        let head = work.head_commit.clone();
        let pushed = push::push(
            &git,
            &product.vault,
            &clone.url,
            &head,
            &branch,
            &self.settings.run_id,
        )
        .await?;
        work.branch = Some(pushed.clone());
        Ok(format!("on branch {pushed}"))
    }

    fn message(&self) -> Message {
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
        Message {
            subject: self.redactor.text(&subject),
            trailers,
        }
    }
}
