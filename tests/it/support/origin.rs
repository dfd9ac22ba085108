//! A remote repository: a bare repository in a temporary directory, and a directory for workers that
//! clone it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::project::GRAPH;
use super::worker::{LONG_CALLBACK_TIMEOUT, LONG_CLAIM_DEADLINE, LONG_STOP_WINDOW};
use super::{Receiver, Worker};

/// A bare repository with a task graph, a `README` and one commit on `main`; deleted when dropped.
pub struct Origin {
    dir: TempDir,
}

impl Origin {
    pub fn new() -> Self {
        Self::with_files(&[("README", "A house.\n")])
    }

    /// A repository that also contains these files.
    pub fn with_files(files: &[(&str, &str)]) -> Self {
        Self::with_object_format("sha1", files)
    }

    /// A repository in this directory, for tests with a user who cannot enter the usual temporary directory.
    pub fn in_dir(dir: TempDir) -> Self {
        Self::create(dir, "sha1", &[("README", "A house.\n")])
    }

    /// `format` is `sha1` or `sha256`.
    pub fn with_object_format(format: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self::create(dir, format, files)
    }

    fn create(dir: TempDir, format: &str, files: &[(&str, &str)]) -> Self {
        for name in ["tmp", "home", "bin"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let origin = Self { dir };
        let (bare, seed) = (origin.path("project.git"), origin.path("seed"));
        let format = format!("--object-format={format}");
        for (dir, option) in [(&bare, "--bare"), (&seed, "--quiet")] {
            let dir = dir.to_str().expect("UTF-8");
            git(
                origin.dir.path(),
                &["init", "-q", "-b", "main", option, &format, dir],
            );
        }
        for (name, value) in [
            ("http.receivepack", "true"),
            ("uploadpack.allowAnySHA1InWant", "true"),
        ] {
            git(&bare, &["config", name, value]);
        }
        origin.commit(&[(".scud/tasks/tasks.scg", GRAPH)]);
        origin.commit(files);
        origin
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The repository's URL, `file://…`.
    pub fn url(&self) -> String {
        format!("file://{}", self.path("project.git").display())
    }

    /// Commits files on `main` as an author other than the worker, and pushes them; returns the hash of the commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        let seed = self.path("seed");
        for (name, text) in files {
            let path = seed.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a written file");
        }
        git(&seed, &["add", "--all"]);
        git(
            &seed,
            &["commit", "-q", "--allow-empty", "-m", "somebody's"],
        );
        let bare = self.path("project.git");
        git(
            &seed,
            &["push", "-q", bare.to_str().expect("UTF-8"), "main"],
        );
        git(&seed, &["rev-parse", "HEAD"])
    }

    /// Runs git in the bare repository; returns its output.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        git(&self.path("project.git"), args)
    }

    pub fn branches(&self) -> Vec<String> {
        let names = self.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
        names.lines().map(str::to_owned).collect()
    }

    /// The content of a file on a branch.
    #[track_caller]
    pub fn show(&self, branch: &str, file: &str) -> String {
        self.git(&["show", &format!("{branch}:{file}")])
    }

    /// Installs a hook, a shell script, in the bare repository.
    pub fn install_hook(&self, name: &str, script: &str) {
        let path = self.path("project.git/hooks").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        write_program(&path, script);
    }

    /// The directory that workers clone to.
    pub fn workspace(&self) -> PathBuf {
        self.path("workspace")
    }

    /// A worker for task 8 that clones this repository. The caller must choose an agent.
    pub fn worker(&self, receiver: &Receiver) -> Worker {
        Worker::without_settings()
            .env("TASK_ID", "8")
            .env("PROJECT_ID", "proj-456")
            .env("CALLBACK_URL", receiver.url())
            .env("DESCARTES_HEARTBEAT", "0")
            .env("DESCARTES_STOP_WINDOW", LONG_STOP_WINDOW)
            .env("DESCARTES_CALLBACK_TIMEOUT", LONG_CALLBACK_TIMEOUT)
            .env("DESCARTES_CLAIM_DEADLINE", LONG_CLAIM_DEADLINE)
            .env("DESCARTES_RUN_ID", "run-1")
            .env("DESCARTES_REPO", self.url())
            .env("DESCARTES_WORKSPACE", self.workspace())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
    }
}

/// Writes an executable shell script.
pub fn write_program(path: &Path, script: &str) {
    write_executable(path, &format!("#!/bin/sh\n{script}"));
}

/// Writes an executable file with this text and a newline.
pub fn write_executable(path: &Path, text: &str) {
    // A shell writes the file: a child that another test starts at the same time inherits every file that is open in this
    // process, and the kernel starts no program that is open for writing ("Text file busy").
    let write = "printf '%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let mut shell = Command::new("/bin/sh");
    let shell = shell.args(["-c", write]).arg(path).arg(text);
    assert!(shell.status().expect("a shell").success(), "a program");
}

/// Runs git with a test author; returns its output.
#[track_caller]
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", super::path())
        .envs([
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ])
        .envs([
            ("GIT_AUTHOR_NAME", "Somebody"),
            ("GIT_AUTHOR_EMAIL", "somebody@example.com"),
        ])
        .envs([
            ("GIT_COMMITTER_NAME", "Somebody"),
            ("GIT_COMMITTER_EMAIL", "somebody@example.com"),
        ])
        .stdin(Stdio::null())
        .output()
        .expect("git starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}
