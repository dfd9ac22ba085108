//! The integration branch: finished runs are merged in a bare repository in the state directory, without a
//! work tree, and published to the user's repository or to the remote.
//!
//! Knows no journal, no engines and no checks. Every operation may be repeated after a crash: the same
//! merge gives the same commit.

mod branch;
mod error;
mod history;
mod merge;
mod place;
mod publish;
mod repository;
mod run_branches;
#[cfg(test)]
pub mod samples;
#[cfg(test)]
mod tests;
mod types;
mod user;

pub use branch::{Integration, Opened};
pub use error::IntegrationError;
pub use run_branches::RunBranches;
pub use types::{
    Accepted, Candidate, Commit, Conflict, FastForward, FinishedRun, Merged, Other, RunBranch,
    Settings, Source, Synced, WorkChecks, Workers,
};
