//! The rules whose tests wait: for a person who cancels a run, or for the end of a lease.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::expected::Expected;
use super::report::RuleVerdict;
use super::rule_tester::RuleTester;
use super::sample::SampleRun;
use super::sender::Answer;
use super::settings::Leases;
use crate::callback::cancellation;
use crate::task::Reason;

/// The heartbeat interval in the claim of the silent run of [`try_lease`]. It gives the run the shortest lease: a
/// minute.
const SHORT_HEARTBEAT: Duration = Duration::from_secs(1);
/// If the task of the silent run is granted again before this time, the lease was too short. The protocol says a
/// minute; ten seconds less allow for the time that requests take.
const MIN_LEASE: Duration = Duration::from_secs(50);
/// The longest that the lease of the silent run may last. The protocol says a minute; the rest is for an orchestrator
/// that looks for ended leases only from time to time.
const MAX_LEASE: Duration = Duration::from_secs(90);
/// The time between two heartbeats of the run that a person has to cancel.
const CANCEL_HEARTBEAT: Duration = Duration::from_millis(500);

/// Tries the rules about a run that a person cancels.
pub async fn try_cancellation(tester: &mut RuleTester<'_>) {
    let rule = "a cancelled task is cancelled in the answer to a heartbeat";
    let Some(timeout) = tester.settings.cancel_within else {
        let why = "needs a person who cancels a task: --cancel-within";
        tester.add_not_tried("cancelling", rule, why);
        return;
    };
    let run = tester.new_run(&tester.settings.tasks.cancelled);
    if !tester.claim_is_granted(&run.claim()).await {
        let why = format!("the claim of task {} was not granted", run.task());
        tester.add_not_tried("cancelling", rule, &why);
        return;
    }
    tester.report.ask(&format!(
        "cancel task {} (run {}) at your orchestrator now; waiting {} s",
        run.task(),
        run.run_id(),
        timeout.as_secs()
    ));
    let deadline = Instant::now() + timeout;
    let (verdict, message) = loop {
        let answer = match tester.sender.send(&run.heartbeat()).await {
            Ok(answer) => answer,
            Err(why) => break (RuleVerdict::Broken, why),
        };
        if let Some(description) = describe_cancellation(&answer) {
            break (RuleVerdict::Kept, description);
        }
        if Instant::now() >= deadline {
            let seconds = timeout.as_secs();
            let message = format!("no answer cancelled the task within {seconds} s");
            break (RuleVerdict::Broken, message);
        }
        sleep(CANCEL_HEARTBEAT).await;
    };
    tester.report.add("cancelling", rule, verdict, message);
    let rule = "the terminal event of a cancelled run is accepted";
    let failed = run.failed_event(Reason::Cancelled);
    tester
        .send_and_judge("cancelling", rule, Expected::SuccessConflictOrGone, &failed)
        .await;
}

/// Tries the rules about a run that sends nothing after its claim.
pub async fn try_lease(tester: &mut RuleTester<'_>) {
    let rule = "a task whose worker has been silent for over a minute is granted to another run";
    if tester.settings.leases == Leases::LeaveOut {
        tester.add_not_tried("leases", rule, "takes over a minute: --leases");
        return;
    }
    let task = &tester.settings.tasks.silent;
    let mut settings = tester.settings.callback.clone();
    settings.heartbeat_interval = Some(SHORT_HEARTBEAT);
    let silent = SampleRun::new(&settings, &settings.identity.project_id, task);
    if !tester.claim_is_granted(&silent.claim()).await {
        let why = format!("the claim of task {task} was not granted");
        tester.add_not_tried("leases", rule, &why);
        return;
    }
    let (other, started_at) = (tester.new_run(task), Instant::now());
    let seconds = MAX_LEASE.as_secs();
    tester
        .report
        .ask(&format!("waiting up to {seconds} s for a lease to end"));
    let claim = other.claim();
    let (verdict, message) = loop {
        match tester.sender.send(&claim).await {
            Ok(answer) if answer.is_success() && started_at.elapsed() < MIN_LEASE => {
                let seconds = started_at.elapsed().as_secs();
                break (
                    RuleVerdict::Broken,
                    format!("it was granted after {seconds} s"),
                );
            }
            Ok(answer) if answer.is_success() => break (RuleVerdict::Kept, String::new()),
            Ok(_) if started_at.elapsed() > MAX_LEASE => {
                break (RuleVerdict::Broken, format!("not within {seconds} s"));
            }
            Ok(_) => sleep(Duration::from_secs(1)).await,
            Err(why) => break (RuleVerdict::Broken, why),
        }
    };
    tester.report.add("leases", rule, verdict, message);
    if verdict == RuleVerdict::Kept {
        let rule = "a heartbeat of the run whose lease was over is refused";
        tester
            .send_and_judge(
                "leases",
                rule,
                Expected::ConflictOrGone,
                &silent.heartbeat(),
            )
            .await;
    }
    let _ = tester.sender.send(&other.completed_event()).await;
    if verdict != RuleVerdict::Kept {
        // The silent run may still have the task: without this event, the orchestrator would show it as running.
        let _ = tester.sender.send(&silent.completed_event()).await;
    }
}

/// A description of how an answer to a heartbeat cancels the run; `None` if it does not.
fn describe_cancellation(answer: &Answer) -> Option<String> {
    match answer.status {
        409 | 410 => Some(format!("answered {}", answer.status)),
        _ if answer.is_success() => cancellation(&answer.body).map(|cancellation| {
            cancellation.reason.map_or_else(
                || "without a reason".to_owned(),
                |reason| format!("the reason is {reason:?}"),
            )
        }),
        _ => None,
    }
}
