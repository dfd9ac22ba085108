//! Tests that whole tasks are read from whole graphs, and the errors for broken graphs.

use proptest::prelude::*;

use super::*;
use crate::scud::samples::{Sample, graphs, status_of_letter};
use crate::scud::{FindError, FinishedTasks};
use crate::task::{Dependency, Priority, Status};

const TWO_PHASES: &str = r"# SCUD Graph v1
# Phase: auth

@meta {
  name auth
  updated 2026-01-01T00:00:00Z
}

@nodes
# id | title | status | complexity | priority
8 | Log \| in \\ with\nstyle | P | 5 | H
8.1 | Sessions | D | x | ?
9 | Tokens | I | 3 | C | role=builder

@edges
# dependent -> dependency
8 -> 8.1
8 -> api:1
8 -> 77
8 ~~ 9

@parents
8: 8.1

@agents
8 | reviewer

@details
8 | description |
  What to do.

  And a second paragraph.
  
8 | details |
  @property
  9 | x | D | 1 | M
8 | test_strategy |

---

# SCUD Graph v1
# Phase: api

@nodes
1 | Routes | R | 1 | L
";

#[test]
fn find_returns_everything_the_graph_says_about_a_task() {
    let task = Sample::with_graph(TWO_PHASES).find("8").unwrap();
    let dependency = |id: &str, title: Option<&str>, status| Dependency {
        id: id.to_owned(),
        title: title.map(str::to_owned),
        status,
    };
    let expected = Task {
        id: "8".to_owned(),
        phase: "auth".to_owned(),
        title: "Log | in \\ with\nstyle".to_owned(),
        status: Status::Pending,
        complexity: 5,
        priority: Priority::High,
        description: Some("What to do.\n\nAnd a second paragraph.".to_owned()),
        details: Some("@property\n9 | x | D | 1 | M".to_owned()),
        test_strategy: None,
        dependencies: vec![
            dependency("8.1", Some("Sessions"), Some(Status::Done)),
            dependency("api:1", Some("Routes"), Some(Status::Review)),
            dependency("77", None, None),
        ],
        agent: Some("reviewer".to_owned()),
    };
    assert_eq!(task, expected);
    let unmet: Vec<_> = task.unmet_dependencies().map(|one| &one.id).collect();
    assert_eq!(unmet, ["api:1", "77"]);
}

#[test]
fn invalid_complexities_and_priorities_have_the_same_fallbacks_as_in_scud() {
    let task = Sample::with_graph(TWO_PHASES).find("8.1").unwrap();
    assert_eq!((task.complexity, task.priority), (0, Priority::Medium));
}

#[test]
fn a_graph_with_crlf_line_ends_is_read_like_one_with_lf() {
    let unix = Sample::with_graph(TWO_PHASES);
    let dos = Sample::with_graph(TWO_PHASES.replace('\n', "\r\n"));
    for id in ["8", "9", "api:1"] {
        assert_eq!(unix.find(id).unwrap(), dos.find(id).unwrap());
    }
}

#[test]
fn the_name_in_meta_replaces_the_tag_of_the_phase() {
    let sample =
        Sample::with_graph("# SCUD Graph v1\n# Phase: a\n@meta {\n name b c\n}\n@nodes\n1|t|P|1|M");
    assert_eq!(sample.find("b c:1").unwrap().phase, "b c");
}

#[test]
fn the_edges_of_a_pipeline_are_not_dependencies() {
    let graph = "# SCUD Graph v1\n# Phase: a\n@meta\nmode pipeline\n@nodes\n1|t|P|1|M\n2|t|P|1|M\n@edges\n1 -> 2 | ok\n";
    assert_eq!(
        Sample::with_graph(graph).find("1").unwrap().dependencies,
        []
    );
}

#[test]
fn a_stray_line_inside_a_text_is_skipped_and_the_text_continues() {
    let graph = "# SCUD Graph v1\n# Phase: a\n@nodes\n1|t|P|1|M\n@details\n1|details|\n  one\nstray\n  two\n";
    let task = Sample::with_graph(graph).find("1").unwrap();
    assert_eq!(task.details.as_deref(), Some("one\ntwo"));
}

#[test]
fn a_migrated_id_is_found_with_and_without_its_phase() {
    let graph = "# SCUD Graph v1\n# Phase: a\n@nodes\na:1|one|P|1|M\na:2|two|D|1|M\n@edges\na:1 -> a:2\na:1 -> 2\n@agents\na:1 | x\n";
    for reference in ["1", "a:1"] {
        let task = Sample::with_graph(graph).find(reference).unwrap();
        assert_eq!((task.id.as_str(), task.agent.as_deref()), ("1", Some("x")));
        assert!(
            task.dependencies
                .iter()
                .all(|one| one.status == Some(Status::Done))
        );
    }
}

#[test]
fn a_dependency_is_searched_in_its_own_phase_first() {
    let home = "# SCUD Graph v1\n# Phase: a\n@nodes\n1|t|P|1|M\n2|home|P|1|M\n@edges\n1 -> 2\n1 -> 3\n1 -> 4\n";
    let away = |tag: &str| {
        format!("\n---\n# SCUD Graph v1\n# Phase: {tag}\n@nodes\n2|away|D|1|M\n3|away|D|1|M\n")
    };
    let graph = format!("{home}{}4|only here|D|1|M\n{}", away("b"), away("c"));
    let task = Sample::with_graph(graph).find("1").unwrap();
    let titles: Vec<_> = task
        .dependencies
        .iter()
        .map(|one| one.title.as_deref())
        .collect();
    // `3` is in two other phases, so it is ambiguous.
    assert_eq!(titles, [Some("home"), None, Some("only here")]);
}

fn error_for_task_8(nodes: &str) -> String {
    let graph = format!("# SCUD Graph v1\n# Phase: a\n@nodes\n{nodes}\n");
    Sample::with_graph(graph).find_error("8")
}

#[test]
fn a_broken_node_is_an_error_with_its_line() {
    for (nodes, message) in [
        (
            "8 | t | P | 1",
            "line 4: task `8` has 4 of 5 fields; a line is: id | title | status | complexity | priority",
        ),
        (
            "1|x|P|1|M\n8|t|Z|1|M",
            "line 5: task `8` has the unknown status `Z`; the statuses are P, I, D, R, B, F, C, X and !",
        ),
        (
            "8|t|Deferred|1|M",
            "line 4: task `8` has the unknown status `Deferred`; the statuses are P, I, D, R, B, F, C, X and !",
        ),
        (
            "8|t||1|M",
            "line 4: task `8` has the unknown status ``; the statuses are P, I, D, R, B, F, C, X and !",
        ),
        (
            "8|t|ß|1|M",
            "line 4: task `8` has the unknown status `ß`; the statuses are P, I, D, R, B, F, C, X and !",
        ),
        (
            "8|t|P|1|M\n8|u|P|1|M",
            "line 5: task `8` is defined twice (lines 4 and 5)",
        ),
        (
            "8|t|P|1|M\na:8|u|P|1|M",
            "line 5: task `a:8` is defined twice (lines 4 and 5)",
        ),
    ] {
        assert_eq!(
            error_for_task_8(nodes),
            format!(".scud/tasks/tasks.scg, {message}")
        );
    }
}

#[test]
fn broken_nodes_next_to_the_task_do_not_matter() {
    let graph = "# SCUD Graph v1\n# Phase: a\n@nodes\n1|t\n2|t|Z|1|M\n3|t|P|1|M\n3|t|P|1|M\n8|t|P|1|M\n@edges\n8->1\n8->2\n";
    let task = Sample::with_graph(graph).find("8").unwrap();
    assert_eq!(task.unmet_dependencies().count(), 2);
}

#[test]
fn an_indented_separator_between_nodes_is_read_as_a_broken_node() {
    let graph = "# SCUD Graph v1\n# Phase: a\n@nodes\n ---\n1|t|P|1|M\n2|u|D|1|M\n@edges\n1->2\n";
    let task = Sample::with_graph(graph).find("1").unwrap();
    assert_eq!(task.dependencies[0].status, Some(Status::Done));
}

#[test]
fn a_phase_that_is_defined_twice_is_an_error() {
    let phase = "# SCUD Graph v1\n# Phase: a\n@nodes\n8|t|P|1|M\n";
    let sample = Sample::with_graph(format!("{phase}\n---\n\n{phase}"));
    let expected = ".scud/tasks/tasks.scg, line 9: phase `a` is defined twice (lines 2 and 9)";
    assert_eq!(sample.find_error("8"), expected);
}

#[test]
fn a_broken_header_of_any_phase_is_an_error_for_every_task_as_in_scud() {
    let sample = Sample::with_graph(format!("{TWO_PHASES}\n---\n\n# Phase: x\n"));
    let error = sample.find_error("8");
    assert!(
        error.ends_with("expected `# SCUD Graph v1`, found `# Phase: x`"),
        "{error}"
    );
}

#[test]
fn text_that_is_not_utf_8_is_an_error_with_its_line() {
    let sample = Sample::with_graph(b"# SCUD Graph v1\n# Phase: a\n\xff\n");
    assert_eq!(
        sample.find_error("8"),
        ".scud/tasks/tasks.scg, line 3: the text is not UTF-8"
    );
}

#[test]
fn huge_graphs_are_read_in_linear_time() {
    let node = |id: usize| format!("{id} | t | P | 1 | M\n");
    let edges = (0..50_000)
        .map(|id| format!("8 -> other:{id}\n8 -> {id}\n"))
        .collect::<Vec<_>>()
        .concat();
    let nodes = (0..50_000).map(node).collect::<Vec<_>>().concat();
    let graph = format!("# SCUD Graph v1\n# Phase: a\n@nodes\n{nodes}@edges\n{edges}\n");
    assert_eq!(
        Sample::with_graph(graph)
            .find("8")
            .unwrap()
            .dependencies
            .len(),
        1_000
    );

    let line = format!("8 | {} | P | 1 | M", r"\|\\".repeat(1 << 20));
    let graph = format!(
        "# SCUD Graph v1\n# Phase: a\n@nodes\n{line}\n{}",
        "---\n".repeat(1 << 20)
    );
    let title = Sample::with_graph(graph).find("8").unwrap().title;
    // The maximum length and an ellipsis.
    assert_eq!(title.chars().count(), 1_001);
}

fn find_does_not_panic(graph: &[u8]) {
    let sample = Sample::with_graph(graph);
    for reference in ["1", "phase0:1", "", "a"] {
        for tag in [None, Some("phase1")] {
            let _ = sample.query(reference, tag, FinishedTasks::Reject);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_bytes_cause_no_panic(graph in proptest::collection::vec(any::<u8>(), 0..600)) {
        find_does_not_panic(&graph);
    }

    #[test]
    fn a_damaged_graph_causes_no_panic(
        graph in graphs(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = graph.text.into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            if byte % 3 == 0 { bytes.truncate(at.max(1)); } else { bytes[at] = byte; }
        }
        find_does_not_panic(&bytes);
    }

    #[test]
    fn every_generated_task_is_found_as_it_was_written(graph in graphs()) {
        let sample = Sample::with_graph(&graph.text);
        for generated in &graph.tasks {
            let (phase, id) = (&generated.phase, &generated.id);
            let task = sample.find(&format!("{phase}:{id}")).unwrap();
            prop_assert_eq!((&task.phase, &task.id), (phase, id));
            prop_assert_eq!(task.title, title_for_display(generated.title.trim()));
            prop_assert_eq!(task.status, status_of_letter(generated.status_letter));
        }
        let not_found = matches!(sample.find("phase0:decoy"), Err(FindError::NotFound { .. }));
        prop_assert!(not_found);
    }
}
