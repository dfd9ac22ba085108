//! Which task a reference finds, and what a refusal says.

use super::*;
use crate::scud::samples::Sample;

fn graph(phases: &[(&str, &[&str])]) -> String {
    let phase = |(tag, ids): &(&str, &[&str])| {
        let nodes = ids
            .iter()
            .map(|id| format!("{id} | t | P | 1 | M\n"))
            .collect::<Vec<_>>()
            .concat();
        format!("# SCUD Graph v1\n# Phase: {tag}\n\n@nodes\n{nodes}")
    };
    phases
        .iter()
        .map(phase)
        .collect::<Vec<_>>()
        .join("\n---\n\n")
}

fn two() -> Sample {
    Sample::with(graph(&[
        ("auth", &["1", "8", "8.2"]),
        ("api", &["1", "2", "30"]),
    ]))
}

fn phase(found: Result<Task, FindError>) -> String {
    found.unwrap().phase
}

#[test]
fn phase_and_id_win_over_the_tag() {
    assert_eq!(phase(two().find_in("api:1", Some("auth"))), "api");
}

#[test]
fn the_tag_decides_between_phases_and_over_the_active_tag() {
    let sample = two();
    sample.write(".scud/active-tag", "auth");
    assert_eq!(phase(sample.find_in("1", Some("api"))), "api");
}

#[test]
fn an_id_that_is_unique_needs_no_phase_whatever_tag_is_active() {
    let sample = two();
    sample.write(".scud/active-tag", "auth");
    assert_eq!(phase(sample.find("2")), "api");
}

#[test]
fn the_active_tag_decides_where_an_id_repeats() {
    let sample = two();
    sample.write(".scud/active-tag", " api\r\n");
    assert_eq!(phase(sample.find("1")), "api");
}

#[test]
fn an_id_that_repeats_is_refused_with_its_phases() {
    let sample = two();
    let expected = "the task `1` of .scud/tasks/tasks.scg is in several phases: `auth`, `api`";
    assert_eq!(sample.refusal("1"), expected);
    for tag in ["", "\n", "gone", "\u{fffd}"] {
        sample.write(".scud/active-tag", tag);
        assert_eq!(sample.refusal("1"), expected);
    }
}

#[test]
fn an_absent_id_names_the_closest() {
    let sample = two();
    let closest = |reference: &str| sample.refusal(reference);
    let begin = |reference: &str| format!("no task `{reference}` in .scud/tasks/tasks.scg, ");
    assert_eq!(closest("8.3"), begin("8.3") + "the closest: `8.2`");
    assert_eq!(
        closest("31"),
        begin("31") + "the closest: `auth:1`, `api:1`, `30`"
    );
    assert_eq!(closest("aut:8"), begin("aut:8") + "the closest: `auth:8`");
    // Nothing in common is no slip.
    assert_eq!(closest("9"), begin("9") + "which holds `auth`, `api`");
    assert_eq!(closest(""), begin("") + "which holds `auth`, `api`");
}

#[test]
fn an_id_of_another_phase_is_named_with_that_phase() {
    let sample = two();
    let error = sample.find_in("30", Some("auth")).unwrap_err();
    let expected = "no task `30` in .scud/tasks/tasks.scg, the closest: `api:30`";
    assert_eq!(sample.plain(&error), expected);
}

#[test]
fn the_shown_digits_of_a_uuid_lead_to_it() {
    let id = "0123456789abcdef0123456789abcdef";
    let refusal = Sample::with(graph(&[("a", &[id])])).refusal("01234567");
    assert!(
        refusal.ends_with(&format!("the closest: `{id}`")),
        "{refusal}"
    );
}

#[test]
fn an_unknown_tag_names_the_phases() {
    let sample = two();
    let error = sample.find_in("8", Some("ap")).unwrap_err();
    let expected = "no phase `ap` in .scud/tasks/tasks.scg, which holds `auth`, `api`";
    assert_eq!(sample.plain(&error), expected);
    assert!(matches!(error, FindError::PhaseNotFound { .. }));
}

#[test]
fn many_phases_are_counted_rather_than_listed() {
    let tags: Vec<String> = (0..40).map(|tag| format!("p{tag}")).collect();
    let phases: Vec<(&str, &[&str])> = tags.iter().map(|tag| (tag.as_str(), &["1"][..])).collect();
    let refusal = Sample::with(graph(&phases)).refusal("1");
    assert!(refusal.ends_with("`p10`, `p11` and 28 more"), "{refusal}");
}

#[test]
fn an_empty_graph_holds_no_phases() {
    let expected = "no task `1` in .scud/tasks/tasks.scg, which holds no phases";
    assert_eq!(Sample::with("\n").refusal("1"), expected);
}

#[test]
fn done_cancelled_and_expanded_tasks_are_found_only_by_force() {
    for status in ["done", "cancelled", "expanded"] {
        let letter = if status == "expanded" {
            'X'
        } else {
            status.to_uppercase().chars().next().unwrap()
        };
        let text = format!("# SCUD Graph v1\n# Phase: a\n@nodes\n8 | t | {letter} | 1 | M\n");
        let sample = Sample::with(text);
        let error = sample.wanted("8", None, Actionable::Required).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the task `8` of the phase `a` is {status}")
        );
        assert!(matches!(error, FindError::NotActionable { .. }));
        sample.wanted("8", None, Actionable::Forced).unwrap();
    }
}

#[test]
fn every_other_status_is_actionable() {
    for letter in ["P", "I", "R", "B", "F", "!"] {
        let text = format!("# SCUD Graph v1\n# Phase: a\n@nodes\n8 | t | {letter} | 1 | M\n");
        Sample::with(text)
            .wanted("8", None, Actionable::Required)
            .unwrap();
    }
}

#[test]
fn a_missing_graph_is_named() {
    let sample = Sample::without_graph();
    assert_eq!(sample.refusal("8"), ".scud/tasks/tasks.scg does not exist");
    let error = sample.find("8").unwrap_err();
    assert!(matches!(error, FindError::File(FileError::Missing { .. })));
}
