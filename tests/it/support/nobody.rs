//! The user `nobody`, for tests that need a user without root's privileges: root can read all files, for example.
//! If the tests do not run as root, the user who runs them is used instead.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::Project;
use super::project::GRAPH;

/// The user id of `nobody` on almost every system.
pub const NOBODY: u32 = 65_534;

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .expect("the owner can change the mode");
}

/// A temporary directory that every user can enter, with any umask. Other users may be unable to enter the usual
/// temporary directory of root.
pub fn shared_dir() -> TempDir {
    let places = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    let is_open_to_all = |place: &&PathBuf| {
        let place = fs::canonicalize(place).unwrap_or_default();
        let enterable = |dir: &Path| fs::metadata(dir).is_ok_and(|dir| dir.mode() & 0o001 != 0);
        !is_root() || place.is_absolute() && place.ancestors().all(enterable)
    };
    let place = places.iter().find(is_open_to_all);
    let place = place.expect("a temporary directory that every user can enter");
    let dir = tempfile::tempdir_in(place).expect("a temporary directory");
    set_mode(dir.path(), 0o755);
    dir
}

/// A project that `nobody` owns.
pub fn project() -> Project {
    let project = Project::in_dir(shared_dir());
    project.write(".scud/tasks/tasks.scg", GRAPH);
    if is_root() && may_become_nobody() {
        for path in [".", ".scud", ".scud/tasks", ".scud/tasks/tasks.scg"] {
            chown(project.path(path), Some(NOBODY), Some(NOBODY))
                .expect("root can change the owner");
        }
    }
    project
}

/// A copy of the worker that every user can start, in a [`shared_dir`].
pub fn copy_worker(dir: &TempDir) -> PathBuf {
    let program = dir.path().join("descartes-worker");
    // `cp` writes the copy. If this process wrote it, a child that another test starts at the same time could inherit
    // the open file, and the kernel starts no program that is open for writing ("Text file busy").
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_descartes-worker"))
        .arg(&program);
    assert!(copy.status().expect("cp").success());
    set_mode(&program, 0o755);
    program
}

/// Makes a command run as `nobody`.
pub fn run_as_nobody(command: &mut Command) {
    if is_root() && may_become_nobody() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

/// Whether this process can start other processes as `nobody`: root needs capabilities for that, and a user
/// namespace in which that user exists.
pub fn may_become_nobody() -> bool {
    let mut command = Command::new("/bin/sh");
    let command = command.args(["-c", ":"]).uid(NOBODY).gid(NOBODY);
    command.status().is_ok_and(|status| status.success())
}
