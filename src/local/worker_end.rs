//! The end of the worker of `local` and `demo`: its exit status, its result line, and where its work is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use serde_json::Value;

use super::settings::{Project, Settings};
use super::task_lock::first_private_dir;

/// The longest part of an id in the name of a file, in characters.
const MAX_ID_LENGTH: usize = 60;

/// How a worker ended.
#[derive(Debug)]
pub struct WorkerEnd {
    pub status: ExitStatus,
    /// The event on the result line; `None` if there was no such line, because the worker did not begin.
    pub event: Option<Value>,
    /// The directory that the worker has changed in place, if it has not cloned a repository.
    pub directory: Option<PathBuf>,
    /// The repository that the worker has cloned.
    pub repository: Option<String>,
    /// The project's directory, if its repository is the one that was cloned.
    pub committed_to: Option<PathBuf>,
    /// The file with the patch, if the work was not pushed.
    pub patch: Option<Result<PathBuf, String>>,
}

impl WorkerEnd {
    pub fn new(
        status: ExitStatus,
        event: Option<Value>,
        directory: Option<PathBuf>,
        repository: Option<String>,
        settings: &Settings,
    ) -> Self {
        let patch = event.as_ref().and_then(unpushed_patch).map(|patch| {
            let name = file_name(&settings.task, event.as_ref());
            save(patch, &settings.lock_dirs, &name)
        });
        let committed_to = match &settings.project {
            Project::Committed(_) => repository.as_ref().map(PathBuf::from),
            Project::InPlace(_) | Project::Cloned { .. } => None,
        };
        Self {
            status,
            event,
            directory,
            repository,
            committed_to,
            patch,
        }
    }

    /// The exit code for `local`: the worker's, or 128 plus the number of the signal that killed it, as in shells.
    pub fn exit_code(&self) -> u8 {
        let code = self.status.code();
        let code = code.unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0));
        u8::try_from(code).unwrap_or(u8::MAX)
    }

    /// A string in the event, by its JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.event.as_ref()?.pointer(pointer)?.as_str()
    }

    /// A number in the event, by its JSON pointer.
    pub fn number(&self, pointer: &str) -> Option<u64> {
        self.event.as_ref()?.pointer(pointer)?.as_u64()
    }
}

/// The patch in the event, if the work was not pushed.
fn unpushed_patch(event: &Value) -> Option<&str> {
    let work = event.pointer("/result/work")?;
    let is_pushed = work.get("pushed").and_then(Value::as_bool) == Some(true);
    let patch = work.get("patch").and_then(Value::as_str);
    patch.filter(|patch| !is_pushed && !patch.is_empty())
}

/// The name of the file with the patch of a run.
fn file_name(task: &str, event: Option<&Value>) -> String {
    let run = event.and_then(|event| event.get("run_id")?.as_str());
    let part = |text: &str| -> String {
        let replaced = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        text.chars().take(MAX_ID_LENGTH).map(replaced).collect()
    };
    format!("{}-{}.patch", part(task), part(run.unwrap_or_default()))
}

/// Writes the patch to a private directory; returns the path of the file, or why that is not possible.
fn save(patch: &str, dirs: &[PathBuf], name: &str) -> Result<PathBuf, String> {
    let dir = first_private_dir(dirs).map_err(|error| format!("{error:#}"))?;
    let file = dir.join("patches").join(name);
    write(&file, patch).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    File::create(file)?.write_all(text.as_bytes())
}
