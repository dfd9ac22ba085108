//! Where programs are: the search path, looked through once and for all.
//!
//! Starts nothing, and reads no environment: the path is given.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The first program of that name on a search path.
pub fn on_path(path: &OsStr, name: &str) -> Option<PathBuf> {
    let executable = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(executable)
}
