//! What is to be pushed, and where the objects may be.

use std::path::PathBuf;

use crate::runner::product::repository::Repository;

/// Where the pointers come from and where their objects may be.
pub struct Source<'a> {
    pub repository: &'a Repository,
    pub url: &'a str,
    pub base: &'a str,
    pub tips: &'a [&'a str],
    /// Directories of LFS objects that the agent could write.
    pub stores: &'a [PathBuf],
}
