//! Merges finished runs, one batch at a time, next to everything else that the dispatcher does.
//!
//! It owns the integration branch while it works, and says what happened through a channel. Every step may
//! be repeated after a crash, so that nothing needs to be remembered.

use std::fmt::Write as _;

use eyre::{WrapErr, bail};
use tokio::sync::{mpsc, oneshot};

use super::integration::{
    AcceptResult, Candidate, Commit, Conflict, FinishedRun, Integration, IntegrationError,
    MergeResult,
};
use super::verification::{Batch, Mode, Step, Verdict};
use crate::scud::GRAPH_PATH;

/// What happened to some runs.
#[derive(Debug)]
pub enum Outcome {
    /// The branch has moved; these runs are on it.
    Moved {
        runs: Vec<String>,
        tip: Tip,
        /// Why the user's repository does not have it yet, if so.
        unpublished: Option<String>,
    },
    Conflict {
        run: String,
        note: String,
    },
    /// The checks fail on the merged work because of this run.
    Red {
        run: String,
        note: String,
    },
}

/// Where the integration branch is, and the graph there.
#[derive(Debug, Clone)]
pub struct Tip {
    pub commit: String,
    pub graph: String,
}

/// A commit whose checks must run.
#[derive(Debug)]
pub struct CheckRequest {
    pub commit: String,
    pub answer: oneshot::Sender<CheckResult>,
}

#[derive(Debug)]
pub enum CheckResult {
    Passed,
    /// With the end of the output.
    Failed(String),
    /// The checks could not be run.
    NotRun(String),
}

/// How the merging speaks with the dispatcher.
#[derive(Debug, Clone)]
pub struct Ports {
    pub outcomes: mpsc::Sender<Outcome>,
    pub checks: mpsc::Sender<CheckRequest>,
}

/// The graph at the tip.
pub async fn read_tip(integration: &Integration) -> eyre::Result<Tip> {
    let tip = integration.tip();
    let graph = integration.read_file(tip, GRAPH_PATH).await?;
    let Some(graph) = graph else {
        bail!(
            "there is no {GRAPH_PATH} in the commit {} that the dispatch is at: commit the graph, or name another commit with --base",
            tip.id
        );
    };
    let graph = String::from_utf8(graph).wrap_err("the graph is not UTF-8")?;
    Ok(Tip {
        commit: tip.id.clone(),
        graph,
    })
}

/// Merges runs in their order.
pub async fn merge_all(
    integration: &mut Integration,
    mut runs: Vec<FinishedRun>,
    mode: Mode,
    ports: &Ports,
) -> eyre::Result<()> {
    while !runs.is_empty() {
        let batch = make_batch(integration, &runs, ports).await?;
        let in_already: Vec<String> = batch.in_already;
        if !in_already.is_empty() {
            runs.retain(|run| !in_already.contains(&run.run_id));
            report_moved(integration, in_already, None, ports).await?;
        }
        runs.retain(|run| !batch.conflicts.contains(&run.run_id));
        if batch.merges.is_empty() {
            continue;
        }
        verify(integration, &mut runs, batch.merges, mode, ports).await?;
    }
    Ok(())
}

/// Merges on top of each other.
struct Made {
    merges: Vec<(String, Candidate)>,
    in_already: Vec<String>,
    conflicts: Vec<String>,
}

async fn make_batch(
    integration: &Integration,
    runs: &[FinishedRun],
    ports: &Ports,
) -> eyre::Result<Made> {
    let mut made = Made {
        merges: Vec::new(),
        in_already: Vec::new(),
        conflicts: Vec::new(),
    };
    let mut onto: Commit = integration.tip().clone();
    for run in runs {
        let id = run.run_id.clone();
        match integration.merge(&onto, run).await {
            // In a candidate is not in the branch: the next batch sees it there.
            Ok(MergeResult::AlreadyMerged) if made.merges.is_empty() => made.in_already.push(id),
            Ok(MergeResult::AlreadyMerged) => {}
            Ok(MergeResult::Clean(candidate)) => {
                onto = candidate.commit.clone();
                made.merges.push((id, candidate));
            }
            // It conflicts with a merge that is not on the branch yet, where the next attempt would begin:
            // it is merged again when that one is accepted or blamed.
            Ok(MergeResult::Conflict(_)) if !made.merges.is_empty() => {}
            Ok(MergeResult::Conflict(conflict)) => {
                let note = conflict_note(run, &conflict, &integration.clone_url());
                made.conflicts.push(id.clone());
                ports
                    .outcomes
                    .send(Outcome::Conflict { run: id, note })
                    .await?;
            }
            Err(IntegrationError::NoCommit { .. }) => {
                let note = "An earlier attempt at this task reported success, but its commit cannot be found.";
                made.conflicts.push(id.clone());
                let note = note.to_owned();
                ports
                    .outcomes
                    .send(Outcome::Conflict { run: id, note })
                    .await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(made)
}

/// Runs the checks as far as needed, and moves the branch to what is good.
async fn verify(
    integration: &mut Integration,
    runs: &mut Vec<FinishedRun>,
    merges: Vec<(String, Candidate)>,
    mode: Mode,
    ports: &Ports,
) -> eyre::Result<()> {
    let needs: Vec<bool> = merges
        .iter()
        .map(|(_, candidate)| candidate.needs_verification)
        .collect();
    let mut batch = Batch::new(mode, &needs);
    let mut output = String::new();
    loop {
        match batch.next() {
            Step::Check { merge } => {
                let (_, candidate) = &merges[merge];
                let commit = integration.publish_candidate(candidate).await?;
                match check(commit, ports).await? {
                    CheckResult::Passed => batch.record(merge, Verdict::Passed),
                    CheckResult::Failed(text) => {
                        output = text;
                        batch.record(merge, Verdict::Failed);
                    }
                    CheckResult::NotRun(why) => {
                        bail!("the checks of the merged work could not be run: {why}")
                    }
                }
            }
            Step::AcceptAll => return accept(integration, runs, &merges, ports).await,
            Step::Blame { merge } => {
                let (run, _) = &merges[merge];
                let note = format!(
                    "Your earlier work on this task passed its checks alone, but the project's checks fail when it is \
                     merged with the work of other tasks. The end of their output:\n\n{output}"
                );
                let blamed = Outcome::Red {
                    run: run.clone(),
                    note,
                };
                ports.outcomes.send(blamed).await?;
                runs.retain(|other| other.run_id != *run);
                return accept(integration, runs, &merges[..merge], ports).await;
            }
        }
    }
}

/// Runs the checks of a commit.
pub async fn check(commit: String, ports: &Ports) -> eyre::Result<CheckResult> {
    let (answer, answered) = oneshot::channel();
    ports.checks.send(CheckRequest { commit, answer }).await?;
    answered.await.wrap_err("the dispatcher has stopped")
}

async fn accept(
    integration: &mut Integration,
    runs: &mut Vec<FinishedRun>,
    merges: &[(String, Candidate)],
    ports: &Ports,
) -> eyre::Result<()> {
    let Some((_, last)) = merges.last() else {
        return Ok(());
    };
    match integration.accept(&last.commit).await? {
        // The candidates are made anew on the new tip.
        AcceptResult::TipChanged => Ok(()),
        AcceptResult::Moved { unpublished } => {
            let names: Vec<String> = merges.iter().map(|(run, _)| run.clone()).collect();
            runs.retain(|run| !names.contains(&run.run_id));
            report_moved(integration, names, unpublished, ports).await
        }
    }
}

async fn report_moved(
    integration: &Integration,
    runs: Vec<String>,
    unpublished: Option<String>,
    ports: &Ports,
) -> eyre::Result<()> {
    let tip = read_tip(integration).await?;
    let moved = Outcome::Moved {
        runs: runs.clone(),
        tip,
        unpublished,
    };
    ports.outcomes.send(moved).await?;
    // A branch that stays is only untidy.
    if let Err(error) = integration.delete_run_branches(&runs).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "the branches of merged runs stay"
        );
    }
    Ok(())
}

/// What the next attempt is told about a conflict.
fn conflict_note(run: &FinishedRun, conflict: &Conflict, repository: &str) -> String {
    let mut note = format!(
        "Your earlier work on this task conflicts with work that was merged meanwhile, in {}.",
        conflict.files.join(", ")
    );
    if !conflict.others.is_empty() {
        note.push_str("\nWhat was merged there meanwhile:");
    }
    for other in &conflict.others {
        let _ = match &other.task_id {
            Some(id) => write!(note, "\n- task {id}: {}", other.subject),
            None => write!(note, "\n- {}", other.subject),
        };
    }
    let _ = write!(
        note,
        "\nYour earlier work is commit {} on the branch {} of {repository}. Do the task again on the present state, so that both are in it.",
        run.commit, run.branch
    );
    note
}
