//! Asks git in which entries two trees differ.

use super::entries::{Entry, entries_of_raw_diff};
use super::errors::run_records;
use super::repository::PrivateRepository;
use crate::git::Git;
use crate::task::Failure;

/// The entries in which two trees or commits differ.
pub async fn differences(
    git: &Git<'_>,
    repository: &PrivateRepository,
    from: &str,
    to: &str,
) -> Result<Vec<Entry>, Failure> {
    let args = [
        "diff-tree",
        "-r",
        "--raw",
        "-z",
        "--no-renames",
        "--no-abbrev",
    ];
    let call = repository.call(args).arg(from).arg(to);
    Ok(entries_of_raw_diff(&run_records(git, call).await?))
}
