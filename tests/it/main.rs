//! Black box: the real binary against a real receiver, with real child processes.
//!
//! Each module is one promise to somebody; its `//!` says to whom.

mod support;

mod agent;
mod check;
mod checks;
mod claim;
mod contract;
mod events;
mod example;
mod exit;
mod graph;
mod local;
mod prompt;
mod rejection;
mod settings;
mod supervision;
mod task;
mod tidy;
