//! Fetches the one commit to work on into a new repository.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::empty_repository::{self, ObjectFormat};
use crate::git::{Call, Git, GitError};

/// The waits between attempts after a transient error.
pub const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(12),
];

/// Makes a repository in `dir`, and fetches a branch, a tag or a commit into `FETCH_HEAD`. Without a reference it
/// fetches the default branch.
pub async fn fetch_base(
    git: &Git<'_>,
    dir: &Path,
    url: &str,
    reference: Option<&str>,
) -> Result<(), GitError> {
    // 64 hexadecimal digits name a commit in a SHA-256 repository.
    if reference.is_some_and(|name| is_hash(name, 64)) {
        init(dir, ObjectFormat::Sha256)?;
        return fetch(git, dir, url, reference).await;
    }
    init(dir, ObjectFormat::Sha1)?;
    match fetch(git, dir, url, reference).await {
        // Only this error shows that the remote repository uses SHA-256.
        Err(error) if error.messages.contains("mismatched algorithms") => {
            let failed = |error: io::Error| {
                GitError::from_io("init", "could not be repeated for SHA-256", &error)
            };
            fs::remove_dir_all(dir.join(".git")).map_err(failed)?;
            init(dir, ObjectFormat::Sha256)?;
            fetch(git, dir, url, reference).await?;
        }
        fetched => fetched?,
    }
    match reference {
        Some(name) => reject_ambiguous(git, dir, url, name).await,
        None => Ok(()),
    }
}

/// Fetches into the repository in `dir`, and retries after a transient error.
async fn fetch(
    git: &Git<'_>,
    dir: &Path,
    url: &str,
    reference: Option<&str>,
) -> Result<(), GitError> {
    let mut waits = RETRY_DELAYS.iter();
    loop {
        let args = ["fetch", "--progress", "--no-tags", "--depth=1"];
        let call = Call::new(dir, args).args(git.file_remote_option(url, "upload-pack"));
        // Fetched objects stay in one pack. By default, git writes up to 100 objects to a file each, which takes longer.
        let call = call.configuration(&[("fetch.unpackLimit".to_owned(), "1".to_owned())]);
        let call = call.arg("--").arg(url).arg(reference.unwrap_or("HEAD"));
        let Err(error) = git.run(call.contacts_remote()).await else {
            return Ok(());
        };
        let is_transient = error.kind().is_transient()
            && !error.was_stopped
            && !error.messages.contains("mismatched algorithms");
        let Some(wait) = waits
            .next()
            .filter(|wait| is_transient && git.has_time(**wait))
        else {
            return Err(error);
        };
        tracing::warn!("the clone failed, trying again: {}", error.summary());
        tokio::select! {
            () = sleep(*wait) => {}
            _ = git.stop.wait_until_requested() => return Err(error),
        }
    }
}

/// Errors if a branch and a tag have this name. git would silently prefer the tag.
async fn reject_ambiguous(
    git: &Git<'_>,
    dir: &Path,
    url: &str,
    name: &str,
) -> Result<(), GitError> {
    if name.starts_with("refs/") || !has_fetched_tag(dir) {
        return Ok(());
    }
    let branch = format!("refs/heads/{name}");
    let call = Call::new(dir, ["ls-remote"]).args(git.file_remote_option(url, "upload-pack"));
    let call = call.arg("--").arg(url).arg(&branch).contacts_remote();
    if git
        .run(call)
        .await?
        .lines()
        .any(|line| line.ends_with(&branch))
    {
        let both = format!("{name} is ambiguous: write refs/heads/{name} or refs/tags/{name}");
        return Err(GitError::from_io(
            "fetch",
            "found two references",
            &io::Error::other(both),
        ));
    }
    Ok(())
}

fn has_fetched_tag(dir: &Path) -> bool {
    let text = fs::read_to_string(dir.join(".git/FETCH_HEAD")).unwrap_or_default();
    text.contains("\ttag '")
}

fn is_hash(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Makes the empty repository in `dir`.
fn init(dir: &Path, format: ObjectFormat) -> Result<(), GitError> {
    empty_repository::create(dir, format).map_err(|error| {
        let how = format!(
            "could not make the repository {}",
            dir.join(".git").display()
        );
        GitError::from_io("init", &how, &error)
    })
}
