//! Black box: the real binary against a real receiver, with real child processes.
//!
//! Each module is one promise to somebody; its `//!` says to whom.

mod support;

mod agent;
mod bodies;
mod chaos;
mod claim;
mod delivery;
mod heartbeats;
mod reach;
mod retries;
mod settings;
mod speaker;
mod tls;
