//! Merges next to everything else: what they need, and what follows from them.

use jiff::Timestamp;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::fields::{Dispatcher, TICK};
use crate::dispatch::integration::{FinishedRun, Integration, WorkChecks};
use crate::dispatch::journal::Entry;
use crate::dispatch::merging::{Outcome, Ports, Tip, merge_all};
use crate::dispatch::standing::task_key;
use crate::dispatch::state::Origin;
use crate::dispatch::verification::Mode;
use crate::scud::TaskGraph;

/// How often a merge that failed for another reason than its content is tried again before giving up.
const MERGE_ATTEMPTS: u32 = 5;

pub(super) type Merging = JoinHandle<(Integration, eyre::Result<()>)>;

impl Dispatcher<'_> {
    /// What the merge needs to know about a completed run.
    pub(super) fn finished_run(&self, id: &str) -> Option<FinishedRun> {
        let run = self.journaled.state.run(id)?;
        let (report, task) = (run.report.as_ref()?, run.task.as_deref()?);
        let (phase, task_id) = task.split_once(':')?;
        let commit = report.text("/result/work/head_commit");
        let sent = report.text("/timestamp").parse::<Timestamp>();
        let node = self.graph.position(phase, task_id);
        Some(FinishedRun {
            phase: phase.to_owned(),
            task: task_id.to_owned(),
            task_id: node.map_or_else(|| task.to_owned(), |node| self.graph.name(node)),
            run_id: id.to_owned(),
            title: node.map_or_else(String::new, |node| self.graph.tasks[node].title.clone()),
            branch: report.branch().unwrap_or_default().to_owned(),
            // A run that has changed nothing has its base.
            commit: if commit.is_empty() { &run.base } else { commit }.to_owned(),
            time: sent.unwrap_or_else(|_| {
                Timestamp::from_millisecond(report.at).unwrap_or(Timestamp::UNIX_EPOCH)
            }),
            checks: match report.origin {
                Origin::Worker => WorkChecks::Passed,
                Origin::Branch => WorkChecks::Unknown,
            },
        })
    }

    pub(super) fn spawn_merging(
        &self,
        mut integration: Integration,
        runs: Vec<FinishedRun>,
        ports: &Ports,
    ) -> Merging {
        // Without checks in the project there is nothing to verify. Only a report says which checks there are.
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
        let mode = if has_checks { self.mode } else { Mode::Never };
        let ports = ports.clone();
        tokio::task::spawn_local(async move {
            let merged = merge_all(&mut integration, runs, mode, &ports).await;
            (integration, merged)
        })
    }

    pub(super) async fn hear_outcome(&mut self, outcome: Outcome) -> eyre::Result<()> {
        match outcome {
            Outcome::Moved {
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
                    self.show.merged(run, &self.journaled.state, &self.graph);
                }
                self.set_tip(tip)?;
                self.show.unpublished(unpublished);
                self.merge_failures = 0;
            }
            Outcome::Conflict { run, note } => {
                self.show.say(&format!("{run}: conflicts with merged work"));
                self.journaled.note(Entry::Conflict { run, note }).await?;
            }
            Outcome::Red { run, note } => {
                self.show
                    .say(&format!("{run}: the checks fail on its merged work"));
                self.journaled.note(Entry::Red { run, note }).await?;
            }
        }
        Ok(())
    }

    pub(super) fn set_tip(&mut self, tip: Tip) -> eyre::Result<()> {
        let scope: Vec<String> = self.scope_keys();
        self.graph = TaskGraph::parse(&tip.graph)?;
        self.tip = tip;
        let positions = scope.iter().filter_map(|key| {
            let (phase, id) = key.split_once(':')?;
            self.graph.position(phase, id)
        });
        self.terms.scope = positions.collect();
        Ok(())
    }

    pub(super) fn scope_keys(&self) -> Vec<String> {
        let scope = self.terms.scope.iter();
        scope.map(|task| task_key(&self.graph, *task)).collect()
    }

    /// The merging has ended: with an error, it is tried again later.
    pub(super) fn end_merging(
        &mut self,
        ended: Result<(Integration, eyre::Result<()>), JoinError>,
    ) -> eyre::Result<()> {
        let (integration, merged) = ended?;
        self.integration = Some(integration);
        self.next_merge = None;
        if let Err(error) = merged {
            self.merge_failures += 1;
            if self.merge_failures >= MERGE_ATTEMPTS {
                return Err(error.wrap_err("finished work cannot be merged"));
            }
            self.show.say(&format!(
                "finished work could not be merged, trying again: {error:#}"
            ));
            self.next_merge = Some(Instant::now() + TICK);
        }
        Ok(())
    }
}

/// The end of the merging; waits forever if there is none.
pub(super) async fn finished(
    merging: &mut Option<Merging>,
) -> Result<(Integration, eyre::Result<()>), JoinError> {
    match merging {
        Some(merging) => merging.await,
        None => std::future::pending().await,
    }
}
