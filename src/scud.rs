//! The project's SCUD task graph: find a task, change one letter, merge changed letters, read the
//! project's own settings.
//!
//! Everything is read below one root and nothing is followed out of it, because an agent that
//! nobody trusts may have replaced any of it. Deliberately not here: rewriting the graph (the
//! `updated` lines, order and blank lines are the user's), running checks or agents, logging.

mod dependencies;
mod edit;
mod files;
mod find;
mod graph;
mod lexer;
mod merge;
mod settings;

#[cfg(all(test, feature = "peers"))]
mod peers;
#[cfg(test)]
mod samples;

use std::fs::File;
use std::path::{Path, PathBuf};

pub use files::FileError;
pub use find::{Actionable, FindError, Wanted};
pub use merge::settle;
pub use settings::AgentDefinition;

use lexer::Flaw;

/// Where SCUD keeps the graph, component by component: none of them may be a symbolic link.
const GRAPH: &[&str] = &[".scud", "tasks", "tasks.scg"];
/// Far above any real graph (20,000 tasks with details are some 10 MB), far below the machine's memory.
const GRAPH_LIMIT: u64 = 64 << 20;

/// A project that keeps its tasks with SCUD.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The project whose `.scud` directory lies directly below `root`; nothing is read yet.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, components: &[&str]) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(components);
        path
    }
}

/// Bytes that SCUD could not make sense of either, or that would be dangerous to guess at.
#[derive(Debug, thiserror::Error)]
#[error("{}, line {line}: {what}", path.display())]
pub struct Malformed {
    pub path: PathBuf,
    pub line: usize,
    pub what: String,
}

impl Malformed {
    fn new(path: &Path, flaw: Flaw) -> Self {
        Self {
            path: path.to_owned(),
            line: flaw.line,
            what: flaw.what,
        }
    }
}

/// Why the text of the graph cannot be had.
enum TextError {
    File(FileError),
    Malformed(Malformed),
}

/// The whole graph; SCUD reads nothing but UTF-8 either.
fn graph_text(file: &File, path: &Path) -> Result<String, TextError> {
    let bytes = files::read(file, path, GRAPH_LIMIT).map_err(TextError::File)?;
    String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = sound.split(|byte| *byte == b'\n').count();
        let what = "not UTF-8".to_owned();
        TextError::Malformed(Malformed::new(path, Flaw { line, what }))
    })
}
