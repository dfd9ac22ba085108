//! Records the commit that the program is built from, for `--version`.
//!
//! Nothing is recorded without git, outside of this project's repository (a copy of the sources, a build by Nix), and in debug
//! builds: there, every commit would compile the program and its tests again.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo passes the project's directory as a variable, and waits for build scripts"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the program is built from.
const SOURCES: [&str; 4] = ["src", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let Some(dir) = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from) else {
        return;
    };
    // An outer repository, for example of the home directory, says nothing about these sources.
    let top = git(&dir, &["rev-parse", "--show-toplevel"]);
    let is_own = top.is_some_and(|top| dir.canonicalize().is_ok_and(|dir| dir == Path::new(&top)));
    if !is_own || git(&dir, &["ls-files", "--error-unmatch", "Cargo.toml"]).is_none() {
        return;
    }
    watch_commits(&dir);
    let revision = git(&dir, &["rev-parse", "--short=10", "HEAD"]);
    let date = git(&dir, &["show", "--no-patch", "--format=%cs", "HEAD"]);
    let version = std::env::var("CARGO_PKG_VERSION");
    let (Some(revision), Some(date), Ok(version)) = (revision, date, version) else {
        return;
    };
    let unchanged = [&["diff", "--quiet", "HEAD", "--"], &SOURCES[..]].concat();
    let suffix = if git(&dir, &unchanged).is_some() {
        ""
    } else {
        "-dirty"
    };
    println!("cargo:rustc-env=DESCARTES_WORKER_VERSION={version} ({revision}{suffix} {date})");
}

/// Runs this script again when HEAD moves. git appends a line to the log of HEAD at every commit and every checkout; a
/// branch's own file may not exist, and a missing file would make cargo run this script always.
fn watch_commits(dir: &Path) {
    for name in ["HEAD", "logs/HEAD", "packed-refs"] {
        let path = git(dir, &["rev-parse", "--git-path", name]).map(|path| dir.join(path));
        if let Some(path) = path.filter(|path| path.is_file()) {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    let branch = git(dir, &["symbolic-ref", "--quiet", "HEAD"]);
    let path = branch.and_then(|branch| git(dir, &["rev-parse", "--git-path", &branch]));
    if let Some(path) = path
        .map(|path| dir.join(path))
        .filter(|path| path.is_file())
    {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

/// The output of git; `None` if it fails.
fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // Set while git runs a hook, for the repository of the hook.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    let command = command.args(args).current_dir(dir);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}
