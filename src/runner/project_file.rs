//! Reads the file with the settings that the project brings along, and finds the sample that it names.

use std::fs;
use std::path::{Path, PathBuf};

use super::failures::unusable_settings;
use super::project_settings::{FileSource, ProjectSettings};
use super::settings::Settings;
use super::workspace::Source;
use crate::descartes_toml::{FILE_NAME, MAX_FILE_SIZE};
use crate::scud::Project;
use crate::task::{Failure, Reason};

/// The settings in the file of the project at `dir`; `None` if there is no file.
pub fn read(settings: &Settings, dir: &Path) -> Result<Option<ProjectSettings>, Failure> {
    let text = Project::at(dir.to_owned())
        .read_optional_text(&[FILE_NAME], MAX_FILE_SIZE)
        .map_err(|error| unusable_settings(&error))?;
    let Some(text) = text else { return Ok(None) };
    let read = settings.project_settings.read(&text);
    read.map(Some).map_err(|mistakes| Failure {
        retryable: false,
        ..Failure::new(
            Reason::WorkspaceFailed,
            format!(
                "{} cannot be used: {mistakes}",
                dir.join(FILE_NAME).display()
            ),
        )
    })
}

/// Where the project is before the run, if it is on this machine.
#[derive(Debug)]
pub enum Place {
    /// The run works in this directory.
    Directory(PathBuf),
    /// The run works on a copy of this directory, a sample.
    Sample(PathBuf),
}

impl Place {
    /// The directory with the project's files.
    pub fn dir(&self) -> &Path {
        match self {
            Self::Directory(dir) | Self::Sample(dir) => dir,
        }
    }
}

/// Where the project is; `None` if a run clones it.
pub fn place(settings: &Settings) -> Result<Option<Place>, Failure> {
    match &settings.source {
        Source::Directory(dir) => Ok(Some(Place::Directory(dir.clone()))),
        Source::StartDirectory { .. } => {
            let start = Path::new(".");
            let sample = sample(settings, start)?;
            let directory = || Place::Directory(start.to_owned());
            Ok(Some(sample.map_or_else(directory, Place::Sample)))
        }
        Source::Repository(_) => Ok(None),
    }
}

/// The directory of the sample project that the file in `dir` names: a run in `dir` works on a copy of it.
pub fn sample(settings: &Settings, dir: &Path) -> Result<Option<PathBuf>, Failure> {
    let Some(sample) = read(settings, dir)?.and_then(|project| project.sample) else {
        return Ok(None);
    };
    let failed = |why: String| Failure {
        retryable: false,
        causes: vec![why],
        ..Failure::new(
            Reason::WorkspaceFailed,
            format!(
                "the sample project {}, which {FILE_NAME} names, cannot be used",
                sample.escape_debug()
            ),
        )
    };
    let project = fs::canonicalize(dir).map_err(|error| failed(error.to_string()))?;
    let found =
        fs::canonicalize(project.join(&sample)).map_err(|error| failed(error.to_string()))?;
    if !found.starts_with(&project) || !found.is_dir() {
        return Err(failed("it is not a directory in the project".to_owned()));
    }
    Ok(Some(found))
}

/// Logs which settings come from the file.
pub fn log(project: &ProjectSettings) {
    for FileSource {
        variable,
        value,
        line,
    } in &project.sources
    {
        tracing::info!("{FILE_NAME}, line {line}, sets {variable} to {value:?}");
    }
}
