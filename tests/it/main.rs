//! Black box: the real binary against a real receiver, with real child processes.
//!
//! Each module is one promise to somebody; its `//!` says to whom.

mod support;

mod agent;
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
mod events;
mod example;
mod exit;
mod gateway;
mod graph;
mod heartbeats;
mod hostile;
mod local;
mod merge;
mod prompt;
mod push;
mod reach;
mod receive;
mod rejection;
mod retries;
mod servers;
mod settings;
mod speaker;
mod structure;
mod supervision;
mod task;
mod tidy;
mod tls;
mod work;
