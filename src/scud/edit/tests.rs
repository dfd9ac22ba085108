//! Tests that setting a status changes exactly one byte, for every layout of the file and with concurrent writers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::scud::samples::{GeneratedTask, LETTERS, Sample, block_on, graphs, status_of_letter};

fn set_status(sample: &Sample, task: &Task, status: Status) -> Result<(), EditError> {
    block_on(sample.project.set_status(task, status))
}

/// Mixed line ends, odd blanks, escaped pipes, fields and sections of a newer SCUD, no end of line.
const IRREGULAR_GRAPH: &str = concat!(
    "# SCUD Graph v1\r\n# Phase: a\r\n\r\n@meta {\n  updated never\n}\n@nodes\n",
    "\t8|a \\| P \\\\|P|1|M| x=1 | more |\r\n9 | t | P | 1 | M\n",
    "@later\n8 | ? | P | 1 | M\n\n\n@details\n8 | details |\n  8 | a | P | 1 | M\n\n\n  end",
);

#[test]
fn setting_a_status_changes_only_its_letter() {
    let sample = Sample::with_graph(IRREGULAR_GRAPH);
    let task = sample.find("8").unwrap();
    assert_eq!(task.title, "a | P \\");
    set_status(&sample, &task, Status::Failed).unwrap();
    let expected = IRREGULAR_GRAPH.replace("|P|1|M| x=1", "|!|1|M| x=1");
    assert_eq!(String::from_utf8(sample.graph()).unwrap(), expected);
}

#[test]
fn a_status_that_the_task_already_has_is_not_written() {
    let sample = Sample::with_graph(IRREGULAR_GRAPH);
    let task = sample.find("8").unwrap();
    let modified_at = || {
        let path = sample.root().join(".scud/tasks/tasks.scg");
        std::fs::metadata(path).unwrap().modified().unwrap()
    };
    let before = modified_at();
    set_status(&sample, &task, Status::Pending).unwrap();
    assert_eq!(modified_at(), before);
}

#[test]
fn a_task_that_moved_to_another_line_is_found_again() {
    let sample = Sample::with_graph(IRREGULAR_GRAPH);
    let task = sample.find("8").unwrap();
    let moved = IRREGULAR_GRAPH.replace("@nodes\n", "@nodes\n1 | first | D | 1 | M\n");
    sample.write(".scud/tasks/tasks.scg", &moved);
    set_status(&sample, &task, Status::Done).unwrap();
    let expected = moved.replace("|P|1|M| x=1", "|D|1|M| x=1");
    assert_eq!(String::from_utf8(sample.graph()).unwrap(), expected);
}

#[test]
fn the_error_for_a_removed_task_names_it() {
    let sample = Sample::with_graph(IRREGULAR_GRAPH);
    let task = sample.find("8").unwrap();
    sample.write(".scud/tasks/tasks.scg", "");
    let error = set_status(&sample, &task, Status::Done).unwrap_err();
    let expected = "task `8` of phase `a` is no longer in .scud/tasks/tasks.scg";
    assert_eq!(sample.without_root(&error), expected);
    assert!(matches!(error, EditError::TaskNotFound { .. }));
}

#[test]
fn the_error_for_bytes_that_are_not_utf_8_names_their_line() {
    let mut graph = b"# SCUD Graph v1\n# Phase: a\n\xff\n".to_vec();
    let error = set_status_in_bytes(&mut graph, "a", "8", Status::Done).unwrap_err();
    let expected = ".scud/tasks/tasks.scg, line 3: the text is not UTF-8";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_graph_that_the_agent_broke_stays_unchanged() {
    let sample = Sample::with_graph(IRREGULAR_GRAPH);
    let task = sample.find("8").unwrap();
    for broken in [
        "nonsense".to_owned(),
        IRREGULAR_GRAPH.replace("|P|1|M| x=1", "|Pending|1|M"),
        IRREGULAR_GRAPH.replace("9 | t", "8 | t"),
    ] {
        sample.write(".scud/tasks/tasks.scg", &broken);
        let error = set_status(&sample, &task, Status::Done).unwrap_err();
        assert!(matches!(error, EditError::Malformed(_)), "{error}");
        assert_eq!(sample.graph(), broken.as_bytes());
    }
}

#[test]
fn a_file_behind_a_symbolic_link_is_not_written() {
    let sample = Sample::with_graph(IRREGULAR_GRAPH);
    let task = sample.find("8").unwrap();
    let outside = Sample::with_graph(IRREGULAR_GRAPH);
    let path = sample.root().join(".scud/tasks/tasks.scg");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(outside.root().join(".scud/tasks/tasks.scg"), &path).unwrap();
    let error = set_status(&sample, &task, Status::Done).unwrap_err();
    assert!(matches!(
        error,
        EditError::File(FileError::NotRegular { .. })
    ));
    assert_eq!(outside.graph(), IRREGULAR_GRAPH.as_bytes());
}

#[test]
fn the_statuses_of_many_concurrent_workers_are_all_written() {
    const WORKERS: usize = 24;
    let nodes = (0..WORKERS)
        .map(|id| format!("{id} | t | P | 1 | M\n"))
        .collect::<Vec<_>>()
        .concat();
    let text = format!("# SCUD Graph v1\n# Phase: a\n@nodes\n{nodes}");
    let sample = Sample::with_graph(&text);
    let running = AtomicBool::new(true);
    thread::scope(|scope| {
        // A concurrent reader must always find a complete graph.
        let reader = scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                sample.find("0").unwrap();
                // Without a pause, the reader has the shared lock nearly always, and the writers give up.
                thread::park_timeout(Duration::from_millis(1));
            }
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|id| {
                let sample = &sample;
                scope.spawn(move || {
                    let task = sample.find(&id.to_string()).unwrap();
                    set_status(sample, &task, Status::InProgress).unwrap();
                    set_status(sample, &task, Status::Done).unwrap();
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        running.store(false, Ordering::Relaxed);
        reader.join().unwrap();
    });
    let expected = text.replace("| P |", "| D |");
    assert_eq!(String::from_utf8(sample.graph()).unwrap(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn setting_a_status_changes_exactly_the_status_byte_of_that_task(
        graph in graphs(),
        chosen in any::<prop::sample::Index>(),
        letter in prop::sample::select(LETTERS),
    ) {
        let sample = Sample::with_graph(&graph.text);
        let GeneratedTask { phase, id, status_letter: old_letter, .. } = chosen.get(&graph.tasks);
        let task = sample.find(&format!("{phase}:{id}")).unwrap();
        set_status(&sample, &task, status_of_letter(letter)).unwrap();

        let (before, after) = (graph.text.as_bytes(), sample.graph());
        prop_assert_eq!(before.len(), after.len());
        let changed: Vec<_> = (0..after.len()).filter(|at| before[*at] != after[*at]).collect();
        prop_assert_eq!(changed.len(), usize::from(*old_letter != letter));
        for at in changed {
            prop_assert_eq!((before[at], after[at]), (*old_letter, letter));
        }
        // Only this task has the new status.
        for other in &graph.tasks {
            let found = sample.find(&format!("{}:{}", other.phase, other.id)).unwrap();
            let is_changed = (&other.phase, &other.id) == (phase, id);
            let expected = if is_changed { letter } else { other.status_letter };
            prop_assert_eq!((found.status, &found.id), (status_of_letter(expected), &other.id), "{}", other.title);
        }
    }
}
