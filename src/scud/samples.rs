//! Helpers for the tests of this module: projects on disk, and generated graphs. They contain no assertions.

use std::fmt::Write as _;
use std::future::Future;
use std::path::Path;

use proptest::prelude::*;

use super::{FindError, FinishedTasks, Project, TaskQuery};
use crate::task::{Status, Task};

/// A project in a temporary directory.
pub struct Sample {
    directory: tempfile::TempDir,
    pub project: Project,
}

impl Sample {
    pub fn with_graph(graph: impl AsRef<[u8]>) -> Self {
        let sample = Self::without_graph();
        sample.write(".scud/tasks/tasks.scg", graph);
        sample
    }

    pub fn without_graph() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let project = Project::at(directory.path().to_owned());
        let sample = Self { directory, project };
        std::fs::create_dir_all(sample.root().join(".scud/tasks")).unwrap();
        sample
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn graph(&self) -> Vec<u8> {
        std::fs::read(self.root().join(".scud/tasks/tasks.scg")).unwrap()
    }

    pub fn find(&self, reference: &str) -> Result<Task, FindError> {
        self.find_in(reference, None)
    }

    pub fn find_in(&self, reference: &str, tag: Option<&str>) -> Result<Task, FindError> {
        self.query(reference, tag, FinishedTasks::Allow)
    }

    pub fn query(
        &self,
        reference: &str,
        tag: Option<&str>,
        finished_tasks: FinishedTasks,
    ) -> Result<Task, FindError> {
        block_on(self.project.find(&TaskQuery {
            reference,
            tag,
            finished_tasks,
        }))
    }

    /// The error message for a reference, without the root directory.
    pub fn find_error(&self, reference: &str) -> String {
        self.without_root(&self.find(reference).unwrap_err())
    }

    pub fn without_root(&self, error: &impl ToString) -> String {
        let root = format!("{}/", self.root().display());
        error.to_string().replace(&root, "")
    }
}

/// Runs one future to its end, as `main` does.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// Escapes a title as SCUD does.
pub fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('\n', "\\n")
}

/// The letters of all statuses.
pub const LETTERS: &[u8] = b"PIDRBFCX!";

/// A graph with random layout that SCUD accepts, and its tasks.
#[derive(Debug, Clone)]
pub struct GeneratedGraph {
    pub text: String,
    pub tasks: Vec<GeneratedTask>,
}

/// A task of a generated graph.
#[derive(Debug, Clone)]
pub struct GeneratedTask {
    pub phase: String,
    /// The id without the phase.
    pub id: String,
    /// The title as it is written in the graph, with its escapes.
    pub title: String,
    pub status_letter: u8,
}

/// One generated task: the layout of its line, its title, its status letter, its details.
type GeneratedRow = (u8, String, u8, Vec<String>);

fn generated_row() -> impl Strategy<Value = GeneratedRow> {
    let line = prop_oneof![
        "[ -~äß|\\\\]{0,30}",
        Just("---".to_owned()),
        Just("@nodes".to_owned()),
        Just("# Phase: other".to_owned()),
        Just("1 | decoy | D | 1 | M".to_owned()),
        Just(String::new()),
    ];
    (
        any::<u8>(),
        "[a-zA-Zäöü€🦀|\\\\ \n]{0,20}",
        prop::sample::select(LETTERS),
        proptest::collection::vec(line, 0..4),
    )
}

pub fn graphs() -> impl Strategy<Value = GeneratedGraph> {
    let phases = proptest::collection::vec(proptest::collection::vec(generated_row(), 1..6), 1..4);
    (phases, any::<bool>(), any::<bool>()).prop_map(|(phases, crlf, has_last_newline)| {
        let mut text = String::new();
        let mut tasks = Vec::new();
        for (index, rows) in phases.iter().enumerate() {
            if index > 0 {
                text.push_str("\n---\n\n");
            }
            append_phase(&mut text, &format!("phase{index}"), rows, &mut tasks);
        }
        if !has_last_newline {
            text.truncate(text.trim_end().len());
        }
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        GeneratedGraph { text, tasks }
    })
}

/// Appends a phase to `text`, and its tasks to `tasks`.
fn append_phase(
    text: &mut String,
    tag: &str,
    rows: &[GeneratedRow],
    tasks: &mut Vec<GeneratedTask>,
) {
    let _ = write!(
        text,
        "# SCUD Graph v1\n# Phase: {tag}\n\n@meta {{\n  name {tag}\n}}\n@nodes\n# id\n"
    );
    for (id, (layout, title, letter, _)) in rows.iter().enumerate() {
        let id = if layout & 1 == 0 {
            format!("{id}")
        } else {
            format!("{tag}:{id}")
        };
        let title = escape(title);
        let (indent, gap) = (
            [" ", "", "\t"][usize::from(layout % 3)],
            ["", " ", "  "][usize::from(layout / 3 % 3)],
        );
        let more = ["", " | role=x", " | a | b |"][usize::from(layout / 9 % 3)];
        let letter_char = char::from(*letter);
        let _ = writeln!(
            text,
            "{indent}{id}{gap}|{gap}{title} |{gap}{letter_char}{gap}|3|H{more}"
        );
        let id_in_phase = id.rsplit(':').next().unwrap().to_owned();
        tasks.push(GeneratedTask {
            phase: tag.to_owned(),
            id: id_in_phase,
            title,
            status_letter: *letter,
        });
    }
    text.push_str("\n@future\n0 | not | D | a | task\n@edges\n1 -> 0\n@details\n");
    for (id, (.., lines)) in rows.iter().enumerate() {
        let _ = writeln!(text, "{id} | details |");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
}

pub fn status_of_letter(letter: u8) -> Status {
    Status::from_letter(letter).unwrap()
}
