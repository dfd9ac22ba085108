//! A project with a task graph in a temporary directory.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The graph that most tests use; task 8 is the one to run.
pub const GRAPH: &str = "\
# SCUD Graph v1
# Phase: webapp

@meta {
  name webapp
  updated 2026-11-01T09:00:00+00:00
}

@nodes
# id | title | status | complexity | priority
7 | Lay the foundation | D | 3 | H
8 | Build the \\| house | P | 5 | C
9 | Paint it | P | 2 | L

@edges
8 -> 7
9 -> 8

@details
8 | description |
  Four walls and a roof.

  Not three.
8 | test_strategy |
  Wait for rain.
";

/// A project; deleted when it is dropped.
pub struct Project {
    dir: PathBuf,
    _owner: TempDir,
}

impl Project {
    pub fn new() -> Self {
        Self::with_graph(GRAPH)
    }

    pub fn with_graph(graph: &str) -> Self {
        let project = Self::empty();
        project.write(".scud/tasks/tasks.scg", graph);
        project
    }

    /// A project without a graph.
    pub fn empty() -> Self {
        Self::in_dir(tempfile::tempdir().expect("a temporary directory"))
    }

    /// An empty project in this directory.
    pub fn in_dir(owner: TempDir) -> Self {
        // The worker resolves symbolic links, and on some systems the temporary directory is one.
        let dir = fs::canonicalize(owner.path()).expect("a directory");
        Self { dir, _owner: owner }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a written file");
        self
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn graph(&self) -> String {
        self.read(".scud/tasks/tasks.scg")
    }

    /// Makes these commands the checks of the project.
    pub fn set_checks(&self, commands: &[&str]) -> &Self {
        let commands = serde_json::to_string(commands).expect("strings");
        self.write(
            ".scud/config.toml",
            format!("[swarm.backpressure]\ncommands = {commands}\n"),
        )
    }
}
