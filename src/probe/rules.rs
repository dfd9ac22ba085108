//! The rules of docs/protocol.md, in the order in which they can be tried.

use futures_util::future::join_all;
use serde_json::json;

use super::expected::Expected;
use super::report::{Report, RuleVerdict};
use super::rule_tester::RuleTester;
use super::sample::SampleRun;
use super::sender::{Answer, RequestCredentials, Sender};
use super::settings::Settings;
use super::waiting_rules::{try_cancellation, try_lease};
use crate::callback::Event;
use crate::task::Reason;

/// How many runs claim one task at the same time.
const CONCURRENT_CLAIMS: usize = 8;
/// The age of a signature that must be refused, in seconds. docs/protocol.md allows five minutes.
const INVALID_SIGNATURE_AGE: i64 = 10 * 60;

/// Whether the first claim got any answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstClaim {
    Answered,
    Unanswered,
}

/// Tries every rule, in this order: the first claim; the rules that need its run; the terminal event of that run; then
/// the rules that wait for a person or for a lease. If the first claim is not granted, all other rules are reported as
/// not tried.
pub async fn try_all(settings: &Settings, sender: &Sender, report: &mut Report) -> FirstClaim {
    let mut tester = RuleTester {
        settings,
        sender,
        report,
    };
    let first = tester.new_run(&settings.tasks.completed);
    let claim = first.claim();
    let answer = sender.send(&claim).await;
    let first_claim = match &answer {
        Ok(_) => FirstClaim::Answered,
        Err(_) => FirstClaim::Unanswered,
    };
    let is_granted = answer.as_ref().is_ok_and(Answer::is_success);
    tester.judge(
        "claims",
        "a free task is granted",
        Expected::Success,
        answer,
    );
    if !is_granted {
        tester.add_not_tried(
            "claims",
            "all other rules",
            "the orchestrator must know the tasks of --task, and no run may have claimed them",
        );
        return first_claim;
    }
    tester.try_claims(&first, &claim).await;
    tester.try_credentials(&first).await;
    tester.try_heartbeats(&first).await;
    tester.try_failures().await;
    tester.try_terminal_event(&first).await;
    tester.try_concurrent_claims().await;
    try_cancellation(&mut tester).await;
    try_lease(&mut tester).await;
    first_claim
}

impl RuleTester<'_> {
    /// Tries the rules about claims. `first` is the run whose claim was granted.
    async fn try_claims(&mut self, first: &SampleRun<'_>, claim: &Event) {
        let section = "claims";
        let rule = "the same claim, repeated, is granted again";
        self.send_and_judge(section, rule, Expected::Success, claim)
            .await;
        let other = self.new_run(first.task());
        let rule = "another run is refused while the task is taken";
        self.send_and_judge(section, rule, Expected::Conflict, &other.claim())
            .await;
        let rule = "a heartbeat of a run that has no claim is refused";
        self.send_and_judge("leases", rule, Expected::ConflictOrGone, &other.heartbeat())
            .await;
    }

    /// Tries the rules about signatures and bearer tokens, with heartbeats of the first run.
    async fn try_credentials(&mut self, first: &SampleRun<'_>) {
        let section = "signatures";
        let refused = [
            (
                "a request without a signature is refused",
                RequestCredentials::Unsigned,
            ),
            (
                "a signature with another secret is refused",
                RequestCredentials::OtherKey,
            ),
            (
                "a signature of another body is refused",
                RequestCredentials::OtherBody,
            ),
            (
                "a signature that is ten minutes old is refused",
                RequestCredentials::SignedAt {
                    seconds_ago: INVALID_SIGNATURE_AGE,
                },
            ),
            (
                "a signature from ten minutes in the future is refused",
                RequestCredentials::SignedAt {
                    seconds_ago: -INVALID_SIGNATURE_AGE,
                },
            ),
        ];
        if self.sender.has_signing_key() {
            for (rule, credentials) in refused {
                let answer = self.sender.send_with(&first.heartbeat(), credentials).await;
                self.judge(section, rule, Expected::Unauthorized, answer);
            }
            let rule = "one right signature among several is enough";
            let heartbeat = first.heartbeat();
            let answer = self
                .sender
                .send_with(&heartbeat, RequestCredentials::RightAmongOthers)
                .await;
            self.judge(section, rule, Expected::Success, answer);
        } else {
            let why = "DESCARTES_CALLBACK_SECRET is not set";
            self.add_not_tried(section, "wrong signatures are refused", why);
        }
        let section = "bearer token";
        if self.sender.has_bearer {
            for (rule, credentials) in [
                (
                    "a request without the token is refused",
                    RequestCredentials::NoToken,
                ),
                ("another token is refused", RequestCredentials::OtherToken),
            ] {
                let answer = self.sender.send_with(&first.heartbeat(), credentials).await;
                self.judge(section, rule, Expected::Unauthorized, answer);
            }
        } else {
            let why = "DESCARTES_CALLBACK_TOKEN is not set";
            self.add_not_tried(section, "wrong tokens are refused", why);
        }
    }

    /// Tries the rules about heartbeats of the first run.
    async fn try_heartbeats(&mut self, first: &SampleRun<'_>) {
        let (early, late) = (first.heartbeat(), first.heartbeat());
        let rule = "a heartbeat is accepted";
        self.send_and_judge("heartbeats", rule, Expected::Success, &late)
            .await;
        let rule = "the same event, repeated, is accepted again";
        self.send_and_judge("idempotency keys", rule, Expected::Success, &late)
            .await;
        let rule = "a heartbeat with a smaller sequence than the last one is accepted";
        self.send_and_judge("order", rule, Expected::Success, &early)
            .await;
        let event = first.heartbeat();
        let answer = match with_unknown_fields(&event) {
            Some(body) => {
                self.sender
                    .post(&event, body, RequestCredentials::Right)
                    .await
            }
            None => Err("the sample event is not JSON".to_owned()),
        };
        let rule = "fields that the receiver does not know are ignored";
        self.judge("events", rule, Expected::Success, answer);
    }

    /// Tries the rules about failed runs, on the task of the other project that has the same id as the completed task. The
    /// first run of that task fails with `retryable: true`, the second one with `retryable: false`.
    async fn try_failures(&mut self) {
        let (settings, task) = (self.settings, &self.settings.tasks.completed);
        let new_run = || SampleRun::new(&settings.callback, &settings.other_project, task);
        let first_run = new_run();
        let answer = self.sender.send(&first_run.claim()).await;
        let is_granted = answer.as_ref().is_ok_and(Answer::is_success);
        let rule = "the task of another project with the same id is another task";
        self.judge("the key of a run", rule, Expected::Success, answer);
        if !is_granted {
            let why = "the task of the other project was not granted";
            self.add_not_tried("claims", "a task that failed may be claimed again", why);
            return;
        }
        let rule = "a failure with a body of a quarter of a mebibyte is accepted";
        let failed = first_run.failed_event_with_large_patch(Reason::AgentKilled);
        self.send_and_judge("the terminal event", rule, Expected::Success, &failed)
            .await;
        let second_run = new_run();
        let rule = "a task whose last run failed with retryable: true is granted again";
        self.send_and_judge("claims", rule, Expected::Success, &second_run.claim())
            .await;
        let rule = "a failure with retryable: false is accepted";
        let failed = second_run.failed_event(Reason::ChecksFailed);
        self.send_and_judge("the terminal event", rule, Expected::Success, &failed)
            .await;
        let rule = "a task whose last run failed with retryable: false is not granted again";
        self.send_and_judge("claims", rule, Expected::Gone, &new_run().claim())
            .await;
    }

    /// Tries the rules about the terminal event of the first run.
    async fn try_terminal_event(&mut self, first: &SampleRun<'_>) {
        let section = "the terminal event";
        let completed = first.completed_event();
        let rule = "completed is accepted";
        self.send_and_judge(section, rule, Expected::Success, &completed)
            .await;
        let rule = "completed, repeated, is accepted again";
        self.send_and_judge("idempotency keys", rule, Expected::Success, &completed)
            .await;
        let rule = "a heartbeat after the terminal event does no harm";
        self.send_and_judge(
            "order",
            rule,
            Expected::SuccessConflictOrGone,
            &first.heartbeat(),
        )
        .await;
        let rule = "a task that is completed is not granted again";
        let other = self.new_run(first.task());
        self.send_and_judge("claims", rule, Expected::Gone, &other.claim())
            .await;
    }

    /// Tries the rule about several runs that claim one task at the same time.
    async fn try_concurrent_claims(&mut self) {
        let rule = "of eight claims at the same time, exactly one is granted";
        let task = &self.settings.tasks.contested;
        let runs: Vec<_> = (0..CONCURRENT_CLAIMS).map(|_| self.new_run(task)).collect();
        let claims: Vec<Event> = runs.iter().map(SampleRun::claim).collect();
        let answers = join_all(claims.iter().map(|claim| self.sender.send(claim))).await;
        let (mut granted, mut unanswered) = (Vec::new(), Vec::new());
        let mut first_error = None;
        for (run, answer) in runs.iter().zip(answers) {
            match answer {
                Ok(answer) if answer.is_success() => granted.push(run),
                Ok(_) => {}
                Err(why) => {
                    unanswered.push(run);
                    first_error.get_or_insert(why);
                }
            }
        }
        let (verdict, message) = match (first_error, granted.len()) {
            (Some(why), _) => (RuleVerdict::Broken, why),
            (None, 1) => (RuleVerdict::Kept, String::new()),
            (None, count) => (RuleVerdict::Broken, format!("{count} were granted")),
        };
        self.report.add("claims", rule, verdict, message);
        // Ends the task: otherwise the orchestrator would show it as running. A claim without an answer may be granted
        // too.
        for run in granted {
            let _ = self.sender.send(&run.completed_event()).await;
        }
        let events: Vec<Event> = unanswered
            .into_iter()
            .map(SampleRun::completed_event)
            .collect();
        join_all(events.iter().map(|event| self.sender.send(event))).await;
    }
}

/// The event's body with fields that no version of the protocol has.
fn with_unknown_fields(event: &Event) -> Option<Vec<u8>> {
    let mut body: serde_json::Value = serde_json::from_slice(&event.body()).ok()?;
    let fields = body.as_object_mut()?;
    fields.insert("x_probe".to_owned(), json!({ "nested": [1, null, "ü"] }));
    serde_json::to_vec(&body).ok()
}
