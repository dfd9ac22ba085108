//! Tests the order of events, and which run has a task, with a clock that the tests set.

use serde_json::json;

use super::*;

/// A ledger and its clock.
struct Fixture {
    ledger: Ledger,
    now: Instant,
    /// The `failure` of the terminal events that are sent next.
    failure: serde_json::Value,
    project: &'static str,
}

impl Fixture {
    fn new() -> Self {
        Self {
            ledger: Ledger::new(None, vec!["cancelled".to_owned()], Repetition::Refuse),
            now: Instant::now(),
            failure: json!(null),
            project: "p",
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Sends an event of task 8; returns the status and the problems.
    fn send(&mut self, run: &str, sequence: u64, route: Route) -> (u16, Vec<String>) {
        let received = self.send_with(run, sequence, route, "8", None);
        (received.answer.status.as_u16(), received.problems)
    }

    fn send_with(
        &mut self,
        run: &str,
        sequence: u64,
        route: Route,
        task: &str,
        scripted: Option<u16>,
    ) -> ReceivedEvent {
        let event = json!({
            "task_id": task, "project_id": self.project, "message": "m", "version": 1, "run_id": run,
            "status": route.status(),
            "event": format!("task.{route}"), "event_id": format!("{run}.{sequence}"),
            "sequence": sequence, "timestamp": "2026-11-23T08:00:00.000Z",
            "heartbeat_interval_ms": 30_000, "failure": self.failure,
        });
        let scripted = scripted.map(|status| StatusCode::from_u16(status).unwrap());
        let body = event.to_string();
        let received = self
            .ledger
            .receive(route, body.as_bytes(), scripted, self.now);
        received.expect("an event of a run")
    }
}

use Route::{Completed, Failed, Progress, Started};

#[test]
fn events_in_order_and_retries_are_accepted_without_problems() {
    let mut fixture = Fixture::new();
    for (sequence, route) in [Started, Progress, Completed].into_iter().enumerate() {
        let sequence = sequence as u64;
        assert_eq!(fixture.send("a", sequence, route), (200, vec![]));
    }
    let again = fixture.send_with("a", 2, Completed, "8", None);
    assert_eq!(again.answer.status, 200);
    assert!(again.is_repeated && again.problems.is_empty());
    let (status, problems) = fixture.send("a", 3, Failed);
    assert_eq!(status, 409);
    assert_eq!(problems, ["the run ended already, with event a.2"]);
}

#[test]
fn a_task_is_refused_to_another_run_until_the_first_one_ends() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.send("a", 0, Started).0, 200);
    assert_eq!(fixture.send("b", 0, Started).0, 409);
    assert_eq!(fixture.send("a", 1, Failed).0, 200);
    assert_eq!(fixture.send("b", 0, Started).0, 200);
}

#[test]
fn tasks_of_two_projects_with_the_same_id_are_two_tasks() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.send("a", 0, Started).0, 200);
    fixture.project = "q";
    assert_eq!(fixture.send("b", 0, Started).0, 200);
    assert_eq!(fixture.send("b", 1, Completed).0, 200);
    assert_eq!(fixture.send("c", 0, Started).0, 410);
    fixture.project = "p";
    assert_eq!(fixture.send("a", 1, Completed).0, 200);
}

#[test]
fn a_run_whose_lease_is_over_loses_its_task_to_the_next_claim() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.send("a", 0, Started).0, 200);
    fixture.wait(119);
    assert_eq!(
        fixture.send("b", 0, Started).0,
        409,
        "four intervals of 30 s"
    );
    assert_eq!(fixture.send("a", 1, Progress).0, 200);
    fixture.wait(119);
    assert_eq!(
        fixture.send("b", 0, Started).0,
        409,
        "a heartbeat renews the lease"
    );
    fixture.wait(1);
    assert_eq!(fixture.send("b", 0, Started), (200, vec![]));
    assert_eq!(fixture.send("a", 2, Progress), (409, vec![]));
    assert_eq!(fixture.send("a", 3, Failed), (409, vec![]));
    assert_eq!(fixture.send("b", 1, Completed), (200, vec![]));
}

#[test]
fn a_run_that_lost_its_task_is_refused_also_when_it_repeats_its_claim() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.send("a", 0, Started).0, 200);
    fixture.wait(120);
    assert_eq!(fixture.send("b", 0, Started).0, 200);
    fixture.failure = json!({ "retryable": true });
    assert_eq!(fixture.send("b", 1, Failed).0, 200);
    assert_eq!(fixture.send("a", 0, Started), (409, vec![]));
    assert_eq!(fixture.send("a", 1, Progress), (409, vec![]));
    assert_eq!(fixture.send("b", 1, Failed).0, 200, "a retry");
}

#[test]
fn a_repeated_claim_of_an_ended_or_replaced_run_does_not_take_the_task_from_another_run() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.send("replaced", 0, Started).0, 200);
    fixture.wait(120);
    assert_eq!(fixture.send("ended", 0, Started).0, 200);
    assert_eq!(fixture.send("ended", 1, Failed).0, 200);
    assert_eq!(fixture.send("last", 0, Started).0, 200);
    fixture.wait(120);
    assert_eq!(fixture.send("replaced", 0, Started).0, 409);
    assert_eq!(fixture.send("ended", 0, Started).0, 200);
    assert_eq!(fixture.send("last", 1, Completed), (200, vec![]));
}

#[test]
fn heartbeats_may_arrive_late_but_do_not_lower_the_sequence() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.send("a", 0, Started), (200, vec![]));
    assert_eq!(fixture.send("a", 4, Progress), (200, vec![]));
    assert_eq!(fixture.send("a", 2, Progress), (200, vec![]));
    assert_eq!(
        fixture.send("a", 3, Completed).1,
        ["sequence is 3, after 4: it must rise"]
    );
    assert_eq!(fixture.send("a", 1, Progress), (409, vec![]));
}

#[test]
fn a_run_whose_lease_is_over_keeps_its_task_if_no_other_run_claims_it() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.send("a", 0, Started).0, 200);
    fixture.wait(120);
    assert!(matches!(
        &fixture.ledger.report_ended_leases(fixture.now)[..],
        [Notice::LeaseOver { run_id, .. }] if run_id == "a"
    ));
    assert!(fixture.ledger.report_ended_leases(fixture.now).is_empty());
    assert_eq!(fixture.send("a", 1, Progress).0, 200);
    assert_eq!(fixture.send("b", 0, Started).0, 409);
    assert_eq!(fixture.send("a", 2, Completed).0, 200);
    fixture.wait(1000);
    assert!(fixture.ledger.report_ended_leases(fixture.now).is_empty());
}

#[test]
fn a_scripted_answer_that_makes_the_worker_repeat_an_event_does_not_count_the_event() {
    let mut fixture = Fixture::new();
    let refused = fixture.send_with("a", 0, Started, "8", Some(409));
    assert_eq!(refused.answer.status, 409);
    assert_eq!(
        fixture.send("b", 0, Started).0,
        200,
        "the task is still free"
    );
    let later = fixture.send_with("b", 1, Completed, "8", Some(503));
    assert_eq!(later.answer.status, 503);
    assert_eq!(fixture.send("c", 0, Started).0, 409, "run b has not ended");
    let known = fixture.send_with("b", 1, Completed, "8", Some(410));
    assert_eq!(
        (known.answer.status.as_u16(), known.is_repeated),
        (410, false)
    );
    assert_eq!(
        fixture.send("c", 0, Started).0,
        410,
        "run b has completed it"
    );
}

#[test]
fn a_task_that_is_completed_or_failed_for_good_is_not_granted_again() {
    let mut fixture = Fixture::new();
    for (task, route, retryable, again) in [
        ("1", Completed, json!(null), 410),
        ("2", Failed, json!(false), 410),
        ("3", Failed, json!(true), 200),
        ("4", Failed, json!(null), 200),
    ] {
        let (first, second) = (format!("{task}-first"), format!("{task}-second"));
        fixture.send_with(&first, 0, Started, task, None);
        fixture.failure = json!({ "retryable": retryable });
        fixture.send_with(&first, 1, route, task, None);
        let claim = fixture.send_with(&second, 0, Started, task, None);
        assert_eq!(claim.answer.status, again, "{task}");
    }
    fixture.ledger.repetition = Repetition::Grant;
    let claim = fixture.send_with("third", 0, Started, "1", None);
    assert_eq!(claim.answer.status, 200);
}

#[test]
fn a_run_without_a_claim_is_refused_while_another_run_has_the_task() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.send("a", 0, Started).0, 200);
    for route in [Progress, Completed] {
        assert_eq!(fixture.send("b", 1, route), (409, vec![]));
    }
    assert_eq!(fixture.send("a", 1, Progress).0, 200);
}

#[test]
fn the_heartbeats_of_a_cancelled_task_or_run_are_answered_with_a_cancellation() {
    let mut fixture = Fixture::new();
    for (run, task) in [("a", "cancelled"), ("cancelled", "8")] {
        assert!(
            !fixture
                .send_with(run, 0, Started, task, None)
                .answer
                .cancels
        );
        let answer = fixture.send_with(run, 1, Progress, task, None).answer;
        assert_eq!(answer.body()["cancel"], true);
        assert!(!fixture.send_with(run, 2, Failed, task, None).answer.cancels);
    }
}

#[test]
fn the_problems_name_what_breaks_the_protocol() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.send("a", 4, Progress).1,
        ["a run begins with one started event"]
    );
    assert_eq!(
        fixture.send("a", 2, Completed).1,
        ["sequence is 2, after 4: it must rise"]
    );
    let now = fixture.now;
    let mut refused = |body: &[u8]| {
        fixture
            .ledger
            .receive(Completed, body, None, now)
            .unwrap_err()
    };
    let answer = refused(b"{}");
    assert_eq!(answer.status, 400);
    let words = "task_id is missing; project_id is missing";
    assert!(answer.message.starts_with(words), "{}", answer.message);
    assert_eq!(refused(b"nonsense").status, 400);
}
