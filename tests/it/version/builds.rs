//! The version that the build script records, tested by builds with cargo. The user who runs the tests must be able to start the
//! toolchain.

use std::path::Path;
use std::process::Command;

use crate::support::origin::git;
use crate::support::{Project, path};

/// A package with the build script of this project. Its program prints the version.
fn package_with_build_script() -> Project {
    let project = Project::empty();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs");
    project.write("build.rs", std::fs::read(script).expect("the build script"));
    project.write(
        "Cargo.toml",
        "[package]\nname = \"sample\"\nversion = \"1.2.3\"\nedition = \"2024\"\n[workspace]\n",
    );
    let print =
        "fn main() {\n    println!(\"{:?}\", option_env!(\"DESCARTES_WORKER_VERSION\"));\n}\n";
    project.write("src/main.rs", print);
    project.write(".gitignore", "/target\n");
    project
}

/// Runs cargo in a directory; returns its output.
#[track_caller]
fn cargo(dir: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .args(["--quiet", "--offline"])
        .current_dir(dir)
        .env_clear()
        .env("PATH", path())
        .envs(toolchain_variables())
        .output()
        .expect("cargo starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Builds the package and runs its program; returns the output: `Some` with the version, or `None` if the build script found no
/// commit.
#[track_caller]
fn built_version(dir: &Path) -> String {
    cargo(dir, &["run", "--release"]).trim().to_owned()
}

/// The variables with which rustup finds its toolchains.
#[expect(
    clippy::disallowed_methods,
    reason = "only the machine knows where its toolchain is"
)]
fn toolchain_variables() -> Vec<(&'static str, std::ffi::OsString)> {
    let names = ["HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HOME"];
    let variables = names.map(|name| Some((name, std::env::var_os(name)?)));
    variables.into_iter().flatten().collect()
}

/// Commits all changes; returns the output that the program must print for this commit.
fn commit(project: &Project, message: &str) -> String {
    git(project.dir(), &["add", "--all"]);
    git(
        project.dir(),
        &["commit", "--quiet", "--allow-empty", "--message", message],
    );
    let revision = git(project.dir(), &["rev-parse", "--short=10", "HEAD"]);
    let date = git(
        project.dir(),
        &["show", "--no-patch", "--format=%cs", "HEAD"],
    );
    format!("Some(\"1.2.3 ({revision} {date})\")")
}

#[test]
fn the_version_names_the_commit_of_the_build_and_whether_a_file_was_changed() {
    let project = package_with_build_script();
    git(project.dir(), &["init", "--quiet"]);
    // Without this, the first build would write Cargo.lock, which would count as a change.
    cargo(project.dir(), &["generate-lockfile"]);
    let first = commit(&project, "First");
    assert_eq!(built_version(project.dir()), first);
    // This commit changes no source file, and `pack-refs` deletes the file of the branch.
    let second = commit(&project, "Second");
    git(project.dir(), &["pack-refs", "--all"]);
    assert_eq!(built_version(project.dir()), second);
    let third = commit(&project, "Third");
    assert_eq!(built_version(project.dir()), third);
    assert!(first != second && second != third);
    let source = project.read("src/main.rs") + "// A change.\n";
    project.write("src/main.rs", source);
    let (revision, date) = third.rsplit_once(' ').expect("a date");
    assert_eq!(
        built_version(project.dir()),
        format!("{revision}-dirty {date}")
    );
}

#[test]
fn a_build_without_a_repository_or_inside_another_one_has_only_the_version() {
    let project = package_with_build_script();
    assert_eq!(built_version(project.dir()), "None");
    // The repository of an outer directory, which does not contain these sources.
    let outer = Project::empty();
    git(outer.dir(), &["init", "--quiet"]);
    git(
        outer.dir(),
        &["commit", "--quiet", "--allow-empty", "--message", "Other"],
    );
    let status = Command::new("cp")
        .arg("-r")
        .arg(project.dir())
        .arg(outer.path("sample"))
        .env("PATH", path())
        .status();
    assert!(status.expect("cp").success());
    std::fs::remove_dir_all(outer.path("sample/target")).expect("a directory");
    assert_eq!(built_version(&outer.path("sample")), "None");
}
