//! Tests which task a reference finds, and the errors if it finds none.

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

fn two_phases() -> Sample {
    Sample::with_graph(graph(&[
        ("auth", &["1", "8", "8.2"]),
        ("api", &["1", "2", "30"]),
    ]))
}

fn phase(found: Result<Task, FindError>) -> String {
    found.unwrap().phase
}

#[test]
fn a_phase_in_the_reference_has_precedence_over_the_tag() {
    assert_eq!(phase(two_phases().find_in("api:1", Some("auth"))), "api");
}

#[test]
fn the_tag_has_precedence_over_the_active_tag() {
    let sample = two_phases();
    sample.write(".scud/active-tag", "auth");
    assert_eq!(phase(sample.find_in("1", Some("api"))), "api");
}

#[test]
fn a_unique_id_is_found_in_another_phase_than_the_active_one() {
    let sample = two_phases();
    sample.write(".scud/active-tag", "auth");
    assert_eq!(phase(sample.find("2")), "api");
}

#[test]
fn the_active_tag_chooses_between_phases_with_the_same_id() {
    let sample = two_phases();
    sample.write(".scud/active-tag", " api\r\n");
    assert_eq!(phase(sample.find("1")), "api");
}

#[test]
fn an_ambiguous_id_is_an_error_that_names_its_phases() {
    let sample = two_phases();
    let expected = "task `1` of .scud/tasks/tasks.scg is in several phases (`auth`, `api`): use `auth:1`, or --tag";
    assert_eq!(sample.find_error("1"), expected);
    for tag in ["", "\n", "gone", "\u{fffd}"] {
        sample.write(".scud/active-tag", tag);
        assert_eq!(sample.find_error("1"), expected);
    }
}

#[test]
fn the_error_for_an_unknown_id_suggests_similar_ids() {
    let sample = two_phases();
    let error = |reference: &str| sample.find_error(reference);
    let begin =
        |reference: &str| format!("there is no task `{reference}` in .scud/tasks/tasks.scg");
    assert_eq!(error("8.3"), begin("8.3") + "; did you mean `8.2`?");
    assert_eq!(
        error("31"),
        begin("31") + "; did you mean `auth:1`, `api:1`, `30`?"
    );
    assert_eq!(error("aut:8"), begin("aut:8") + "; did you mean `auth:8`?");
    // Ids with nothing in common are not suggested.
    assert_eq!(
        error("9"),
        begin("9") + ", which has the phases `auth`, `api`"
    );
    assert_eq!(
        error(""),
        begin("") + ", which has the phases `auth`, `api`"
    );
}

#[test]
fn an_id_of_another_phase_is_suggested_with_that_phase() {
    let sample = two_phases();
    let error = sample.find_in("30", Some("auth")).unwrap_err();
    let expected = "there is no task `30` in .scud/tasks/tasks.scg; did you mean `api:30`?";
    assert_eq!(sample.without_root(&error), expected);
}

#[test]
fn the_first_digits_of_a_uuid_suggest_it() {
    let id = "0123456789abcdef0123456789abcdef";
    let error = Sample::with_graph(graph(&[("a", &[id])])).find_error("01234567");
    assert!(
        error.ends_with(&format!("; did you mean `{id}`?")),
        "{error}"
    );
}

#[test]
fn the_error_for_an_unknown_tag_names_the_phases() {
    let sample = two_phases();
    let error = sample.find_in("8", Some("ap")).unwrap_err();
    let expected =
        "there is no phase `ap` in .scud/tasks/tasks.scg, which has the phases `auth`, `api`";
    assert_eq!(sample.without_root(&error), expected);
    assert!(matches!(error, FindError::PhaseNotFound { .. }));
}

#[test]
fn an_error_about_many_phases_names_twelve_and_counts_the_rest() {
    let tags: Vec<String> = (0..40).map(|tag| format!("p{tag}")).collect();
    let phases: Vec<(&str, &[&str])> = tags.iter().map(|tag| (tag.as_str(), &["1"][..])).collect();
    let error = Sample::with_graph(graph(&phases)).find_error("1");
    assert!(
        error.ends_with("`p10`, `p11` and 28 more): use `p0:1`, or --tag"),
        "{error}"
    );
}

#[test]
fn the_error_for_an_empty_graph_says_that_it_has_no_phases() {
    let expected = "there is no task `1` in .scud/tasks/tasks.scg, which has no phases";
    assert_eq!(Sample::with_graph("\n").find_error("1"), expected);
}

#[test]
fn done_cancelled_and_expanded_tasks_are_rejected_unless_they_are_allowed() {
    for (letter, advice) in [
        ('D', "is done; set DESCARTES_FORCE=true to run it anyway"),
        (
            'C',
            "is cancelled; set DESCARTES_FORCE=true to run it anyway",
        ),
        (
            'X',
            "has been split into subtasks; run those, or set DESCARTES_FORCE=true",
        ),
    ] {
        let text = format!("# SCUD Graph v1\n# Phase: a\n@nodes\n8 | t | {letter} | 1 | M\n");
        let sample = Sample::with_graph(text);
        let error = sample.query("8", None, FinishedTasks::Reject).unwrap_err();
        assert_eq!(error.to_string(), format!("task `8` of phase `a` {advice}"));
        assert!(matches!(error, FindError::NotActionable { .. }));
        sample.query("8", None, FinishedTasks::Allow).unwrap();
    }
}

#[test]
fn a_task_with_any_other_status_is_found() {
    for letter in ["P", "I", "R", "B", "F", "!"] {
        let text = format!("# SCUD Graph v1\n# Phase: a\n@nodes\n8 | t | {letter} | 1 | M\n");
        Sample::with_graph(text)
            .query("8", None, FinishedTasks::Reject)
            .unwrap();
    }
}

#[test]
fn the_error_for_a_missing_graph_names_its_path() {
    let sample = Sample::without_graph();
    assert_eq!(
        sample.find_error("8"),
        ".scud/tasks/tasks.scg does not exist"
    );
    let error = sample.find("8").unwrap_err();
    assert!(matches!(error, FindError::File(FileError::Missing { .. })));
}
