//! The input for the upload of Git LFS objects.

use std::path::PathBuf;

use crate::runner::product::repository::Repository;

/// Where the pointers come from and where their objects may be.
pub struct Source<'a> {
    /// The push repository.
    pub repository: &'a Repository,
    /// The URL of the project's repository.
    pub url: &'a str,
    /// The commit that the remote already has.
    pub base: &'a str,
    /// The commits that a push would send.
    pub tips: &'a [&'a str],
    /// Directories of LFS objects that the agent could write.
    pub stores: &'a [PathBuf],
}
