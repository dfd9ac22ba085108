//! The integration branch: finished runs are merged in a bare repository in the state directory, without a
//! work tree, and published to the user's repository or to the remote.
//!
//! Does not know journals, engines or checks. Every operation may be repeated after a crash: the same
//! merge gives the same commit.

mod bare_repository;
mod branch;
mod error;
mod local_project;
mod merge;
mod publish;
mod repositories;
mod run_branches;
#[cfg(test)]
pub mod samples;
#[cfg(test)]
mod tests;
mod types;
mod user;

pub use branch::Integration;
pub use error::IntegrationError;
pub use run_branches::RunBranches;
pub use types::{
    AcceptResult, Candidate, Commit, Conflict, FastForward, FinishedRun, MergeResult, RunBranch,
    Settings, Source, WorkChecks, WorkerLocation,
};
