//! The input for the upload of Git LFS objects.

use std::path::PathBuf;

use crate::runner::product::repository::PrivateRepository;

/// The commits with the pointers, and the directories that may have their objects.
pub struct UploadInput<'a> {
    /// The push repository.
    pub repository: &'a PrivateRepository,
    /// The URL of the project's repository.
    pub url: &'a str,
    /// The commit that the remote already has.
    pub base: &'a str,
    /// The commits that a push would send.
    pub tips: &'a [&'a str],
    /// Directories of LFS objects that the agent could write.
    pub stores: &'a [PathBuf],
}
