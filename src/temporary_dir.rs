//! Temporary directories. Those with many or large files are deleted in another thread, because no code may block the
//! worker's thread: the heartbeats and the terminal event must not wait for the deletion.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;

use tempfile::TempDir;
use tokio::sync::watch;

use crate::panics::blocking_point;

/// How many threads are deleting a directory.
static RUNNING_DELETIONS: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// A temporary directory. Dropping it begins the deletion; [`wait_for_deletions`] waits for the end.
#[derive(Debug)]
pub struct TemporaryDir {
    /// `None` after [`TemporaryDir::keep`], and while this is dropped.
    dir: Option<TempDir>,
}

impl TemporaryDir {
    /// Makes a new directory whose name begins with `prefix`.
    pub fn with_prefix(prefix: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir()?;
        Ok(Self { dir: Some(dir) })
    }

    pub fn path(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Never deletes the directory.
    pub fn keep(mut self) {
        if let Some(dir) = self.dir.take() {
            let _ = dir.keep();
        }
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else {
            return;
        };
        if has_few_files(dir.path()) {
            return delete(dir);
        }
        let running = RunningDeletion::begin();
        let delete = move || {
            blocking_point("delete");
            delete(dir);
            drop(running);
        };
        // If no thread can be started, `dir` is dropped with the closure, so that this thread deletes the directory.
        if let Err(error) = thread::Builder::new().spawn(delete) {
            tracing::warn!(%error, "no thread could be started to delete a temporary directory");
        }
    }
}

/// Counts as a running deletion until it is dropped.
struct RunningDeletion;

impl RunningDeletion {
    fn begin() -> Self {
        RUNNING_DELETIONS.send_modify(|running| *running += 1);
        Self
    }
}

impl Drop for RunningDeletion {
    fn drop(&mut self) {
        RUNNING_DELETIONS.send_modify(|running| *running -= 1);
    }
}

/// Waits until no thread is deleting a directory.
pub async fn wait_for_deletions() {
    let mut running = RUNNING_DELETIONS.subscribe();
    // An error is impossible, because the sender is never dropped.
    let _ = running.wait_for(|running| *running == 0).await;
}

fn delete(dir: TempDir) {
    if let Err(error) = dir.close() {
        tracing::warn!(%error, "a temporary directory could not be deleted");
    }
}

/// Whether a directory has only a few small files, and no directory, so that deleting it takes very little time. An
/// empty run has only such a directory, and starts no thread.
fn has_few_files(dir: &Path) -> bool {
    const MAX_FILES: usize = 16;
    /// In bytes.
    const MAX_FILE_SIZE: u64 = 1 << 20;
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    let mut count = 0;
    for entry in entries.take(MAX_FILES + 1) {
        let found = entry.and_then(|entry| entry.metadata());
        let is_small_file =
            found.is_ok_and(|found| !found.is_dir() && found.len() <= MAX_FILE_SIZE);
        count += 1;
        if !is_small_file {
            return false;
        }
    }
    count <= MAX_FILES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_a_directory_in_it_is_deleted_by_another_thread_and_the_wait_ends_after_that()
     {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let dir = TemporaryDir::with_prefix("descartes-test-").unwrap();
        let path = dir.path().to_owned();
        fs::create_dir(path.join("a")).unwrap();
        assert!(!has_few_files(&path));
        drop(dir);
        runtime.block_on(wait_for_deletions());
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_with_a_few_small_files_is_deleted_at_once() {
        let dir = TemporaryDir::with_prefix("descartes-test-").unwrap();
        let path = dir.path().to_owned();
        fs::write(path.join("a"), "small").unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_is_kept_is_not_deleted() {
        let dir = TemporaryDir::with_prefix("descartes-test-").unwrap();
        let path = dir.path().to_owned();
        dir.keep();
        fs::remove_dir(path).unwrap();
    }
}
