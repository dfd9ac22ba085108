//! Opens the integration branch: at its base, or at the commit that the last dispatch reached.

use std::path::Path;
use std::sync::Arc;

use super::bare_repository::files::TreeEntry;
use super::error::IntegrationError;
use super::repositories::{BASE_REFERENCE, PUBLISHED_REFERENCE, Repositories};
use super::types::{Commit, Settings};
use crate::git::Git;
use crate::scud::FileError;

/// The integration branch.
#[derive(Debug)]
pub struct Integration {
    pub(super) repositories: Arc<Repositories>,
    /// The commit that [`Settings::base`] named when the branch was opened.
    pub(super) base: Commit,
    /// The last commit of the branch.
    pub(super) tip: Commit,
    /// The last known commit of the published branch.
    pub(super) published: Option<String>,
}

/// An open integration branch, and messages for the user.
#[derive(Debug)]
pub struct OpenIntegration {
    pub integration: Integration,
    pub messages: Vec<String>,
}

impl Integration {
    /// Opens the branch, or creates it at the base. Does not change the user's repository or the remote.
    ///
    /// The branch of the bare repository has priority over the published branch, because it may have merges that could
    /// not be published. Then the commits that users have pushed to the published branch are added. At last, the tip
    /// moves to the base if the base contains the whole branch.
    pub async fn open(settings: Settings) -> Result<OpenIntegration, IntegrationError> {
        let repositories = Repositories::open(settings).await?;
        let git = repositories.git()?;
        let mut messages = Vec::new();
        let base = repositories.find_base(&git).await?;
        let branch = &repositories.settings.branch;
        let repository = &repositories.bare;
        let bare_tip = repository
            .resolve(&git, &format!("refs/heads/{branch}"))
            .await?;
        let published = repository.resolve(&git, PUBLISHED_REFERENCE).await?;
        let old_base = repository.resolve(&git, BASE_REFERENCE).await?;
        let published_tip = repositories.read_branch(&git, branch).await?;
        let (tip, published) = match (bare_tip, published, published_tip) {
            // No work was merged yet, so the branch begins at the current base.
            (Some(bare_tip), None, None) if Some(&bare_tip) == old_base.as_ref() => {
                (base.clone(), None)
            }
            // The branch goes on. `sync` adds the commits of users.
            (Some(bare_tip), Some(published), Some(_)) => (bare_tip, Some(published.id)),
            // The merges could not be published yet.
            (Some(bare_tip), None, _) => (bare_tip, None),
            // The bare repository is new, so the branch goes on at the published branch.
            (None, _, Some(published_tip)) => (published_tip.clone(), Some(published_tip.id)),
            (Some(_), Some(_), None) => {
                messages.push(format!(
                    "the branch {branch} was deleted, so it begins again at {}",
                    &base.id
                ));
                (base.clone(), None)
            }
            (None, _, None) => (base.clone(), None),
        };
        drop(git);
        let mut integration = Self {
            repositories: Arc::new(repositories),
            base,
            tip,
            published,
        };
        integration.sync().await?;
        messages.extend(integration.follow_base().await?);
        integration.set_references().await?;
        Ok(OpenIntegration {
            integration,
            messages,
        })
    }

    /// Sets references to the base and the tip. Without them, git would reject pushes of workers: it accepts a push
    /// from a shallow clone only if the clone's first commit can be reached from a reference.
    async fn set_references(&self) -> Result<(), IntegrationError> {
        let git = self.repositories.git()?;
        let repository = &self.repositories.bare;
        let branch = format!("refs/heads/{}", self.repositories.settings.branch);
        repository
            .set_reference(&git, BASE_REFERENCE, &self.base.id)
            .await?;
        repository.set_reference(&git, &branch, &self.tip.id).await
    }

    /// Moves the tip to the base if the base contains the whole branch. Otherwise returns a message if the base has
    /// commits that the branch does not have.
    async fn follow_base(&mut self) -> Result<Option<String>, IntegrationError> {
        let git = self.repositories.git()?;
        let repository = &self.repositories.bare;
        let (base, tip) = (&self.base.id, &self.tip.id);
        if repository.is_ancestor(&git, base, tip).await? {
            return Ok(None);
        }
        if repository.is_ancestor(&git, tip, base).await? {
            drop(git);
            self.tip = self.base.clone();
            return Ok(None);
        }
        Ok(Some(format!(
            "the base {base} has commits that the branch {} does not have, and no task will see them; merge the base \
             into the branch if tasks should",
            self.repositories.settings.branch
        )))
    }

    /// The content of a file in a commit; `None` if there is no such file.
    pub async fn read_file(
        &self,
        commit: &Commit,
        path: &str,
    ) -> Result<Option<Vec<u8>>, IntegrationError> {
        let git = self.repositories.git()?;
        let blob = self
            .repositories
            .bare
            .read_file(&git, &commit.tree, path)
            .await?;
        Ok(blob.map(|blob| blob.content))
    }

    /// The content of a file in a commit, as a worker would read it in its clone; `None` if there is nothing at the
    /// path.
    ///
    /// # Errors
    /// If something else than a file of at most `limit` bytes is there, or something else than a directory is
    /// in its path.
    pub async fn read_small_file(
        &self,
        commit: &Commit,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, IntegrationError> {
        let git = self.repositories.git()?;
        let repository = &self.repositories.bare;
        let entry = repository
            .read_entry(&git, &commit.tree, path, limit)
            .await?;
        match entry {
            TreeEntry::File(blob) => Ok(Some(blob.content)),
            TreeEntry::Missing => match path.rsplit_once('/') {
                Some((parent, _)) if !self.may_be_directory(&git, commit, parent).await? => {
                    Err(FileError::NotRegular { path: path.into() }.into())
                }
                _ => Ok(None),
            },
            TreeEntry::Directory | TreeEntry::NotRegular => {
                Err(FileError::NotRegular { path: path.into() }.into())
            }
            TreeEntry::TooLarge => Err(FileError::TooLarge {
                path: path.into(),
                limit,
            }
            .into()),
        }
    }

    /// The text of a file, as a worker would read it in its clone; `None` if there is no file. The inner error is a
    /// message about a mistake in the project.
    pub async fn read_text(
        &self,
        commit: &Commit,
        path: &str,
        limit: u64,
    ) -> Result<Result<Option<String>, String>, IntegrationError> {
        match self.read_small_file(commit, path, limit).await {
            Ok(content) => Ok(content
                .map(String::from_utf8)
                .transpose()
                .map_err(|_| format!("{path} is not UTF-8"))),
            Err(IntegrationError::ProjectFile(error)) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a directory, or nothing, at a path of a commit. If something else is at a part of the path, the
    /// path cannot be that of a directory.
    async fn may_be_directory(
        &self,
        git: &Git<'_>,
        commit: &Commit,
        path: &str,
    ) -> Result<bool, IntegrationError> {
        let repository = &self.repositories.bare;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let entry = repository.read_entry(git, &commit.tree, &path[..end], 0);
            match entry.await? {
                TreeEntry::Directory => {}
                TreeEntry::Missing => return Ok(true),
                TreeEntry::File(_) | TreeEntry::NotRegular | TreeEntry::TooLarge => {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether one of these files or directories differs between two commits.
    pub async fn paths_differ(
        &self,
        one: &Commit,
        other: &Commit,
        paths: &[&str],
    ) -> Result<bool, IntegrationError> {
        let git = self.repositories.git()?;
        let repository = &self.repositories.bare;
        repository
            .paths_differ(&git, &one.tree, &other.tree, paths)
            .await
    }

    /// The last commit of the branch.
    pub fn tip(&self) -> &Commit {
        &self.tip
    }

    /// The commit that the setting for the base named when the branch was opened.
    pub fn base(&self) -> &Commit {
        &self.base
    }

    /// The directory of the bare repository.
    pub fn dir(&self) -> &Path {
        self.repositories.bare.dir()
    }
}
