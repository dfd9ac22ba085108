//! Changes the status of a task: one letter of one line, in place, under the lock that SCUD takes.
//!
//! The file is neither rewritten nor replaced, so that two workers' branches merge and nothing
//! that we do not understand is lost. It does not wait for the disk: git reads through the same cache.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::graph::{Reference, Row, Survey};
use super::lexer::Flaw;
use super::{FileError, GRAPH, Malformed, Project, TextError, files, graph_text};
use crate::task::{Status, Task};

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    File(FileError),
    #[error(transparent)]
    Malformed(Malformed),
    #[error("the task `{id}` of the phase `{phase}` is no longer in {}", path.display())]
    Gone {
        id: String,
        phase: String,
        path: PathBuf,
    },
    #[error("cannot write the status of `{id}` into {}", path.display())]
    Unwritable {
        id: String,
        path: PathBuf,
        source: std::io::Error,
    },
}

impl From<TextError> for EditError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::File(error) => Self::File(error),
            TextError::Malformed(error) => Self::Malformed(error),
        }
    }
}

impl Project {
    /// Writes `status` as the status of a task that [`Project::find`] found; a task that has it
    /// already is left alone. Dropping the future before it ends has written nothing.
    pub async fn mark(&self, task: &Task, status: Status) -> Result<(), EditError> {
        let path = self.path(GRAPH);
        let file = files::open_locked(&self.root, GRAPH, files::Access::Write).await;
        let file = file.map_err(EditError::File)?;
        let malformed = |flaw: Flaw| EditError::Malformed(Malformed::new(&path, flaw));

        // Read again under the lock: since the task was found, every line may have moved.
        let text = graph_text(&file, &path)?;
        let (phase, id) = (task.phase.as_str(), task.id.as_str());
        let survey = Survey::of(&text, Reference::Exact { phase, id }).map_err(malformed)?;
        let Some(candidate) = survey.candidates.first() else {
            return Err(EditError::Gone {
                id: id.to_owned(),
                phase: phase.to_owned(),
                path,
            });
        };
        let candidate = survey.sole(candidate.phase).map_err(malformed)?;
        let row = Row::of(candidate.node).map_err(malformed)?;
        if row.status == status {
            return Ok(());
        }
        file.write_all_at(&[status.letter()], row.status_at as u64)
            .map_err(|source| EditError::Unwritable {
                id: id.to_owned(),
                path,
                source,
            })
    }
}

#[cfg(test)]
mod tests;
