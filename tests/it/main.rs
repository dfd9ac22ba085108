//! Black box: the real binary against a real receiver, with real child processes.
//!
//! Each module is one promise to somebody; its `//!` says to whom.

mod support;

mod agent;
mod claim;
mod clone;
mod hostile;
mod push;
mod settings;
mod work;
