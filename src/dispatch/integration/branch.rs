//! The integration branch: opened at its base, or where it was left.

use std::path::Path;
use std::sync::Arc;

use super::error::IntegrationError;
use super::place::{BASE, PUBLISHED, Place};
use super::types::{Commit, Settings};

/// The integration branch.
#[derive(Debug)]
pub struct Integration {
    pub(super) place: Arc<Place>,
    /// The commit that the branch began at; later, if a new dispatch found the branch merged into its base.
    pub(super) base: Commit,
    pub(super) tip: Commit,
    /// The branch as the user's repository or the remote has it, as far as this program knows.
    pub(super) published: Option<String>,
}

/// An opened integration branch, and sentences about what a person should know.
#[derive(Debug)]
pub struct Opened {
    pub integration: Integration,
    pub notes: Vec<String>,
}

impl Integration {
    /// Opens the branch, or begins it at the base. Changes nothing in the user's repository or the remote.
    pub async fn open(settings: Settings) -> Result<Opened, IntegrationError> {
        let place = Place::open(settings).await?;
        let git = place.git()?;
        let mut notes = Vec::new();
        let base = place.find_base(&git).await?;
        let branch = &place.settings.branch;
        let repository = &place.repository;
        let ours = repository
            .resolve(&git, &format!("refs/heads/{branch}"))
            .await?;
        let published = repository.resolve(&git, PUBLISHED).await?;
        let old_base = repository.resolve(&git, BASE).await?;
        let theirs = place.read_branch(&git, branch).await?;
        let (tip, published) = match (ours, published, theirs) {
            // Nothing was merged yet, so the branch begins at the base of today.
            (Some(ours), None, None) if Some(&ours) == old_base.as_ref() => (base.clone(), None),
            (Some(ours), Some(published), Some(_)) => (ours, Some(published.id)),
            (Some(ours), None, _) => (ours, None),
            (None, _, Some(theirs)) => (theirs.clone(), Some(theirs.id)),
            (Some(_), Some(_), None) => {
                notes.push(format!(
                    "the branch {branch} was deleted, so it begins again at {}",
                    &base.id
                ));
                (base.clone(), None)
            }
            (None, _, None) => (base.clone(), None),
        };
        drop(git);
        let mut integration = Self {
            place: Arc::new(place),
            base,
            tip,
            published,
        };
        integration.sync().await?;
        notes.extend(integration.follow_base().await?);
        integration.name_commits().await?;
        Ok(Opened { integration, notes })
    }

    /// Gives the base and the tip a name: git accepts a push from a shallow clone only if a name leads to the
    /// commit that the clone begins at.
    async fn name_commits(&self) -> Result<(), IntegrationError> {
        let git = self.place.git()?;
        let repository = &self.place.repository;
        let branch = format!("refs/heads/{}", self.place.settings.branch);
        repository.set(&git, BASE, &self.base.id, None).await?;
        repository.set(&git, &branch, &self.tip.id, None).await
    }

    /// Moves the tip to the base if the base holds everything of the branch; says if the base has commits that
    /// the branch does not have.
    async fn follow_base(&mut self) -> Result<Option<String>, IntegrationError> {
        let git = self.place.git()?;
        let repository = &self.place.repository;
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
            self.place.settings.branch
        )))
    }

    /// The content of a file in a commit; `None` if there is no such file.
    pub async fn read_file(
        &self,
        commit: &Commit,
        path: &str,
    ) -> Result<Option<Vec<u8>>, IntegrationError> {
        let git = self.place.git()?;
        let blob = self
            .place
            .repository
            .read_file(&git, &commit.tree, path)
            .await?;
        Ok(blob.map(|blob| blob.content))
    }

    /// The commit and the tree that the branch is at.
    pub fn tip(&self) -> &Commit {
        &self.tip
    }

    /// The commit that this dispatch began at.
    pub fn base(&self) -> &Commit {
        &self.base
    }

    /// The bare repository.
    pub fn dir(&self) -> &Path {
        self.place.repository.dir()
    }
}
