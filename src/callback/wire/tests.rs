//! Tests the largest possible bodies, which the black-box tests cannot produce, and cancellations.

use std::time::Duration;

use super::result::MAX_CHECKS;
use super::*;
use crate::callback::settings::Machine;
use crate::model::UsageAndCost;
use crate::task::{self, AgentReport, CheckReport, Reason, RunReport};

/// A text of control characters: each of them takes six bytes in JSON.
fn control_characters(length: usize) -> String {
    "\u{1}".repeat(length)
}

fn identity() -> Identity {
    let long_name = || Some(control_characters(100_000));
    Identity {
        task_id: "8".into(),
        project_id: "proj-456".into(),
        run_id: "run".into(),
        agent: Some("command"),
        isolation: None,
        hostname: "host".into(),
        revision: None,
        machine: Some(Machine {
            id: long_name(),
            app: long_name(),
            region: long_name(),
            image: long_name(),
            memory_mb: Some(512),
        }),
    }
}

/// Reports of equal checks. `command_length` is the length of the check's command.
fn checks(count: usize, command_length: usize, exit_code: i32) -> Vec<CheckReport> {
    let check = CheckReport {
        command: control_characters(command_length),
        exit_code: Some(exit_code),
        duration: Duration::from_secs(1),
        output_tail: control_characters(4 * 1024),
    };
    vec![check; count]
}

fn failed_event(report: RunReport) -> Event {
    let failure = task::Failure {
        causes: vec![control_characters(1_000_000)],
        ..task::Failure::new(Reason::ChecksFailed, control_characters(1_000_000))
    };
    let outcome = Outcome {
        verdict: Verdict::Failed(failure),
        report,
    };
    let mut event = Event::new(Kind::Failed, &identity(), 1, &control_characters(1_000_000));
    event.add_outcome(&outcome, &Redactor::new(&[]));
    event
}

#[test]
fn the_largest_possible_event_is_within_the_limit() {
    let event = failed_event(RunReport {
        summary: Some(control_characters(1_000_000)),
        prompts: vec![control_characters(16 * 1024); 8],
        agent: Some(AgentReport {
            kind: "command",
            model: Some(control_characters(1_000_000)),
            session_id: Some(control_characters(1_000_000)),
            exit_code: None,
            spent: UsageAndCost::default(),
        }),
        checks: checks(1000, 100_000, 1),
        output: task::Output {
            head: control_characters(4 * 1024),
            tail: control_characters(8 * 1024),
            total_bytes: 12 * 1024,
            dropped_bytes: 0,
        },
        ..RunReport::default()
    });
    let size = event.body().len();
    assert!(size <= MAX_BODY_SIZE, "{size}");
    assert_eq!(event.result.unwrap().checks.len(), MAX_CHECKS);
}

#[test]
fn the_failed_check_keeps_its_output_if_there_are_too_many_passed_checks() {
    let mut checks = checks(20, 10, 0);
    checks.last_mut().unwrap().exit_code = Some(1);
    let event = failed_event(RunReport {
        checks,
        ..RunReport::default()
    });
    assert!(event.body().len() <= MAX_BODY_SIZE);
    let checks = event.result.unwrap().checks;
    assert!(
        checks[..19]
            .iter()
            .all(|check| check.output_tail.is_empty())
    );
    assert_eq!(checks[19].output_tail.len(), 4 * 1024);
}

#[test]
fn a_cancellation_counts_with_any_reason_and_without_one() {
    let reason = |body: &str| cancellation(body.as_bytes()).map(|cancel| cancel.reason);
    assert_eq!(reason(r#"{"cancel": true}"#), Some(None));
    assert_eq!(reason(r#"{"cancel": true, "reason": null}"#), Some(None));
    assert_eq!(reason(r#"{"cancel": true, "reason": 7}"#), Some(None));
    let expected = Some(Some("too expensive".to_owned()));
    assert_eq!(
        reason(r#"{"cancel": true, "reason": "too expensive"}"#),
        expected
    );
    for body in [
        "",
        "ok",
        "null",
        "[]",
        "true",
        "{",
        "{}",
        r#"{"cancel": false}"#,
        r#"{"cancel": 1}"#,
        r#"{"cancel": "true"}"#,
    ] {
        assert_eq!(reason(body), None, "{body}");
    }
}
