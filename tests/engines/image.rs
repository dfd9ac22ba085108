//! The image of the tests: this program, a shell, git, and the libraries that they need, in one tarball.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::path;

/// The programs that agents and git need, besides git and the shell.
const PROGRAMS: [&str; 12] = [
    "cat", "chmod", "echo", "ls", "mkdir", "rm", "sleep", "sort", "tail", "touch", "true", "wc",
];

/// The tarball, made once for all tests of this process.
pub fn tarball() -> &'static Path {
    static TARBALL: OnceLock<PathBuf> = OnceLock::new();
    TARBALL.get_or_init(|| pack(Path::new(env!("CARGO_TARGET_TMPDIR"))))
}

/// Makes the tarball in this directory. Two test processes may do so at the same time, so it is made in a temporary directory and
/// then moved.
fn pack(dir: &Path) -> PathBuf {
    let temporary = tempfile::tempdir_in(dir).expect("a temporary directory");
    let root = temporary.path().join("image");
    let worker = root.join("app/descartes-worker");
    copy(Path::new(env!("CARGO_BIN_EXE_descartes-worker")), &worker);
    // Most of the program's size is debug symbols.
    run(Command::new("strip").arg(&worker));
    let mut programs = vec![worker];
    for name in ["sh", "git"].into_iter().chain(PROGRAMS) {
        let to = root.join("bin").join(name);
        copy(&find_program(name), &to);
        programs.push(to);
    }
    let mut libraries = BTreeSet::new();
    for program in &programs {
        libraries.extend(libraries_of(program));
    }
    for library in libraries {
        let real = fs::canonicalize(&library).expect("a library");
        copy(
            &real,
            &root.join(library.strip_prefix("/").expect("absolute")),
        );
    }
    for (name, text) in [
        ("passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("group", "root:x:0:\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
    ] {
        fs::create_dir_all(root.join("etc")).expect("a directory");
        fs::write(root.join("etc").join(name), text).expect("a file");
    }
    for name in ["tmp", "root", "usr/share/git-core/templates"] {
        fs::create_dir_all(root.join(name)).expect("a directory");
    }
    let unfinished = temporary.path().join("image.tar");
    run(Command::new("tar")
        .arg("-C")
        .arg(&root)
        .arg("-cf")
        .arg(&unfinished)
        .arg("."));
    let tarball = dir.join("engines-image.tar");
    fs::rename(&unfinished, &tarball).expect("the same file system");
    tarball
}

/// Copies a file, and makes the directory that it is copied to.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a parent")).expect("directories");
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

/// The path of a program of the `PATH`, without symbolic links.
fn find_program(name: &str) -> PathBuf {
    let path = path();
    let dirs = path.to_str().expect("UTF-8").split(':');
    let program = dirs
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file());
    let program = program.unwrap_or_else(|| panic!("{name} is not installed"));
    fs::canonicalize(program).expect("a program")
}

/// The libraries of a program, as the dynamic loader finds them.
fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

/// Runs a command that must succeed.
#[track_caller]
fn run(command: &mut Command) {
    let status = command.status().expect("a program of the system");
    assert!(status.success(), "{command:?}: {status}");
}
