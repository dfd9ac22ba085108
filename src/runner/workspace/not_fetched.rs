//! Warns about submodules and Git LFS files that a clone does not have, because the settings do not fetch them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::source::RemoteRepository;

/// Logs which submodules and which files of Git LFS were not fetched.
pub fn warn(dir: &Path, repository: &RemoteRepository) {
    let submodules = values_in(&dir.join(".gitmodules"), |line| {
        let (key, path) = line.split_once('=')?;
        (key.trim() == "path").then(|| path.trim().to_owned())
    });
    if !submodules.is_empty() && !repository.submodules {
        let submodules = submodules.join(", ");
        tracing::warn!("the project has submodules, which are not fetched: {submodules}");
    }
    let patterns = values_in(&dir.join(".gitattributes"), |line| {
        let mut words = line.split_whitespace();
        let pattern = words.next().filter(|word| !word.starts_with('#'))?;
        words
            .any(|word| word == "filter=lfs")
            .then(|| pattern.to_owned())
    });
    if !patterns.is_empty() && !repository.lfs {
        let patterns = patterns.join(", ");
        tracing::warn!(
            "the project keeps files in Git LFS, which are not fetched; the clone has their pointers: {patterns}"
        );
    }
}

/// The first values that `parse` returns for the lines of a file; none if the path is not a regular file.
fn values_in(path: &Path, parse: impl Fn(&str) -> Option<String>) -> Vec<String> {
    const MAX_VALUES: usize = 10;
    /// In bytes.
    const MAX_FILE_SIZE: u64 = 1024 * 1024;
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_SIZE).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    read.map_or_else(
        |_| Vec::new(),
        |_| text.lines().filter_map(parse).take(MAX_VALUES).collect(),
    )
}
