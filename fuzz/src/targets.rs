//! The targets by name. Each reads one input, and asserts what must be true for every input.

mod answers;
mod events;
mod git_output;
mod graph;
mod messages;
mod redactor;
mod settings;
mod stream_json;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::scud::Project;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 9] = [
    ("answers", answers::answers),
    ("events", events::events),
    ("git_output", git_output::git_output),
    ("graph", graph::graph),
    ("graph_merge", graph::graph_merge),
    ("messages", messages::messages),
    ("redactor", redactor::redactor),
    ("settings", settings::settings),
    ("stream_json", stream_json::stream_json),
];

/// The target with this name.
pub fn find(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("there is no target {name}"))
        .1
}

/// A project in a temporary directory, which every input overwrites.
fn project() -> (&'static Path, Project) {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        // A file system in memory is faster.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            TempDir::new_in(memory)
        } else {
            TempDir::new()
        };
        let dir = dir.expect("a temporary directory");
        for name in [".scud/tasks", ".scud/agents"] {
            fs::create_dir_all(dir.path().join(name)).expect("a directory");
        }
        dir
    });
    (dir.path(), Project::at(dir.path().to_owned()))
}

/// Waits for a future on the runtime of this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
