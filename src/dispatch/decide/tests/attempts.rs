//! Tests of the next step after failed runs: the next attempt, a pause before it, or a block.

use super::*;
use crate::dispatch::engine::TaskNeeds;

#[test]
fn after_a_temporary_failure_a_task_pauses_and_after_others_it_is_blocked() {
    for (reason, is_retryable, is_retried) in [
        ("agent_killed", true, true),
        ("interrupted", true, true),
        ("internal", true, true),
        ("workspace_failed", true, true),
        ("workspace_failed", false, false),
        ("internal", false, false),
        ("push_failed", true, true),
        ("push_failed", false, false),
        ("idle", true, true),
        ("api_error", true, true),
        ("api_error", false, false),
        ("out_of_memory", true, true),
        ("checks_failed", false, false),
        ("agent_failed", false, false),
        ("limit_reached", false, false),
        ("timed_out", false, false),
    ] {
        let standing = standing_of_task_1(failed_run("1", 1, reason, is_retryable));
        match (&standing, is_retried) {
            (Standing::Cooling { .. }, true) => {}
            (Standing::Blocked(why), false) => {
                assert!(why.contains("its work so far is on 1#1-wip"), "{why}");
            }
            _ => panic!("{reason}, retryable: {is_retryable}: {standing:?}"),
        }
    }
}

#[test]
fn after_a_failure_because_of_the_projects_files_a_task_is_blocked_until_the_next_start() {
    let entries = [
        vec![begun_entry()],
        permanent_failure("1", 1, "workspace_failed"),
        vec![begun_entry()],
    ]
    .concat();
    let before = entries[..entries.len() - 1].to_vec();
    assert!(matches!(standing_of_task_1(before), Standing::Blocked(_)));
    assert!(matches!(
        standing_of_task_1(entries),
        Standing::Ready(NextAttempt { number: 2, .. })
    ));
}

#[test]
fn runs_that_were_given_up_before_their_claim_do_not_count_as_attempts() {
    let given_up = |attempt| {
        let run = format!("1#{attempt}");
        let not_started = Entry::NotStarted {
            run,
            why: "it was given up".to_owned(),
            is_refused: false,
            is_given_up: true,
        };
        vec![intent_entry("1", attempt), not_started]
    };
    let entries = (1..=5).flat_map(given_up).collect();
    let expected = NextAttempt {
        number: 6,
        note: None,
        memory: None,
    };
    assert_eq!(standing_of_task_1(entries), Standing::Ready(expected));
}

#[test]
fn a_task_that_was_idle_twice_is_blocked() {
    let entries = [
        retryable_failure("1", 1, "idle"),
        retryable_failure("1", 2, "idle"),
    ]
    .concat();
    assert!(matches!(standing_of_task_1(entries), Standing::Blocked(_)));
}

#[test]
fn an_attempt_after_one_that_ran_out_of_memory_gets_twice_the_memory_up_to_the_maximum() {
    const GIB: u64 = 1 << 30;
    let memory_after = |reasons: &[&str], first: Option<u64>| {
        let policy = Policy {
            memory: first,
            ..policy()
        };
        let mut entries: Vec<Entry> = Vec::new();
        for (attempt, reason) in (1..).zip(reasons) {
            let memory = attempt_after_pause(&state_with(entries.clone()), &policy, "p:1").memory;
            let mut failed = retryable_failure("1", attempt, reason);
            if let Entry::Intent { memory: of_run, .. } = &mut failed[0] {
                *of_run = memory;
            }
            entries.extend(failed);
        }
        attempt_after_pause(&state_with(entries), &policy, "p:1").memory
    };
    let (oom, other) = ("out_of_memory", "agent_killed");
    assert_eq!(memory_after(&[], Some(GIB)), Some(GIB));
    assert_eq!(memory_after(&[oom], Some(GIB)), Some(2 * GIB));
    assert_eq!(memory_after(&[oom, other], Some(GIB)), Some(2 * GIB));
    assert_eq!(memory_after(&[oom, other, oom], Some(GIB)), Some(4 * GIB));
    assert_eq!(memory_after(&[oom; 5], Some(3 * GIB)), Some(8 * GIB));
    assert_eq!(memory_after(&[oom; 2], None), None);
}

#[test]
fn a_first_attempt_gets_the_memory_that_its_task_needs_up_to_the_maximum() {
    let needs = |memory: u64| TaskNeeds {
        memory: Some(memory),
        ..TaskNeeds::default()
    };
    let policy = Policy {
        memory: Some(1 << 30),
        needs: [
            ("p:1".to_owned(), needs(4 << 30)),
            ("p:2".to_owned(), needs(64 << 30)),
        ]
        .into(),
        ..policy()
    };
    let memory = |key: &str| attempt_after_pause(&state_with(Vec::new()), &policy, key).memory;
    // The second task needs more than the maximum.
    assert_eq!(
        ["p:1", "p:2", "p:3"].map(memory),
        [Some(4 << 30), Some(8 << 30), Some(1 << 30)]
    );
    let mut failed = retryable_failure("1", 1, "out_of_memory");
    if let Entry::Intent { memory, .. } = &mut failed[0] {
        *memory = Some(4 << 30);
    }
    let next = attempt_after_pause(&state_with(failed), &policy, "p:1");
    assert_eq!(next.memory, Some(8 << 30));
}

#[test]
fn retry_starts_the_count_of_attempts_again() {
    let mut entries: Vec<Entry> = (1..=3)
        .flat_map(|attempt| retryable_failure("1", attempt, "internal"))
        .collect();
    let Standing::Blocked(why) = standing_of_task_1(entries.clone()) else {
        panic!("the task must be blocked after three attempts");
    };
    assert!(
        why.contains("has failed 3 times, the last time: internal: it went wrong"),
        "{why}"
    );
    entries.push(Entry::Asked {
        what: crate::dispatch::journal::UserCommand::Retry,
        task: Some("p:1".to_owned()),
    });
    let Standing::Ready(next) = standing_of_task_1(entries) else {
        panic!("retry must allow another attempt");
    };
    assert_eq!(next.number, 4);
    assert!(
        next.note
            .unwrap()
            .contains("An earlier attempt at this task failed (internal)")
    );
}

#[test]
fn after_a_first_conflict_the_task_is_done_again_with_a_note_and_after_a_second_it_is_blocked() {
    let completed = |attempt: u32| {
        let run = format!("1#{attempt}");
        let event = json!({ "status": "completed", "result": { "work": { "branch": run } } });
        vec![
            intent_entry("1", attempt),
            Entry::Reported {
                run: run.clone(),
                event,
            },
            Entry::Conflict {
                run,
                note: "look at it".to_owned(),
            },
        ]
    };
    let Standing::Ready(next) = standing_of_task_1(completed(1)) else {
        panic!("the task must be done again");
    };
    assert_eq!((next.number, next.note.as_deref()), (2, Some("look at it")));
    let Standing::Blocked(why) = standing_of_task_1([completed(1), completed(2)].concat()) else {
        panic!("the task must be blocked");
    };
    assert!(why.contains("its work is on 1#1 and 1#2"), "{why}");
}
