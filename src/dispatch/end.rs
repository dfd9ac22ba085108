//! The end of a dispatch: publishes the branch, and prints a summary with the blocked tasks and the branches of
//! their work.

use std::fmt::Write as _;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::decide::decide;
use super::dispatcher::{Dispatcher, LoopEnd, Signals};
use super::integration::{FastForward, Integration};
use super::journal::Entry;
use super::report::{DispatchStatus, write};
use super::result::DispatchResult;
use super::standing::Standing;
use super::state::Run;
use crate::amounts::dollars;
use crate::clock::now;
use crate::excerpt::visible;
use crate::report::ReportFile;
use crate::task::Status;
use crate::terminal::clock_text;

/// How long engines may take to remove ended runs, in addition to the grace period of a worker.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long engines may take to remove ended runs after a signal, if no run is live.
const CLEAN_UP_TIMEOUT_AFTER_SIGNAL: Duration = Duration::from_secs(5);
/// How long the dispatcher waits for the engines before a message says so.
const CLEAN_UP_NOTICE_DELAY: Duration = Duration::from_secs(3);

/// Publishes the merged work, prints the summary and writes the report. A signal ends the steps that may take long.
///
/// The engines are closed first, because machines that they still run cost money. The report comes last, because it
/// contains the summary.
pub async fn end_dispatch(
    dispatcher: &mut Dispatcher<'_>,
    loop_end: LoopEnd,
    branch: &str,
    report: Option<&ReportFile>,
    signals: &mut Signals,
) -> eyre::Result<DispatchResult> {
    let decision = decide(
        &dispatcher.journaled.state,
        &dispatcher.graph,
        &dispatcher.policy,
        now(),
    );
    let is_done = |standing: &Standing| {
        matches!(
            standing,
            Standing::Done | Standing::Closed | Standing::Split | Standing::Outside
        )
    };
    let all_done = decision.standings.iter().all(is_done);
    let stopped_by_user = dispatcher.policy.stopping > super::policy::Stopping::No;
    let check_failure = dispatcher.end_check_failure(&dispatcher.tip.commit);
    let mut result = match loop_end {
        // Even if all tasks are done, a merge or a check may be incomplete.
        LoopEnd::RunsLeft => DispatchResult::StoppedWithRuns,
        _ if all_done && check_failure.is_none() => DispatchResult::AllDone,
        LoopEnd::NothingLeft { .. } if stopped_by_user => DispatchResult::Stopped,
        LoopEnd::NothingLeft { .. } => DispatchResult::Blocked,
    };
    let live = dispatcher.journaled.state.live_runs().count();
    let mut conclusion = Conclusion {
        // If runs go on, the engines must keep them, so nothing of them is left over.
        leftovers: (live > 0).then(Vec::new),
        ..Conclusion::default()
    };
    let is_cut_short = tokio::select! {
        biased;
        () = signals.end_requested() => true,
        () = conclude(dispatcher, &loop_end, &decision.standings, result, branch, &mut conclusion) => false,
    };
    if is_cut_short {
        result = DispatchResult::StoppedWithRuns;
    }
    let mut text = summary_of_counts(dispatcher, &decision.standings, branch);
    if is_cut_short {
        text.push_str("the end was cut short by a signal; the same command completes it\n");
    }
    if live > 0 {
        let _ = writeln!(
            text,
            "{live} runs go on without a dispatcher; the same command takes them over"
        );
    }
    let leftovers = conclusion.leftovers;
    for sentence in leftovers.unwrap_or_else(|| dispatcher.engines.leftover_messages()) {
        let _ = writeln!(text, "{sentence}");
    }
    if let LoopEnd::NothingLeft {
        halt_reason: Some(why),
    } = &loop_end
    {
        let _ = writeln!(text, "nothing new was started: {why}");
    }
    if let Some(why) = check_failure
        && (all_done || dispatcher.end_check.is_some())
    {
        let _ = writeln!(text, "{why}");
    }
    for (task, why) in blocked_tasks(&decision.standings) {
        let name = dispatcher.graph.name(task);
        let title = visible(&dispatcher.graph.tasks[task].title);
        let why = visible(first_line(why));
        let _ = writeln!(text, "blocked   {name:<8} {title}: {why}");
        let branches = conclusion.unmerged_branches.iter();
        for (_, unmerged_branch) in branches.filter(|(of_task, _)| *of_task == task) {
            let _ = writeln!(text, "          its work is on {unmerged_branch}");
        }
    }
    text.push_str(&conclusion.published);
    dispatcher.show.flush();
    dispatcher.show.screen.clear_status();
    for line in text.lines() {
        dispatcher.show.screen.line(line);
    }
    let how = result.word().to_owned();
    dispatcher.journaled.record(Entry::Ended { how }).await?;
    if let Some(file) = report {
        let status = DispatchStatus::ended(result, &text);
        let contents = dispatcher.report_contents(&decision.standings, &status);
        write(file, &contents, dispatcher.show.screen);
    }
    Ok(result)
}

/// The results of [`conclude`].
#[derive(Default)]
struct Conclusion {
    /// Sentences about what the engines may still have; `None` if they had no time to remove everything, so that the
    /// engines must be asked.
    leftovers: Option<Vec<String>>,
    /// The branches with unmerged work: position of the task in the graph, and name of the branch.
    unmerged_branches: Vec<(usize, String)>,
    /// Lines for the user about the published branches.
    published: String,
}

/// Performs the steps of the end that may take long: closes the engines, copies unmerged work, publishes the branch.
/// The caller may drop this future at any time: the next dispatcher performs the steps that are left.
async fn conclude(
    dispatcher: &mut Dispatcher<'_>,
    loop_end: &LoopEnd,
    standings: &[Standing],
    result: DispatchResult,
    branch: &str,
    conclusion: &mut Conclusion,
) {
    let has_runs = dispatcher.journaled.state.live_runs().next().is_some();
    conclusion.leftovers = match loop_end {
        LoopEnd::NothingLeft { .. } => Some(close_engines(dispatcher).await),
        LoopEnd::RunsLeft if has_runs => Some(Vec::new()),
        LoopEnd::RunsLeft => timeout(CLEAN_UP_TIMEOUT_AFTER_SIGNAL, close_engines(dispatcher))
            .await
            .ok(),
    };
    let Some(mut integration) = dispatcher.integration.take() else {
        return;
    };
    for (task, _) in blocked_tasks(standings) {
        let key = &dispatcher.graph.tasks[task].key;
        let names = copy_unmerged_work(dispatcher, &integration, key).await;
        let branches = names.into_iter().map(|name| (task, name));
        conclusion.unmerged_branches.extend(branches);
    }
    let text = &mut conclusion.published;
    publish(dispatcher, &mut integration, result, branch, text).await;
}

/// Waits until the engines have removed everything of this dispatch; returns sentences about what the user must remove.
async fn close_engines(dispatcher: &mut Dispatcher<'_>) -> Vec<String> {
    let limit = dispatcher.grace_period() + CLEAN_UP_TIMEOUT;
    let mut closing = pin!(dispatcher.engines.close(limit));
    tokio::select! {
        leftovers = &mut closing => leftovers,
        () = sleep(CLEAN_UP_NOTICE_DELAY) => {
            dispatcher.show.print_message("waiting until the engines have removed what they have of this dispatch (press Ctrl-C to end without it)");
            closing.await
        }
    }
}

/// The blocked tasks: position in the graph, and why the task is blocked.
fn blocked_tasks(standings: &[Standing]) -> impl Iterator<Item = (usize, &str)> {
    let standings = standings.iter().enumerate();
    standings.filter_map(|(task, standing)| match standing {
        Standing::Blocked(why) => Some((task, why.as_str())),
        _ => None,
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The first line of the summary: how many tasks are done, the time and the cost.
fn summary_of_counts(dispatcher: &Dispatcher<'_>, standings: &[Standing], branch: &str) -> String {
    // The subtasks of an expanded task are counted instead of the task.
    let tasks = dispatcher.graph.tasks.iter().zip(standings);
    let counted = tasks.filter(|(task, standing)| {
        !matches!(standing, Standing::Outside | Standing::Closed) && task.status != Status::Expanded
    });
    let counted: Vec<&Standing> = counted.map(|(_, standing)| standing).collect();
    let all = counted.len();
    let done = counted
        .iter()
        .filter(|standing| ***standing == Standing::Done)
        .count();
    let elapsed: Duration = dispatcher.show.start_time.elapsed();
    let mut text = format!(
        "\n{done} of {all} tasks are done and merged on the branch {branch}, after {}",
        clock_text(elapsed)
    );
    let cost = dispatcher.journaled.state.cost_usd;
    if cost > 0.0 {
        let _ = write!(text, ", for {}", dollars(cost));
    }
    text.push('\n');
    text
}

/// Copies the branches with unmerged work of a task to the project; returns their names.
async fn copy_unmerged_work(
    dispatcher: &Dispatcher<'_>,
    integration: &Integration,
    key: &str,
) -> Vec<String> {
    let has_branch = |run: &&Run| {
        run.report
            .as_ref()
            .is_some_and(|report| report.branch().is_some())
    };
    let mut names = Vec::new();
    for run in dispatcher.journaled.state.runs_of(key).filter(has_branch) {
        match integration.copy_unmerged_branches(&run.id).await {
            Ok(copied) => names.extend(copied),
            Err(error) => tracing::warn!(
                run = run.id,
                error = &error as &dyn std::error::Error,
                "the branches of a run could not be copied to the project"
            ),
        }
    }
    names
}

/// Publishes the integration branch, and moves the branch of `--into` forward to it. Adds lines for the user to `text`.
async fn publish(
    dispatcher: &Dispatcher<'_>,
    integration: &mut Integration,
    result: DispatchResult,
    branch: &str,
    text: &mut String,
) {
    let has_no_merges = integration.tip().id == integration.base().id;
    if has_no_merges {
        return;
    }
    match integration.publish().await {
        Ok(None) => {}
        Ok(Some(why)) => {
            let _ = writeln!(text, "{why}");
            return;
        }
        Err(error) => {
            let _ = writeln!(text, "the branch {branch} could not be published: {error}");
            return;
        }
    }
    let Some(into) = &dispatcher.settings.into else {
        if result == DispatchResult::AllDone {
            let _ = writeln!(text, "next: git merge {branch}");
        }
        return;
    };
    if let Some(why) = dispatcher.end_check_failure(&integration.tip().id) {
        let _ = writeln!(text, "{into} was not moved: {}", first_line(&why));
        return;
    }
    let _ = match integration.fast_forward(into).await {
        Ok(FastForward::Done) => writeln!(text, "{into} was moved forward to {branch}"),
        Ok(FastForward::AlreadyThere) => writeln!(text, "{into} already contains {branch}"),
        Ok(FastForward::NotPossible(why)) => writeln!(text, "{into} was not moved: {why}"),
        Err(error) => writeln!(text, "{into} was not moved: {error}"),
    };
}
