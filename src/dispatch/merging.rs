//! Merges finished runs, one batch at a time. The dispatcher calls [`merge_all`] in a background task.
//!
//! This background task owns the integration branch, and reports its results through a channel. Every step may be
//! repeated after a crash, so the journal records only results.

use std::fmt::Write as _;

use eyre::{WrapErr, bail};
use tokio::sync::{mpsc, oneshot};

use super::agent_definitions::{BrokenDefinitions, broken_definitions};
use super::integration::{
    AcceptResult, Candidate, Commit, Conflict, FinishedRun, Integration, IntegrationError,
    MergeResult,
};
use super::project_files::{NewMistakes, ProjectRules};
use super::verification::{BatchVerification, Step, Verdict, VerifyMode};
use crate::excerpt::{first_chars, visible};
use crate::scud::GRAPH_PATH;

/// How many mistakes in a project's files a message names.
const MAX_MISTAKES: usize = 5;
/// The maximum length of one mistake in a message, in characters.
const MAX_MISTAKE_LENGTH: usize = 500;

/// A result that the merge task reports to the main loop. `run` is the id of a run whose work was rejected, and `note`
/// the text for the prompt of the next attempt.
#[derive(Debug)]
pub enum MergeOutcome {
    /// The branch was moved, and now contains the work of these runs; of none if another program has moved it.
    Moved {
        runs: Vec<String>,
        /// The new tip.
        tip: Tip,
        /// The reason if the new tip could not be published.
        unpublished: Option<String>,
    },
    /// The work of the run conflicts with the branch.
    Conflict { run: String, note: String },
    /// The checks fail on the merged work because of this run.
    ChecksFailed { run: String, note: String },
    /// The merged work of this run has mistakes in files that workers read.
    Unusable {
        run: String,
        /// Which workers could not use which files, and why, in one line.
        why: String,
        note: String,
    },
}

/// The last commit of the integration branch, its graph, and the mistakes in its definitions of agents.
#[derive(Debug, Clone)]
pub struct Tip {
    /// The id of the commit.
    pub commit: String,
    /// The text of the graph.
    pub graph: String,
    pub broken_definitions: BrokenDefinitions,
}

/// A request to run the checks on a commit.
#[derive(Debug)]
pub struct CheckRequest {
    pub commit: String,
    /// Sends the result to the code that has made the request.
    pub answer: oneshot::Sender<CheckResult>,
}

/// The result of the checks on a commit.
#[derive(Debug)]
pub enum CheckResult {
    Passed,
    /// The checks failed; the text is the end of their output.
    Failed(String),
    /// The checks could not be run, for this reason.
    NotRun(String),
}

/// The channels from the merge task to the main loop.
#[derive(Debug, Clone)]
pub struct MergeChannels {
    pub outcomes: mpsc::Sender<MergeOutcome>,
    pub checks: mpsc::Sender<CheckRequest>,
}

/// Reads the graph and the definitions of agents at the tip.
pub async fn read_tip(integration: &Integration) -> eyre::Result<Tip> {
    let tip = integration.tip();
    let graph = integration.read_file(tip, GRAPH_PATH).await?;
    let Some(graph) = graph else {
        bail!(
            "there is no {GRAPH_PATH} in the commit {}: commit the graph, or name another commit with --base; if the graph was deleted on the integration branch, push a commit that restores it",
            tip.id
        );
    };
    let graph = String::from_utf8(graph).wrap_err("the graph is not UTF-8")?;
    Ok(Tip {
        commit: tip.id.clone(),
        broken_definitions: broken_definitions(integration, tip, &graph).await?,
        graph,
    })
}

/// Merges and verifies runs in their order. Works in batches: if the checks pass on the last merge of a batch, all
/// merges of the batch are verified. A run that cannot be merged is reported, and the others are merged again without
/// it.
pub async fn merge_all(
    integration: &mut Integration,
    mut runs: Vec<FinishedRun>,
    mode: VerifyMode,
    rules: &ProjectRules,
    channels: &MergeChannels,
) -> eyre::Result<()> {
    while !runs.is_empty() {
        let batch = make_batch(integration, &runs, rules, channels).await?;
        let already_merged = batch.already_merged;
        if !already_merged.is_empty() {
            runs.retain(|run| !already_merged.contains(&run.run_id));
            report_moved(integration, already_merged, None, channels).await?;
        }
        runs.retain(|run| !batch.rejected.contains(&run.run_id));
        if batch.merges.is_empty() {
            continue;
        }
        verify(integration, &mut runs, batch.merges, mode, channels).await?;
    }
    Ok(())
}

/// The result of merging several runs.
struct MergedBatch {
    /// The merges, each on top of the one before it.
    merges: Vec<Candidate>,
    /// The ids of the runs whose work the branch contains already.
    already_merged: Vec<String>,
    /// The ids of the runs whose work was rejected, and reported as rejected.
    rejected: Vec<String>,
}

/// Merges as many runs as possible on top of the tip and of each other.
async fn make_batch(
    integration: &Integration,
    runs: &[FinishedRun],
    rules: &ProjectRules,
    channels: &MergeChannels,
) -> eyre::Result<MergedBatch> {
    let mut batch = MergedBatch {
        merges: Vec::new(),
        already_merged: Vec::new(),
        rejected: Vec::new(),
    };
    let mut onto: Commit = integration.tip().clone();
    for run in runs {
        let id = run.run_id.clone();
        match integration.merge(&onto, run).await {
            Ok(MergeResult::AlreadyMerged) if batch.merges.is_empty() => {
                batch.already_merged.push(id);
            }
            // A candidate of this batch contains the run, and may still be rejected, so the next batch decides.
            Ok(MergeResult::AlreadyMerged) => {}
            Ok(MergeResult::Clean(candidate)) => {
                let mistakes = rules.find_new_mistakes(integration, &onto, &candidate.commit);
                let Some(mistakes) = mistakes.await? else {
                    onto = candidate.commit.clone();
                    batch.merges.push(candidate);
                    continue;
                };
                if batch.merges.is_empty() {
                    batch.rejected.push(id.clone());
                    let outcome = unusable_outcome(id, &mistakes);
                    channels.outcomes.send(outcome).await?;
                }
                // Otherwise the mistake may come from a candidate that is rejected later, so the next batch decides.
            }
            // The run conflicts with a candidate that may still be rejected, so it is merged again in the next batch.
            Ok(MergeResult::Conflict(_)) if !batch.merges.is_empty() => {}
            Ok(MergeResult::Conflict(conflict)) => {
                let note = conflict_note(run, &conflict, &integration.clone_url());
                batch.rejected.push(id.clone());
                channels
                    .outcomes
                    .send(MergeOutcome::Conflict { run: id, note })
                    .await?;
            }
            // The task must run again, as after a conflict.
            Err(IntegrationError::NoCommit { .. }) => {
                let note = "An earlier attempt at this task reported success, but its commit cannot be found.";
                batch.rejected.push(id.clone());
                let note = note.to_owned();
                channels
                    .outcomes
                    .send(MergeOutcome::Conflict { run: id, note })
                    .await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(batch)
}

/// Runs the checks that are needed, and moves the branch to the merges that pass. Removes from `runs` those that are
/// merged or rejected.
async fn verify(
    integration: &mut Integration,
    runs: &mut Vec<FinishedRun>,
    merges: Vec<Candidate>,
    mode: VerifyMode,
    channels: &MergeChannels,
) -> eyre::Result<()> {
    let needs_verification: Vec<bool> = merges
        .iter()
        .map(|candidate| candidate.needs_verification)
        .collect();
    let mut verification = BatchVerification::new(mode, &needs_verification);
    let mut output_of_failed_checks = String::new();
    loop {
        match verification.next() {
            Step::Check { merge } => {
                let commit = integration.publish_candidate(&merges[merge]).await?;
                match run_checks(commit, channels).await? {
                    CheckResult::Passed => verification.record(merge, Verdict::Passed),
                    CheckResult::Failed(text) => {
                        output_of_failed_checks = text;
                        verification.record(merge, Verdict::Failed);
                    }
                    CheckResult::NotRun(why) => {
                        bail!("the checks of the merged work could not be run: {why}")
                    }
                }
            }
            Step::AcceptAll => return accept(integration, runs, &merges, channels).await,
            Step::Blame { merge } => {
                let run = &merges[merge].run_id;
                let note = format!(
                    "Your earlier work on this task passed its checks alone, but the project's checks fail when it is \
                     merged with the work of other tasks. The end of their output:\n\n{output_of_failed_checks}"
                );
                let outcome = MergeOutcome::ChecksFailed {
                    run: run.clone(),
                    note,
                };
                channels.outcomes.send(outcome).await?;
                runs.retain(|other| other.run_id != *run);
                // All merges before the one to blame have passed their checks.
                return accept(integration, runs, &merges[..merge], channels).await;
            }
        }
    }
}

/// Asks the main loop to run the checks on a commit, and waits for the result.
async fn run_checks(commit: String, channels: &MergeChannels) -> eyre::Result<CheckResult> {
    let (answer, answer_receiver) = oneshot::channel();
    channels
        .checks
        .send(CheckRequest { commit, answer })
        .await?;
    answer_receiver.await.wrap_err("the dispatcher has stopped")
}

/// Moves the branch to the last of these merges, and removes their runs from `runs`. Does nothing if there is no merge.
async fn accept(
    integration: &mut Integration,
    runs: &mut Vec<FinishedRun>,
    merges: &[Candidate],
    channels: &MergeChannels,
) -> eyre::Result<()> {
    let Some(last) = merges.last() else {
        return Ok(());
    };
    match integration.accept(&last.commit).await? {
        // `merge_all` merges the runs again, on the new tip. The main loop starts new attempts at that tip, too.
        AcceptResult::TipChanged => report_moved(integration, Vec::new(), None, channels).await,
        AcceptResult::Moved { unpublished } => {
            let run_ids: Vec<String> = merges.iter().map(|merge| merge.run_id.clone()).collect();
            runs.retain(|run| !run_ids.contains(&run.run_id));
            report_moved(integration, run_ids, unpublished, channels).await
        }
    }
}

/// Reports the new tip, and that it contains the work of these runs. Deletes the branches of these runs.
async fn report_moved(
    integration: &Integration,
    runs: Vec<String>,
    unpublished: Option<String>,
    channels: &MergeChannels,
) -> eyre::Result<()> {
    let tip = read_tip(integration).await?;
    let moved = MergeOutcome::Moved {
        runs: runs.clone(),
        tip,
        unpublished,
    };
    channels.outcomes.send(moved).await?;
    if runs.is_empty() {
        return Ok(());
    }
    // If the branches stay, the dispatch can go on.
    if let Err(error) = integration.delete_run_branches(&runs).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "the branches of merged runs could not be deleted"
        );
    }
    Ok(())
}

/// The outcome for a run whose work has mistakes in the project's files.
fn unusable_outcome(run: String, mistakes: &NewMistakes) -> MergeOutcome {
    let NewMistakes { sentences, effect } = mistakes;
    let list = list_mistakes(sentences);
    let note = format!(
        "Your earlier work on this task passed its checks, but it was not merged, because {effect}:\n\n{list}\n\n\
         Do the task again, and leave these files so that they can be used."
    );
    MergeOutcome::Unusable {
        run,
        why: format!("{effect}: {}", list.replace('\n', "; ")),
        note,
    }
}

/// The first mistakes, each shortened, one per line. An agent can make any number of mistakes of any length.
fn list_mistakes(mistakes: &[String]) -> String {
    let shown = mistakes
        .iter()
        .take(MAX_MISTAKES)
        .map(|mistake| first_chars(&visible(mistake), MAX_MISTAKE_LENGTH));
    let mut lines: Vec<String> = shown.collect();
    if mistakes.len() > MAX_MISTAKES {
        lines.push(format!("and {} more", mistakes.len() - MAX_MISTAKES));
    }
    lines.join("\n")
}

/// The text about a conflict for the prompt of the next attempt.
fn conflict_note(run: &FinishedRun, conflict: &Conflict, repository: &str) -> String {
    let mut note = format!(
        "Your earlier work on this task conflicts with work that was merged meanwhile, in {}.",
        conflict.files.join(", ")
    );
    if !conflict.others.is_empty() {
        note.push_str("\nThe work that was merged meanwhile:");
    }
    for other in &conflict.others {
        let _ = match &other.task_id {
            Some(id) => write!(note, "\n- task {id}: {}", other.subject),
            None => write!(note, "\n- {}", other.subject),
        };
    }
    let _ = write!(
        note,
        "\nYour earlier work is commit {} on the branch {} of {repository}. Do the task again on the present state, so that it contains both.",
        run.commit, run.branch
    );
    note
}
