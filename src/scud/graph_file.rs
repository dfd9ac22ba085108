//! The file that contains the graph: its path, its size limit, and the error for malformed text.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::Utf8Error;

use super::files::{self, FileError};
use super::lexer::SyntaxError;

/// The path of the graph in a project.
pub const GRAPH_PATH: &str = ".scud/tasks/tasks.scg";
/// The components of [`GRAPH_PATH`]: none of them may be a symbolic link.
pub(super) const GRAPH_COMPONENTS: &[&str] = &[".scud", "tasks", "tasks.scg"];
/// The largest graph that is read, in bytes: far above any real graph (20,000 tasks with details are
/// about 10 MB), far below the memory of the machine.
const MAX_GRAPH_SIZE: u64 = 64 << 20;

/// The error for a graph that SCUD could not read either, or whose meaning is ambiguous.
#[derive(Debug, thiserror::Error)]
#[error("{}, line {line}: {message}", path.display())]
pub struct Malformed {
    pub path: PathBuf,
    pub line: usize,
    pub message: String,
}

impl Malformed {
    pub(super) fn new(path: &Path, error: SyntaxError) -> Self {
        Self {
            path: path.to_owned(),
            line: error.line,
            message: error.message,
        }
    }
}

/// Why the text of the graph could not be read.
pub(super) enum ReadError {
    File(FileError),
    Malformed(Malformed),
}

/// Reads the whole graph. It must be UTF-8, as SCUD requires too.
pub(super) fn read_graph(file: &File, path: &Path) -> Result<String, ReadError> {
    let bytes = files::read(file, path, MAX_GRAPH_SIZE).map_err(ReadError::File)?;
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let line = bytes[..at].split(|byte| *byte == b'\n').count();
        let message = "the text contains a NUL character; remove it".to_owned();
        return Err(ReadError::Malformed(Malformed::new(
            path,
            SyntaxError { line, message },
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let malformed = not_utf8_error(error.as_bytes(), error.utf8_error(), path);
        ReadError::Malformed(malformed)
    })
}

/// The error for a graph that is not UTF-8, with the line of the first invalid byte.
pub(super) fn not_utf8_error(graph: &[u8], error: Utf8Error, path: &Path) -> Malformed {
    let valid = &graph[..error.valid_up_to()];
    let line = valid.split(|byte| *byte == b'\n').count();
    let message = "the text is not UTF-8".to_owned();
    Malformed::new(path, SyntaxError { line, message })
}
