//! Runs git as a supervised child, with the worker's configuration only.
//!
//! Knows no tasks. Each call says whether git gets the credential; a call that works in a repository which an
//! agent could write must not ask for it.

mod access;
mod among_children;
mod authorities;
mod call;
mod configuration;
mod credential;
mod fingerprint;
mod program;
mod run;
#[cfg(test)]
pub mod samples;
mod ssh;
mod transfer_progress;
mod trouble;
mod words;

pub use self::access::Access;
pub use self::call::{Call, Finished, GitError};
pub use self::credential::answer_if_requested;
pub use self::program::{Git, lfs_progress};
pub use self::trouble::Trouble;
