//! Sets the status of a task: changes one letter of one line, in place, under the lock that SCUD takes. The file is
//! neither rewritten nor replaced. So the branches of two workers can be merged, and text that this module does not
//! understand stays unchanged. There is no fsync, because git sees the change without it.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{self, FileError};
use super::graph_file::{GRAPH_COMPONENTS, Malformed, ReadError, not_utf8_error, read_graph};
use super::lexer::SyntaxError;
use super::project::Project;
use super::row::Row;
use super::search::{Reference, Search};
use crate::task::{Status, Task};

/// Why a status could not be set.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    File(FileError),
    #[error(transparent)]
    Malformed(Malformed),
    #[error("task `{id}` of phase `{phase}` is no longer in {}", path.display())]
    TaskNotFound {
        id: String,
        phase: String,
        path: PathBuf,
    },
    #[error("the status of task `{id}` could not be written to {}", path.display())]
    NotWritable {
        id: String,
        path: PathBuf,
        source: std::io::Error,
    },
}

impl From<ReadError> for EditError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::File(error) => Self::File(error),
            ReadError::Malformed(error) => Self::Malformed(error),
        }
    }
}

impl Project {
    /// Sets the status of a task that [`Project::find`] returned; writes nothing if the task has that
    /// status already. If the future is dropped before it ends, nothing was written.
    pub async fn set_status(&self, task: &Task, status: Status) -> Result<(), EditError> {
        let path = self.path(GRAPH_COMPONENTS);
        let file = files::open_locked(&self.root, GRAPH_COMPONENTS, files::Access::Write).await;
        let file = file.map_err(EditError::File)?;

        // The graph is read again under the lock, because every line may have moved since the task was found.
        let text = read_graph(&file, &path)?;
        let Some(offset) = letter_offset(&text, &path, &task.phase, &task.id, status)? else {
            return Ok(());
        };
        file.write_all_at(&[status.letter()], offset as u64)
            .map_err(|source| EditError::NotWritable {
                id: task.id.clone(),
                path,
                source,
            })
    }
}

/// Sets the status in the bytes of a graph that is not in a file; returns whether the letter has changed.
pub fn set_status_in_bytes(
    graph: &mut [u8],
    phase: &str,
    id: &str,
    status: Status,
) -> Result<bool, EditError> {
    let path: PathBuf = GRAPH_COMPONENTS.iter().collect();
    let text = std::str::from_utf8(graph)
        .map_err(|error| EditError::Malformed(not_utf8_error(graph, error, &path)))?;
    let Some(offset) = letter_offset(text, &path, phase, id, status)? else {
        return Ok(false);
    };
    graph[offset] = status.letter();
    Ok(true)
}

/// The offset of a task's status letter, unless the task has that status already.
fn letter_offset(
    text: &str,
    path: &Path,
    phase: &str,
    id: &str,
    status: Status,
) -> Result<Option<usize>, EditError> {
    let malformed = |error: SyntaxError| EditError::Malformed(Malformed::new(path, error));
    let search = Search::run(text, Reference::Exact { phase, id }).map_err(malformed)?;
    let Some(candidate) = search.candidates.first() else {
        return Err(EditError::TaskNotFound {
            id: id.to_owned(),
            phase: phase.to_owned(),
            path: path.to_owned(),
        });
    };
    let candidate = search.only_candidate(candidate.phase).map_err(malformed)?;
    let row = Row::of(candidate.node).map_err(malformed)?;
    Ok((row.status != status).then_some(row.status_offset))
}

#[cfg(test)]
mod tests;
