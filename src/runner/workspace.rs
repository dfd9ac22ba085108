//! Where the agent works, and the run's own files beside it.
//!
//! A given directory is used as it is: never cleaned, never committed to.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::task::{Failure, Reason};

/// The project's directory, and a directory of the run's own that is gone when this is dropped.
#[derive(Debug)]
pub struct Workspace {
    /// Absolute.
    pub dir: PathBuf,
    own: TempDir,
}

/// The prompt as the agent gets it.
#[derive(Debug)]
pub struct PromptFile {
    pub path: PathBuf,
    /// At its beginning.
    pub reader: File,
}

impl Workspace {
    /// Takes the given directory.
    pub fn prepare(dir: &Path) -> Result<Self, Failure> {
        let failed = |what: &str, error: io::Error| {
            let failure =
                Failure::new(Reason::WorkspaceFailed, format!("{what} {}", dir.display()));
            Failure {
                causes: vec![error.to_string()],
                ..failure
            }
        };
        let absolute =
            fs::canonicalize(dir).map_err(|error| failed("there is no workspace at", error))?;
        fs::read_dir(&absolute).map_err(|error| failed("the workspace cannot be read:", error))?;
        let own = tempfile::Builder::new()
            .prefix("descartes-")
            .tempdir()
            .map_err(|error| {
                let failure = Failure::new(
                    Reason::WorkspaceFailed,
                    "no temporary directory for the prompt could be made",
                );
                Failure {
                    causes: vec![error.to_string()],
                    ..failure
                }
            })?;
        Ok(Self { dir: absolute, own })
    }

    /// Writes a prompt outside the project, so that it is no change to it.
    pub fn write_prompt(&self, prompt: &str) -> Result<PromptFile, Failure> {
        let path = self.own.path().join("prompt.md");
        fs::write(&path, prompt)
            .and_then(|()| File::open(&path))
            .map(|reader| PromptFile {
                path: path.clone(),
                reader,
            })
            .map_err(|error| {
                let failure = Failure::new(
                    Reason::WorkspaceFailed,
                    format!("the prompt cannot be written to {}", path.display()),
                );
                Failure {
                    causes: vec![error.to_string()],
                    ..failure
                }
            })
    }
}
