//! Starts a background task for merges, and applies its results.

use std::collections::HashSet;

use jiff::Timestamp;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::fields::{Dispatcher, IDLE_PAUSE};
use crate::dispatch::integration::{FinishedRun, Integration, WorkChecks};
use crate::dispatch::journal::Entry;
use crate::dispatch::merging::{MergeChannels, MergeOutcome, Tip, merge_all};
use crate::dispatch::policy::Stopping;
use crate::dispatch::project_files::ProjectRules;
use crate::dispatch::standing::task_key;
use crate::dispatch::state::Origin;
use crate::dispatch::verification::VerifyMode;
use crate::scud::TaskGraph;

/// After this many failures in a row, the dispatcher ends with an error. A conflict is not a failure.
const MAX_MERGE_FAILURES: u32 = 5;

/// The background task that merges runs. It owns the integration branch and returns it at its end.
pub(super) type MergeTask = JoinHandle<(Integration, eyre::Result<()>)>;

impl Dispatcher<'_> {
    /// The facts about a completed run that a merge needs.
    pub(super) fn finished_run(&self, id: &str) -> Option<FinishedRun> {
        let run = self.journaled.state.run(id)?;
        let (report, task) = (run.report.as_ref()?, run.task.as_deref()?);
        let (phase, id_in_phase) = task.split_once(':')?;
        let commit = report.text("/result/work/head_commit");
        let sent_at = report.text("/timestamp").parse::<Timestamp>();
        let position = self.graph.position(phase, id_in_phase);
        Some(FinishedRun {
            phase: phase.to_owned(),
            id_in_phase: id_in_phase.to_owned(),
            task_id: position.map_or_else(|| task.to_owned(), |task| self.graph.name(task)),
            run_id: id.to_owned(),
            title: position.map_or_else(String::new, |task| self.graph.tasks[task].title.clone()),
            branch: report.branch().unwrap_or_default().to_owned(),
            // A run without changes reports no commit; its work is its base.
            commit: if commit.is_empty() { &run.base } else { commit }.to_owned(),
            time: sent_at.unwrap_or_else(|_| {
                Timestamp::from_millisecond(report.at).unwrap_or(Timestamp::UNIX_EPOCH)
            }),
            checks: match report.origin {
                Origin::Worker => WorkChecks::Passed,
                Origin::Branch => WorkChecks::Unknown,
            },
        })
    }

    /// Starts the background task that merges these runs.
    pub(super) fn spawn_merge_task(
        &self,
        mut integration: Integration,
        runs: Vec<FinishedRun>,
        channels: &MergeChannels,
    ) -> MergeTask {
        // Only reports show whether the project has checks. A project without checks needs no verification.
        let has_checks = runs.iter().any(|run| {
            if run.checks == WorkChecks::Unknown {
                return true;
            }
            let run = self.journaled.state.run(&run.run_id);
            let report = run.and_then(|run| run.report.as_ref());
            let checks = report.and_then(|report| report.event.pointer("/result/checks"));
            checks
                .and_then(|checks| checks.as_array())
                .is_some_and(|checks| !checks.is_empty())
        });
        let mode = if has_checks {
            self.verify
        } else {
            VerifyMode::Never
        };
        let channels = channels.clone();
        let scope = self.scope_keys().into_iter().collect();
        let rules = ProjectRules::of(self.settings).for_tasks(scope);
        tokio::task::spawn_local(async move {
            let merged = merge_all(&mut integration, runs, mode, &rules, &channels).await;
            (integration, merged)
        })
    }

    /// Writes one result of the merge task to the journal, and shows it.
    pub(super) async fn handle_merge_outcome(&mut self, outcome: MergeOutcome) -> eyre::Result<()> {
        self.spans.note_merge_outcome(&outcome);
        match outcome {
            MergeOutcome::Moved {
                runs,
                tip,
                unpublished,
            } => {
                let mut records = Vec::new();
                for run in &runs {
                    let (run, commit) = (run.clone(), tip.commit.clone());
                    records.push(self.journaled.apply(Entry::Merged { run, commit }));
                }
                self.journaled.write(records).await?;
                for run in &runs {
                    self.show
                        .print_merge(run, &self.journaled.state, &self.graph);
                }
                self.set_tip(tip)?;
                self.show.print_unpublished(unpublished);
                self.merge_failures = 0;
            }
            MergeOutcome::Conflict { run, note } => {
                self.show
                    .print_message(&format!("{run}: conflicts with merged work"));
                self.journaled.record(Entry::Conflict { run, note }).await?;
            }
            MergeOutcome::ChecksFailed { run, note } => {
                self.show
                    .print_message(&format!("{run}: the checks fail on its merged work"));
                let unusable = None;
                let rejected = Entry::Red {
                    run,
                    note,
                    unusable,
                };
                self.journaled.record(rejected).await?;
            }
            MergeOutcome::Unusable { run, why, note } => {
                self.show
                    .print_message(&format!("{run}: its work is not merged, because {why}"));
                let unusable = Some(why);
                let rejected = Entry::Red {
                    run,
                    note,
                    unusable,
                };
                self.journaled.record(rejected).await?;
            }
        }
        Ok(())
    }

    /// Replaces the tip, its graph and its broken definitions. A task can have another position in the new graph, so
    /// the scope is found again by the ids of the tasks.
    pub(super) fn set_tip(&mut self, tip: Tip) -> eyre::Result<()> {
        let scope: HashSet<String> = self.scope_keys().into_iter().collect();
        self.graph = TaskGraph::parse(&tip.graph)?;
        self.policy
            .broken_definitions
            .clone_from(&tip.broken_definitions);
        self.tip = tip;
        let tasks = 0..self.graph.tasks.len();
        let is_in_scope = |task: &usize| scope.contains(&task_key(&self.graph, *task));
        self.policy.scope = tasks.filter(is_in_scope).collect();
        Ok(())
    }

    /// The keys of the tasks to work on.
    fn scope_keys(&self) -> Vec<String> {
        let scope = self.policy.scope.iter();
        scope.map(|task| task_key(&self.graph, *task)).collect()
    }

    /// Takes the integration branch back from the merge task, which has ended. After an error, the next merge begins
    /// after [`IDLE_PAUSE`].
    pub(super) fn end_merge_task(
        &mut self,
        joined: Result<(Integration, eyre::Result<()>), JoinError>,
    ) -> eyre::Result<()> {
        let (integration, merged) = joined?;
        self.spans.end_merge(&merged);
        self.integration = Some(integration);
        self.next_merge = None;
        if let Err(error) = merged {
            if self.policy.stopping == Stopping::Cancelling {
                self.has_given_up_merges = true;
                self.show.print_message(&format!(
                    "finished work is not merged now; the next dispatcher merges it: {error:#}"
                ));
                return Ok(());
            }
            self.merge_failures += 1;
            if self.merge_failures >= MAX_MERGE_FAILURES {
                return Err(error.wrap_err("finished work cannot be merged"));
            }
            self.show.print_message(&format!(
                "finished work could not be merged, trying again: {error:#}"
            ));
            self.next_merge = Some(Instant::now() + IDLE_PAUSE);
        }
        Ok(())
    }
}

/// Waits for the end of the merge task; waits forever if there is none.
pub(super) async fn wait_for_merge_task(
    merge_task: &mut Option<MergeTask>,
) -> Result<(Integration, eyre::Result<()>), JoinError> {
    match merge_task {
        Some(merge_task) => merge_task.await,
        None => std::future::pending().await,
    }
}
