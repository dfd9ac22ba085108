//! The rules of docs/protocol.md, in the order in which they can be tried.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::report::{Report, Verdict};
use super::sample::SampleRun;
use super::sender::{Answer, Proof, Sender};
use super::settings::{Leases, Settings};
use crate::callback::{Event, cancellation};
use crate::task::Reason;

/// How many runs claim one task at the same time.
const CONCURRENT_CLAIMS: usize = 8;
/// A signature this old, or this far in the future, must be refused: docs/protocol.md says five minutes.
const TOO_OLD_SECONDS: i64 = 10 * 60;
/// The heartbeat interval that the silent run claims with. Its lease is the shortest one: a minute.
const SHORT_HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest that the lease of the silent run may last. The protocol says a minute; the rest is for an orchestrator
/// that looks for ended leases only from time to time.
const MAX_LEASE: Duration = Duration::from_secs(90);
/// The time between two heartbeats of the run that a person has to cancel.
const CANCEL_HEARTBEAT: Duration = Duration::from_millis(500);

/// Whether the first claim got any answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    Yes,
    No,
}

/// The answers that a rule allows.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// 2xx.
    Success,
    /// 409. Workers treat 410 in the same way, so an answer with 410 gets [`Verdict::Advice`].
    Taken,
    /// 410. Workers treat 409 in the same way, so an answer with 409 gets [`Verdict::Advice`].
    Gone,
    /// 409 or 410.
    TakenOrGone,
    /// 2xx, 409 or 410: the orchestrator may ignore the event, or answer that the run is over.
    IgnoredOrOver,
    /// 401 or 403.
    Unauthorized,
}

/// Tries every rule. The rules after the first claim need a granted claim: if the first claim is refused, they are
/// reported as not tried. The rules that need the first run come before its end. The ones that wait for a person or
/// for a lease come last.
pub async fn probe(settings: &Settings, sender: &Sender, report: &mut Report) -> Reached {
    let mut probe = Probe {
        settings,
        sender,
        report,
    };
    let first = probe.run(&settings.tasks.completed);
    let claim = first.claim();
    let answer = sender.send(&claim).await;
    let reached = match &answer {
        Ok(_) => Reached::Yes,
        Err(_) => Reached::No,
    };
    let is_granted = answer.as_ref().is_ok_and(Answer::is_success);
    probe.judge(
        "claims",
        "a free task is granted",
        Expected::Success,
        answer,
    );
    if !is_granted {
        probe.not_tried(
            "claims",
            "all other rules",
            "the orchestrator must know the tasks of --task, and no run may have claimed them",
        );
        return reached;
    }
    probe.claims(&first, &claim).await;
    probe.credentials(&first).await;
    probe.heartbeats(&first).await;
    probe.failures().await;
    probe.end(&first).await;
    probe.concurrent_claims().await;
    probe.cancellation().await;
    probe.lease().await;
    reached
}

struct Probe<'a> {
    settings: &'a Settings,
    sender: &'a Sender,
    report: &'a mut Report,
}

impl<'a> Probe<'a> {
    /// A new run for a task of the first project.
    fn run(&self, task: &str) -> SampleRun<'a> {
        let project = &self.settings.callback.identity.project_id;
        SampleRun::new(&self.settings.callback, project, task)
    }

    /// Sends an event and judges the answer.
    async fn expect(
        &mut self,
        section: &'static str,
        rule: &'static str,
        expected: Expected,
        event: &Event,
    ) {
        let answer = self.sender.send(event).await;
        self.judge(section, rule, expected, answer);
    }

    fn judge(
        &mut self,
        section: &'static str,
        rule: &'static str,
        expected: Expected,
        answer: Result<Answer, String>,
    ) {
        let (verdict, message) = match answer {
            Ok(answer) => expected.judge(answer.status),
            Err(why) => (Verdict::Broken, why),
        };
        self.report.add(section, rule, verdict, message);
    }

    fn not_tried(&mut self, section: &'static str, rule: &'static str, why: &str) {
        self.report
            .add(section, rule, Verdict::NotTried, why.to_owned());
    }

    async fn claims(&mut self, first: &SampleRun<'_>, claim: &Event) {
        let section = "claims";
        let rule = "the same claim, repeated, is granted again";
        self.expect(section, rule, Expected::Success, claim).await;
        let other = self.run(first.task());
        let rule = "another run is refused while the task is taken";
        self.expect(section, rule, Expected::Taken, &other.claim())
            .await;
        let rule = "a heartbeat of a run that has no claim is refused";
        self.expect("leases", rule, Expected::TakenOrGone, &other.heartbeat())
            .await;
    }

    async fn credentials(&mut self, first: &SampleRun<'_>) {
        let section = "signatures";
        let refused = [
            ("a request without a signature is refused", Proof::Unsigned),
            (
                "a signature with another secret is refused",
                Proof::OtherKey,
            ),
            ("a signature of another body is refused", Proof::OtherBody),
            (
                "a signature that is ten minutes old is refused",
                Proof::Signed {
                    seconds_ago: TOO_OLD_SECONDS,
                },
            ),
            (
                "a signature from ten minutes in the future is refused",
                Proof::Signed {
                    seconds_ago: -TOO_OLD_SECONDS,
                },
            ),
        ];
        if self.sender.signs() {
            for (rule, proof) in refused {
                let answer = self.sender.send_with(&first.heartbeat(), proof).await;
                self.judge(section, rule, Expected::Unauthorized, answer);
            }
            let rule = "one right signature among several is enough";
            let heartbeat = first.heartbeat();
            let answer = self
                .sender
                .send_with(&heartbeat, Proof::RightAmongOthers)
                .await;
            self.judge(section, rule, Expected::Success, answer);
        } else {
            let why = "DESCARTES_CALLBACK_SECRET is not set";
            self.not_tried(section, "wrong signatures are refused", why);
        }
        let section = "bearer token";
        if self.sender.has_bearer {
            for (rule, proof) in [
                ("a request without the token is refused", Proof::NoToken),
                ("another token is refused", Proof::OtherToken),
            ] {
                let answer = self.sender.send_with(&first.heartbeat(), proof).await;
                self.judge(section, rule, Expected::Unauthorized, answer);
            }
        } else {
            let why = "DESCARTES_CALLBACK_TOKEN is not set";
            self.not_tried(section, "wrong tokens are refused", why);
        }
    }

    async fn heartbeats(&mut self, first: &SampleRun<'_>) {
        let (early, late) = (first.heartbeat(), first.heartbeat());
        let rule = "a heartbeat is accepted";
        self.expect("heartbeats", rule, Expected::Success, &late)
            .await;
        let rule = "the same event, repeated, is accepted again";
        self.expect("idempotency keys", rule, Expected::Success, &late)
            .await;
        let rule = "a heartbeat with a smaller sequence than the last one is accepted";
        self.expect("order", rule, Expected::Success, &early).await;
        let event = first.heartbeat();
        let answer = match with_unknown_fields(&event) {
            Some(body) => self.sender.post(&event, body, Proof::Right).await,
            None => Err("the sample event is not JSON".to_owned()),
        };
        let rule = "fields that the receiver does not know are ignored";
        self.judge("events", rule, Expected::Success, answer);
    }

    /// Two runs of the other project's task with the same id, which fail in two ways.
    async fn failures(&mut self) {
        let (settings, task) = (self.settings, &self.settings.tasks.completed);
        let run = || SampleRun::new(&settings.callback, &settings.other_project, task);
        let retryable = run();
        let answer = self.sender.send(&retryable.claim()).await;
        let is_granted = answer.as_ref().is_ok_and(Answer::is_success);
        let rule = "the task of another project with the same id is another task";
        self.judge("the key of a run", rule, Expected::Success, answer);
        if !is_granted {
            let why = "the task of the other project was not granted";
            self.not_tried("claims", "a task that failed may be claimed again", why);
            return;
        }
        let rule = "a failure with a body of a quarter of a mebibyte is accepted";
        let failed = retryable.failed_with_large_patch(Reason::AgentKilled);
        self.expect("the terminal event", rule, Expected::Success, &failed)
            .await;
        let final_run = run();
        let rule = "a task whose last run failed with retryable: true is granted again";
        self.expect("claims", rule, Expected::Success, &final_run.claim())
            .await;
        let rule = "a failure with retryable: false is accepted";
        let failed = final_run.failed(Reason::ChecksFailed);
        self.expect("the terminal event", rule, Expected::Success, &failed)
            .await;
        let rule = "a task whose last run failed with retryable: false is not granted again";
        self.expect("claims", rule, Expected::Gone, &run().claim())
            .await;
    }

    async fn end(&mut self, first: &SampleRun<'_>) {
        let section = "the terminal event";
        let completed = first.completed();
        let rule = "completed is accepted";
        self.expect(section, rule, Expected::Success, &completed)
            .await;
        let rule = "completed, repeated, is accepted again";
        self.expect("idempotency keys", rule, Expected::Success, &completed)
            .await;
        let rule = "a heartbeat after the terminal event does no harm";
        self.expect("order", rule, Expected::IgnoredOrOver, &first.heartbeat())
            .await;
        let rule = "a task that is completed is not granted again";
        let other = self.run(first.task());
        self.expect("claims", rule, Expected::Gone, &other.claim())
            .await;
    }

    /// Several runs claim one task at the same time.
    async fn concurrent_claims(&mut self) {
        let rule = "of eight claims at the same time, exactly one is granted";
        let task = &self.settings.tasks.contested;
        let runs: Vec<_> = (0..CONCURRENT_CLAIMS).map(|_| self.run(task)).collect();
        let claims: Vec<Event> = runs.iter().map(SampleRun::claim).collect();
        let answers = join_all(claims.iter().map(|claim| self.sender.send(claim))).await;
        let mut winners = Vec::new();
        for (run, answer) in runs.iter().zip(answers) {
            match answer {
                Ok(answer) if answer.is_success() => winners.push(run),
                Ok(_) => {}
                Err(why) => {
                    self.report.add("claims", rule, Verdict::Broken, why);
                    return;
                }
            }
        }
        let (verdict, message) = match winners.len() {
            1 => (Verdict::Kept, String::new()),
            count => (Verdict::Broken, format!("{count} were granted")),
        };
        self.report.add("claims", rule, verdict, message);
        for winner in winners {
            // Ends the task: otherwise the orchestrator would show it as running.
            let _ = self.sender.send(&winner.completed()).await;
        }
    }

    /// A run that a person cancels.
    async fn cancellation(&mut self) {
        let rule = "a cancelled task is cancelled in the answer to a heartbeat";
        let Some(patience) = self.settings.cancel_within else {
            let why = "needs a person who cancels a task: --cancel-within";
            self.not_tried("cancelling", rule, why);
            return;
        };
        let run = self.run(&self.settings.tasks.cancelled);
        if !self.is_granted(&run.claim()).await {
            let why = format!("the claim of task {} was not granted", run.task());
            self.not_tried("cancelling", rule, &why);
            return;
        }
        self.report.ask(&format!(
            "cancel task {} (run {}) at your orchestrator now; waiting {} s",
            run.task(),
            run.id(),
            patience.as_secs()
        ));
        let deadline = Instant::now() + patience;
        let (verdict, message) = loop {
            let answer = match self.sender.send(&run.heartbeat()).await {
                Ok(answer) => answer,
                Err(why) => break (Verdict::Broken, why),
            };
            if let Some(cancelled) = is_cancellation(&answer) {
                break (Verdict::Kept, cancelled);
            }
            if Instant::now() >= deadline {
                let seconds = patience.as_secs();
                let message = format!("no answer cancelled the task within {seconds} s");
                break (Verdict::Broken, message);
            }
            sleep(CANCEL_HEARTBEAT).await;
        };
        self.report.add("cancelling", rule, verdict, message);
        let rule = "the terminal event of a cancelled run is accepted";
        let failed = run.failed(Reason::Cancelled);
        self.expect("cancelling", rule, Expected::IgnoredOrOver, &failed)
            .await;
    }

    /// A run that sends nothing after its claim.
    async fn lease(&mut self) {
        let rule =
            "a task whose worker has been silent for over a minute is granted to another run";
        if self.settings.leases == Leases::LeaveOut {
            self.not_tried("leases", rule, "takes over a minute: --leases");
            return;
        }
        let task = &self.settings.tasks.silent;
        let mut settings = self.settings.callback.clone();
        settings.heartbeat = Some(SHORT_HEARTBEAT);
        let silent = SampleRun::new(&settings, &settings.identity.project_id, task);
        if !self.is_granted(&silent.claim()).await {
            let why = format!("the claim of task {task} was not granted");
            self.not_tried("leases", rule, &why);
            return;
        }
        let (other, began) = (self.run(task), Instant::now());
        let seconds = MAX_LEASE.as_secs();
        self.report
            .ask(&format!("waiting up to {seconds} s for a lease to end"));
        let claim = other.claim();
        let (verdict, message) = loop {
            match self.sender.send(&claim).await {
                Ok(answer) if answer.is_success() && began.elapsed() < Duration::from_secs(50) => {
                    let seconds = began.elapsed().as_secs();
                    break (Verdict::Broken, format!("it was granted after {seconds} s"));
                }
                Ok(answer) if answer.is_success() => break (Verdict::Kept, String::new()),
                Ok(_) if began.elapsed() > MAX_LEASE => {
                    break (Verdict::Broken, format!("not within {seconds} s"));
                }
                Ok(_) => sleep(Duration::from_secs(1)).await,
                Err(why) => break (Verdict::Broken, why),
            }
        };
        self.report.add("leases", rule, verdict, message);
        if verdict == Verdict::Kept {
            let rule = "a heartbeat of the run whose lease was over is refused";
            self.expect("leases", rule, Expected::TakenOrGone, &silent.heartbeat())
                .await;
        }
        let _ = self.sender.send(&other.completed()).await;
    }

    async fn is_granted(&self, claim: &Event) -> bool {
        let answer = self.sender.send(claim).await;
        answer.is_ok_and(|answer| answer.is_success())
    }
}

/// A description of how an answer to a heartbeat cancels the run; `None` if it does not.
fn is_cancellation(answer: &Answer) -> Option<String> {
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

/// The event's body with fields that no version of the protocol has.
fn with_unknown_fields(event: &Event) -> Option<Vec<u8>> {
    let mut body: serde_json::Value = serde_json::from_slice(&event.body()).ok()?;
    let fields = body.as_object_mut()?;
    fields.insert("x_probe".to_owned(), json!({ "nested": [1, null, "ü"] }));
    serde_json::to_vec(&body).ok()
}

impl Expected {
    fn judge(self, status: u16) -> (Verdict, String) {
        let answered = |right: &str| format!("answered {status}, {right} is right");
        let kept = (Verdict::Kept, String::new());
        match (self, status) {
            (Self::Success | Self::IgnoredOrOver, 200..300)
            | (Self::Taken, 409)
            | (Self::Gone, 410)
            | (Self::TakenOrGone | Self::IgnoredOrOver, 409 | 410)
            | (Self::Unauthorized, 401 | 403) => kept,
            (Self::Taken, 410) => (Verdict::Advice, answered("409")),
            (Self::Gone, 409) => (Verdict::Advice, answered("410")),
            (Self::Unauthorized, 400..=499) => (Verdict::Advice, answered("401")),
            (Self::Success, _) => (Verdict::Broken, answered("2xx")),
            (Self::Taken, _) => (Verdict::Broken, answered("409")),
            (Self::Gone, _) => (Verdict::Broken, answered("410")),
            (Self::TakenOrGone, _) => (Verdict::Broken, answered("409 or 410")),
            (Self::IgnoredOrOver, _) => (Verdict::Broken, answered("2xx or 409")),
            (Self::Unauthorized, _) => (Verdict::Broken, answered("401")),
        }
    }
}
