//! Runs git as a supervised child, with the worker's configuration only. Knows no tasks. Each call says whether git
//! gets the credential. A call in a repository that an agent could write must not ask for the credential.

mod access;
mod authorities;
mod call;
mod configuration;
mod credential;
mod fingerprint;
mod keeping_children;
mod program;
mod run;
#[cfg(test)]
pub mod samples;
mod ssh;
mod transfer_progress;
mod trouble;
mod unnamed_file;
mod words;

pub use self::access::Access;
pub use self::call::{Call, Finished, GitError};
pub use self::credential::answer_if_requested;
pub use self::program::{Git, lfs_progress};
pub use self::trouble::Trouble;
pub use self::unnamed_file::UnnamedFile;
