//! The project's SCUD task graph: find a task, set its status, merge two versions, read the
//! project's settings.
//!
//! All files are opened below one root and no symbolic link is followed, because an untrusted agent
//! may have replaced any of them. This module never rewrites the graph (its `updated` lines, order
//! and blank lines belong to the user), runs no checks or agents, and logs nothing.

mod agents;
mod all_tasks;
mod dependencies;
mod edit;
mod fields;
mod files;
mod find;
mod graph;
mod graph_file;
mod lexer;
mod merge;
mod project;
mod ready;
mod row;
mod search;
mod settings;
mod texts;

#[cfg(all(test, feature = "peers"))]
mod peers;
#[cfg(test)]
mod samples;

pub use agents::{AGENTS_DIR, AgentDefinition, AgentFile, MAX_PROMPT_SIZE, assigned_agents};
#[allow(unused_imports, reason = "the command `dispatch` uses them")]
pub use edit::{EditError, set_status_in_bytes};
pub use files::FileError;
pub use find::{FindError, FinishedTasks, TaskQuery};
pub use graph_file::GRAPH_PATH;
pub use merge::unify_status_letters;
pub use project::Project;
pub use ready::{Standing, TaskGraph, TaskNode};
pub use settings::{Checks, MAX_FILE_SIZE as MAX_SETTINGS_SIZE, SettingsError};
pub use texts::{TaskTexts, task_texts};
