//! Publishes the integration branch to the user's repository or to the remote, and adds commits that users have pushed
//! to the published branch.

use super::branch::Integration;
use super::error::IntegrationError;
use super::merge::MergedTree;
use super::repositories::PUBLISHED_REFERENCE;
use super::types::{AcceptResult, Commit, FastForward, Source, SyncResult};
use crate::git::{Git, GitError};
use std::sync::Arc;

/// The result of a push.
enum PushResult {
    Accepted,
    /// The published branch is not at the expected commit.
    Stale,
    /// The repository has refused the push, or could not be reached.
    Refused(GitError),
}

impl Integration {
    /// Moves the integration branch to a candidate: first the published branch, then the branch in the bare repository.
    /// In this order, a commit that a user has pushed meanwhile is found before anything has changed.
    pub async fn accept(&mut self, candidate: &Commit) -> Result<AcceptResult, IntegrationError> {
        let repositories = Arc::clone(&self.repositories);
        let git = repositories.git()?;
        // The branch may contain the candidate already, if the step is repeated.
        if self
            .repositories
            .bare
            .is_ancestor(&git, &candidate.id, &self.tip.id)
            .await?
        {
            return Ok(AcceptResult::Moved { unpublished: None });
        }
        // The candidate may have been made on an earlier tip.
        if !self
            .repositories
            .bare
            .is_ancestor(&git, &self.tip.id, &candidate.id)
            .await?
        {
            return Ok(AcceptResult::TipChanged);
        }
        let unpublished = match self.push_branch(&git, &candidate.id).await {
            PushResult::Accepted => None,
            PushResult::Stale => {
                drop(git);
                self.sync().await?;
                return Ok(AcceptResult::TipChanged);
            }
            // The user may have the branch checked out. The dispatch goes on, and publishes the branch later.
            PushResult::Refused(error)
                if matches!(self.repositories.settings.source, Source::Local(_)) =>
            {
                Some(self.explain_refusal(&error))
            }
            PushResult::Refused(error) => return Err(self.publish_error(error)),
        };
        let is_published = unpublished.is_none();
        self.set_tip(&git, candidate.clone()).await?;
        if is_published {
            self.set_published(&git, &candidate.id).await?;
        }
        Ok(AcceptResult::Moved { unpublished })
    }

    /// Adds the commits that users have pushed to the published branch to the integration branch, if there are any.
    pub async fn sync(&mut self) -> Result<SyncResult, IntegrationError> {
        let repositories = Arc::clone(&self.repositories);
        let git = repositories.git()?;
        let Some(theirs) = self.repositories.read_published_branch(&git).await? else {
            return Ok(SyncResult::Unchanged);
        };
        if Some(&theirs.id) == self.published.as_ref() {
            return Ok(SyncResult::Unchanged);
        }
        if let Some(published) = &self.published
            && self
                .repositories
                .bare
                .is_ancestor(&git, &theirs.id, published)
                .await?
        {
            return Err(IntegrationError::MovedBack {
                branch: self.repositories.settings.branch.clone(),
                source_name: self.repositories.published_repository(),
                published: published.clone(),
                now: theirs.id,
            });
        }
        let sync_result = self.merge_with_published(&git, &theirs).await?;
        self.set_published(&git, &theirs.id).await?;
        Ok(sync_result)
    }

    /// Moves the tip so that it contains `theirs`, the commit of the published branch.
    async fn merge_with_published(
        &mut self,
        git: &Git<'_>,
        theirs: &Commit,
    ) -> Result<SyncResult, IntegrationError> {
        let (ours, theirs) = (self.tip.clone(), theirs.clone());
        if self
            .repositories
            .bare
            .is_ancestor(git, &theirs.id, &ours.id)
            .await?
        {
            return Ok(SyncResult::Unchanged);
        }
        let tip = if self
            .repositories
            .bare
            .is_ancestor(git, &ours.id, &theirs.id)
            .await?
        {
            theirs
        } else {
            // Both branches have new commits: merges that could not be published, and pushes of users.
            match self.merge_trees(git, &theirs.id, &ours.id).await? {
                MergedTree::Clean(tree) => {
                    let parents = [theirs.id.as_str(), ours.id.as_str()];
                    let seconds = self.repositories.bare.latest_date(git, parents).await?;
                    let message = format!(
                        "Merge the dispatch {}\n",
                        self.repositories.settings.dispatch_id
                    );
                    let id = self.commit(git, &tree, &parents, &message, seconds).await?;
                    Commit { id, tree }
                }
                MergedTree::Conflicts(files) => {
                    return Err(IntegrationError::Diverged {
                        branch: self.repositories.settings.branch.clone(),
                        source_name: self.repositories.published_repository(),
                        ours: ours.id,
                        files,
                    });
                }
            }
        };
        self.set_tip(git, tip).await?;
        Ok(SyncResult::TipChanged)
    }

    /// Publishes the tip if it is not published yet. Returns the reason if that is not possible now.
    pub async fn publish(&mut self) -> Result<Option<String>, IntegrationError> {
        self.sync().await?;
        if self.published.as_ref() == Some(&self.tip.id) || self.tip.id == self.base.id {
            return Ok(None);
        }
        let repositories = Arc::clone(&self.repositories);
        let git = repositories.git()?;
        match self.push_branch(&git, &self.tip.id).await {
            PushResult::Accepted => {
                let tip = self.tip.id.clone();
                self.set_published(&git, &tip).await?;
                Ok(None)
            }
            PushResult::Stale => Ok(Some(format!(
                "the branch {} moved while it was published; run the same command again",
                self.repositories.settings.branch
            ))),
            PushResult::Refused(error) => Ok(Some(self.explain_refusal(&error))),
        }
    }

    /// Moves another published branch forward to the tip, if that branch is an ancestor of the tip.
    pub async fn fast_forward(&self, into: &str) -> Result<FastForward, IntegrationError> {
        let git = self.repositories.git()?;
        let target = self.repositories.published_repository();
        let Some(current) = self.repositories.read_branch(&git, into).await? else {
            return Ok(FastForward::NotPossible(format!(
                "{target} has no branch {into}"
            )));
        };
        let (tip, branch) = (&self.tip.id, &self.repositories.settings.branch);
        if self
            .repositories
            .bare
            .is_ancestor(&git, tip, &current.id)
            .await?
        {
            return Ok(FastForward::AlreadyThere);
        }
        if !self
            .repositories
            .bare
            .is_ancestor(&git, &current.id, tip)
            .await?
        {
            return Ok(FastForward::NotPossible(format!(
                "{into} has commits that {branch} does not have; merge {branch} into {into} by hand"
            )));
        }
        let refspec = format!("{tip}:refs/heads/{into}");
        let lease = format!("--force-with-lease=refs/heads/{into}:{}", current.id);
        match self
            .repositories
            .push_to(&git, &target, &refspec, Some(lease))
            .await
        {
            Ok(()) => Ok(FastForward::Done),
            Err(error) if is_checked_out(&error) => Ok(FastForward::NotPossible(format!(
                "{into} is checked out, and a work tree is never changed by a dispatch; run there: git merge --ff-only {branch}"
            ))),
            Err(error) => Ok(FastForward::NotPossible(error.summary())),
        }
    }

    /// Pushes a commit to the published branch, if that branch is still at the last known commit.
    async fn push_branch(&self, git: &Git<'_>, commit: &str) -> PushResult {
        let name = format!("refs/heads/{}", self.repositories.settings.branch);
        let published = self.published.as_deref().unwrap_or_default();
        let lease = format!("--force-with-lease={name}:{published}");
        let refspec = format!("{commit}:{name}");
        match self
            .repositories
            .push_to(
                git,
                &self.repositories.published_repository(),
                &refspec,
                Some(lease),
            )
            .await
        {
            Ok(()) => PushResult::Accepted,
            Err(error) if is_stale(&error) => PushResult::Stale,
            Err(error) => PushResult::Refused(error),
        }
    }

    /// Moves the branch in the bare repository.
    async fn set_tip(&mut self, git: &Git<'_>, tip: Commit) -> Result<(), IntegrationError> {
        let name = format!("refs/heads/{}", self.repositories.settings.branch);
        self.repositories
            .bare
            .set_reference(git, &name, &tip.id)
            .await?;
        self.tip = tip;
        Ok(())
    }

    /// Stores the last known commit of the published branch.
    async fn set_published(&mut self, git: &Git<'_>, id: &str) -> Result<(), IntegrationError> {
        self.repositories
            .bare
            .set_reference(git, PUBLISHED_REFERENCE, id)
            .await?;
        self.published = Some(id.to_owned());
        Ok(())
    }

    /// Explains to the user why a push of the branch was refused.
    fn explain_refusal(&self, error: &GitError) -> String {
        let branch = &self.repositories.settings.branch;
        if is_checked_out(error) {
            format!(
                "{branch} is checked out, and a work tree is never changed by a dispatch; check out another branch, and run the same command again"
            )
        } else {
            format!("{branch} could not be published: {}", error.summary())
        }
    }

    /// The error for a remote that refuses the branch.
    fn publish_error(&self, error: GitError) -> IntegrationError {
        let what = format!(
            "{} cannot be pushed to {}",
            self.repositories.settings.branch,
            self.repositories.published_repository()
        );
        IntegrationError::Git { what, error }
    }
}

/// Whether a push was refused because the branch is checked out.
fn is_checked_out(error: &GitError) -> bool {
    error.messages.contains("branch is currently checked out")
}

/// Whether a push was refused because the branch is at another commit than expected.
fn is_stale(error: &GitError) -> bool {
    let messages_of_git = [
        "stale info",
        "fetch first",
        "non-fast-forward",
        "but expected",
        "incorrect old value",
        "reference already exists",
    ];
    messages_of_git
        .iter()
        .any(|message| error.messages.contains(message))
}
