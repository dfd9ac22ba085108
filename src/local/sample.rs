//! The demo's sample projects: a small shell program with a bug and a check that fails because of it, and a shop
//! whose graph has eight tasks.
//!
//! The projects need only git and sh. Their files are in the directory `sample`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use eyre::{WrapErr, bail};
use tempfile::TempDir;
use tokio::process::Command;

use crate::environment::Variables;

/// The task that the demo runs.
pub const TASK: &str = "greeting:2";

/// The files of the project of `demo`: their paths and contents.
const FILES: [(&str, &str); 6] = [
    ("greet.sh", include_str!("sample/greet.sh")),
    ("test.sh", include_str!("sample/test.sh")),
    (".agent.sh", include_str!("sample/agent.sh")),
    (".scud/tasks/tasks.scg", include_str!("sample/tasks.scg")),
    (".scud/active-tag", "greeting\n"),
    (".scud/config.toml", include_str!("sample/config.toml")),
];

/// The phase of the shop's graph.
pub const GRAPH_PHASE: &str = "shop";
/// The agent of the shop, unless the settings name one.
pub const GRAPH_AGENT: &str = "sh .agent.sh";

/// The files of the shop. Two of its tasks conflict, and one fails a check at first.
const GRAPH_FILES: [(&str, &str); 5] = [
    ("test.sh", include_str!("sample/graph/test.sh")),
    (".agent.sh", include_str!("sample/graph/agent.sh")),
    (
        ".scud/tasks/tasks.scg",
        include_str!("sample/graph/tasks.scg"),
    ),
    (".scud/active-tag", "shop\n"),
    (
        ".scud/config.toml",
        include_str!("sample/graph/config.toml"),
    ),
];

/// A sample project on disk. Dropping this value deletes the project.
#[derive(Debug)]
pub struct Sample {
    dir: TempDir,
    /// The environment of git.
    environment: Variables,
}

impl Sample {
    /// The project of `demo`.
    pub async fn create(environment: &Variables) -> eyre::Result<Self> {
        Self::create_with_files(&FILES, "A greeting that is not right yet", environment).await
    }

    /// The project of `demo --graph`.
    pub async fn create_with_graph(environment: &Variables) -> eyre::Result<Self> {
        Self::create_with_files(&GRAPH_FILES, "An empty shop", environment).await
    }

    /// Writes the files, and commits them with this message.
    async fn create_with_files(
        files: &[(&str, &str)],
        commit_message: &str,
        environment: &Variables,
    ) -> eyre::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("descartes-demo-")
            .tempdir()?;
        let sample = Self {
            dir,
            environment: environment.clone(),
        };
        for (name, text) in files {
            let path = sample.dir().join(name);
            fs::create_dir_all(path.parent().unwrap_or(sample.dir()))?;
            fs::write(&path, text).wrap_err_with(|| path.display().to_string())?;
        }
        sample
            .git(["init", "--quiet", "--initial-branch=main"])
            .await?;
        sample.git(["add", "--all"]).await?;
        sample
            .git(["commit", "--quiet", "--message", commit_message])
            .await?;
        Ok(sample)
    }

    /// The project's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The changes since the project was created.
    pub async fn diff(&self) -> eyre::Result<String> {
        self.git(["diff", "--no-ext-diff", "--no-color"]).await
    }

    /// The history of a branch, as `git log --graph` draws it.
    pub async fn history(&self, branch: &str) -> eyre::Result<String> {
        self.git(["log", "--graph", "--no-color", "--pretty=%s", branch])
            .await
    }

    /// Runs git without the user's configuration.
    async fn git(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> eyre::Result<String> {
        let mut command = Command::new("git");
        let output = command
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(self.dir())
            // By default, git reads these two files of the user even without the user's configuration.
            .args(["-c", "core.excludesFile=/dev/null"])
            .args(["-c", "core.attributesFile=/dev/null"])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs([("GIT_AUTHOR_NAME", "demo"), ("GIT_COMMITTER_NAME", "demo")])
            .envs([
                ("GIT_AUTHOR_EMAIL", "demo@localhost"),
                ("GIT_COMMITTER_EMAIL", "demo@localhost"),
            ])
            .output()
            .await
            .wrap_err("cannot start git, which the demo needs")?;
        if !output.status.success() {
            bail!(
                "git failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests;
