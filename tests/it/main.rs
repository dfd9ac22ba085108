//! Black box: the real binary against a real receiver, with real child processes.
//!
//! Each module tests the behavior that one group of users relies on; its `//!` names the users.

mod support;

mod agent;
mod authentication;
mod bodies;
mod builtin;
mod chaos;
mod check;
mod checks;
mod claim;
mod claude_code;
mod clone;
mod committed;
mod contract;
mod delivery;
mod dispatch;
mod events;
mod example;
mod exit;
mod gateway;
mod graph;
mod heartbeats;
mod hostile;
mod isolation;
mod local;
mod merge;
mod network;
mod probe;
mod project_file;
mod prompt;
mod push;
mod receive;
mod rejection;
mod report;
mod retries;
mod servers;
mod settings;
mod structure;
mod supervision;
mod task;
mod tasks;
mod tidy;
mod tls;
mod variables_file;
mod version;
mod work;
