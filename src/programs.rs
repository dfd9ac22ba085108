//! Where programs are: the search path, looked through once and for all, and this one's own file.
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

/// This program, to be started once more: the file that runs, whatever has been put in its place.
pub fn own() -> std::io::Result<PathBuf> {
    // In the child this leads to its parent's file until the very moment it is executed.
    let link = PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && link.exists() {
        return Ok(link);
    }
    std::env::current_exe()
}
