//! Runs git as a supervised child, with the worker's configuration only. Knows no tasks. A call that contacts the
//! remote gets the credential. Such a call must not run in a repository that an agent could write.

mod access;
mod authorities;
mod call;
mod configuration;
mod credential;
mod error_kind;
mod error_output;
mod fingerprint;
mod keeping_children;
mod program;
mod run;
#[cfg(test)]
pub mod samples;
mod ssh;
mod transfer_progress;
mod unnamed_file;

pub use self::access::Access;
pub use self::call::{Call, GitError, GitOutput};
pub use self::credential::answer_if_requested;
pub use self::error_kind::GitErrorKind;
pub use self::program::{Git, lfs_progress_variable};
pub use self::unnamed_file::UnnamedFile;
