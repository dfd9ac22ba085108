//! Tests of the answers to the claims of workers.

use serde_json::json;

use super::*;
use crate::dispatch::journal::{Record, UserCommand};

const RUN: &str = "d-1-1";

/// The state with one run, and with further entries about it.
fn state_with(entries: Vec<Entry>) -> State {
    let intent = Entry::Intent {
        run: RUN.to_owned(),
        task: Some("p:1".to_owned()),
        attempt: 1,
        base: "base".to_owned(),
        note: None,
        memory: None,
    };
    let entries = [intent].into_iter().chain(entries);
    let records = entries.map(|entry| Record { at: 1, entry });
    State::of(&records.collect::<Vec<_>>())
}

fn granted_entry(claimed_at: Option<&str>) -> Entry {
    Entry::Granted {
        run: RUN.to_owned(),
        lease_ms: 60_000,
        claimed_at: claimed_at.map(str::to_owned),
    }
}

/// The reply to a claim that a worker has made at this time.
fn claim(state: &State, timestamp: &str) -> Reply {
    // Every worker of a run gives its claim the same id.
    let event = json!({ "run_id": RUN, "event_id": "d-1-1.0", "timestamp": timestamp });
    reply(state, Route::Started, &event, 60_000)
}

/// The times of the claims of two workers.
const FIRST: &str = "2026-01-01T00:00:00.000Z";
const SECOND: &str = "2026-01-01T00:00:00.001Z";

#[test]
fn a_claim_is_granted_and_its_repetitions_too() {
    let first = claim(&state_with(Vec::new()), FIRST);
    assert_eq!(first.answer.status, StatusCode::OK);
    assert_eq!(first.entry, Some(granted_entry(Some(FIRST))));
    let state = state_with(first.entry.into_iter().collect());
    let repeated = claim(&state, FIRST);
    assert_eq!(repeated.answer.status, StatusCode::OK);
    assert_eq!(repeated.entry, None);
}

#[test]
fn the_claim_of_a_second_worker_of_a_granted_run_is_refused() {
    let state = state_with(vec![granted_entry(Some(FIRST))]);
    assert_eq!(claim(&state, SECOND).answer.status, StatusCode::GONE);
}

#[test]
fn the_refused_claim_of_a_second_worker_is_no_sign_of_life_of_the_first_one() {
    let mut state = state_with(vec![granted_entry(Some(FIRST))]);
    for (timestamp, last_event_at) in [(FIRST, Some(5)), (SECOND, Some(5))] {
        let answer = claim(&state, timestamp).answer;
        let event = json!({ "run_id": RUN });
        let now = if timestamp == FIRST { 5 } else { 6 };
        record_event(&mut state, Route::Started, &event, &answer, now);
        assert_eq!(state.run(RUN).unwrap().last_event_at, last_event_at);
    }
}

#[test]
fn a_claim_is_granted_if_the_journal_of_an_older_version_does_not_say_which_worker_has_the_run() {
    let state = state_with(vec![granted_entry(None)]);
    assert_eq!(claim(&state, SECOND).answer.status, StatusCode::OK);
}

#[test]
fn the_claim_of_a_cancelled_run_is_refused() {
    let cancel = Entry::Asked {
        what: UserCommand::Cancel,
        task: Some("p:1".to_owned()),
    };
    let reply = claim(&state_with(vec![cancel]), FIRST);
    assert_eq!(reply.answer.status, StatusCode::GONE);
    assert_eq!(reply.entry, None);
}
