//! Tests of the reasons for which no new run starts.

use super::*;

#[test]
fn a_missing_agent_halts_this_dispatcher_and_a_used_up_budget_also_later_ones() {
    let missing = state_with(
        [
            vec![begun_entry()],
            permanent_failure("1", 1, "agent_not_found"),
        ]
        .concat(),
    );
    assert!(halt_reason(&missing, &policy()).is_some());
    let after_restart = [
        vec![begun_entry()],
        permanent_failure("1", 1, "agent_not_found"),
        vec![begun_entry()],
    ]
    .concat();
    assert!(halt_reason(&state_with(after_restart.clone()), &policy()).is_none());
    assert!(matches!(
        standing_of_task_1(after_restart),
        Standing::Ready(NextAttempt { number: 2, .. })
    ));

    let policy = |budget| Policy {
        max_budget_usd: Some(budget),
        ..policy()
    };
    let spent = state_with(permanent_failure("1", 1, "agent_failed"));
    assert!(halt_reason(&spent, &policy(0.26)).is_none());
    let why = halt_reason(&spent, &policy(0.25)).unwrap();
    assert_eq!(why, "the budget is used up: $0.25 of $0.25");
}

#[test]
fn three_tasks_in_a_row_with_the_same_systemic_failure_halt_the_dispatch() {
    let failure = |task: &str, reason: &str| retryable_failure(task, 1, reason);
    let two = [
        vec![begun_entry()],
        failure("1", "api_error"),
        failure("2", "api_error"),
    ]
    .concat();
    assert!(halt_reason(&state_with(two.clone()), &policy()).is_none());
    let three = [two.clone(), failure("3", "api_error")].concat();
    assert!(
        halt_reason(&state_with(three), &policy())
            .unwrap()
            .contains("api_error")
    );
    let mixed = [two, failure("3", "agent_failed")].concat();
    assert!(halt_reason(&state_with(mixed), &policy()).is_none());
}
