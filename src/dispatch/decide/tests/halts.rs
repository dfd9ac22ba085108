//! When no new run starts.

use super::*;

#[test]
fn a_missing_agent_halts_until_the_next_start_and_a_used_up_budget_always() {
    let missing = state_with([vec![begun()], failed("1", 1, "agent_not_found", false)].concat());
    assert!(halt_reason(&missing, &policy()).is_some());
    let next = [
        vec![begun()],
        failed("1", 1, "agent_not_found", false),
        vec![begun()],
    ]
    .concat();
    assert!(halt_reason(&state_with(next.clone()), &policy()).is_none());
    assert!(matches!(
        standing_of_first(next),
        Standing::Ready(NextAttempt { number: 2, .. })
    ));

    let policy = |budget| Policy {
        max_budget_usd: Some(budget),
        ..policy()
    };
    let spent = state_with(failed("1", 1, "agent_failed", false));
    assert!(halt_reason(&spent, &policy(0.26)).is_none());
    let why = halt_reason(&spent, &policy(0.25)).unwrap();
    assert_eq!(why, "the budget is used up: $0.25 of $0.25");
}

#[test]
fn three_tasks_in_a_row_with_the_same_systemic_failure_halt_the_dispatch() {
    let fail = |task: &str, reason: &str| failed(task, 1, reason, true);
    let two = [
        vec![begun()],
        fail("1", "api_error"),
        fail("2", "api_error"),
    ]
    .concat();
    assert!(halt_reason(&state_with(two.clone()), &policy()).is_none());
    let three = [two.clone(), fail("3", "api_error")].concat();
    assert!(
        halt_reason(&state_with(three), &policy())
            .unwrap()
            .contains("api_error")
    );
    let mixed = [two, fail("3", "agent_failed")].concat();
    assert!(halt_reason(&state_with(mixed), &policy()).is_none());
}
