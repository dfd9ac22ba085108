//! The integration branch in the user's repository or on the remote: published, and read again if a person
//! has pushed to it.

use super::branch::Integration;
use super::error::IntegrationError;
use super::merge::Tree;
use super::place::PUBLISHED;
use super::types::{Accepted, Commit, FastForward, Source, Synced};
use crate::git::{Git, GitError};
use std::sync::Arc;

/// What the other side said to a push.
enum Push {
    Accepted,
    /// The branch is not where it was expected.
    Stale,
    Refused(GitError),
}

impl Integration {
    /// Moves the integration branch to a candidate, here and in the user's repository or on the remote.
    pub async fn accept(&mut self, candidate: &Commit) -> Result<Accepted, IntegrationError> {
        let place = Arc::clone(&self.place);
        let git = place.git()?;
        if self
            .place
            .repository
            .is_ancestor(&git, &candidate.id, &self.tip.id)
            .await?
        {
            return Ok(Accepted::Moved { unpublished: None });
        }
        if !self
            .place
            .repository
            .is_ancestor(&git, &self.tip.id, &candidate.id)
            .await?
        {
            return Ok(Accepted::TipChanged);
        }
        let unpublished = match self.push_branch(&git, &candidate.id).await {
            Push::Accepted => None,
            Push::Stale => {
                drop(git);
                self.sync().await?;
                return Ok(Accepted::TipChanged);
            }
            // A branch that is checked out must not keep the work from going on.
            Push::Refused(error) if matches!(self.place.settings.source, Source::Local(_)) => {
                Some(self.refusal(&error))
            }
            Push::Refused(error) => return Err(self.not_published(error)),
        };
        let published = unpublished.is_none();
        self.set_tip(&git, candidate.clone()).await?;
        if published {
            self.set_published(&git, &candidate.id).await?;
        }
        Ok(Accepted::Moved { unpublished })
    }

    /// Looks whether a person has pushed to the branch, and takes their commits over.
    pub async fn sync(&mut self) -> Result<Synced, IntegrationError> {
        let place = Arc::clone(&self.place);
        let git = place.git()?;
        let Some(theirs) = self.place.read_published(&git).await? else {
            return Ok(Synced::Unchanged);
        };
        if Some(&theirs.id) == self.published.as_ref() {
            return Ok(Synced::Unchanged);
        }
        if let Some(published) = &self.published
            && self
                .place
                .repository
                .is_ancestor(&git, &theirs.id, published)
                .await?
        {
            return Err(IntegrationError::MovedBack {
                branch: self.place.settings.branch.clone(),
                source_name: self.place.target(),
                published: published.clone(),
                now: theirs.id,
            });
        }
        let synced = self.join(&git, &theirs).await?;
        self.set_published(&git, &theirs.id).await?;
        Ok(synced)
    }

    /// Moves the tip so that it holds `theirs`.
    async fn join(&mut self, git: &Git<'_>, theirs: &Commit) -> Result<Synced, IntegrationError> {
        let (ours, theirs) = (self.tip.clone(), theirs.clone());
        if self
            .place
            .repository
            .is_ancestor(git, &theirs.id, &ours.id)
            .await?
        {
            return Ok(Synced::Unchanged);
        }
        let tip = if self
            .place
            .repository
            .is_ancestor(git, &ours.id, &theirs.id)
            .await?
        {
            theirs
        } else {
            // Merges that could not be published, and a person's commits.
            match self.merge_trees(git, &theirs.id, &ours.id).await? {
                Tree::Clean(tree) => {
                    let parents = [theirs.id.as_str(), ours.id.as_str()];
                    let seconds = self.place.repository.latest_date(git, parents).await?;
                    let message =
                        format!("Merge the dispatch {}\n", self.place.settings.dispatch_id);
                    let id = self.commit(git, &tree, &parents, &message, seconds).await?;
                    Commit { id, tree }
                }
                Tree::Conflicts(files) => {
                    return Err(IntegrationError::Diverged {
                        branch: self.place.settings.branch.clone(),
                        source_name: self.place.target(),
                        ours: ours.id,
                        files,
                    });
                }
            }
        };
        self.set_tip(git, tip).await?;
        Ok(Synced::TipChanged)
    }

    /// Publishes the tip, if the user's repository or the remote does not have it yet; says why not.
    pub async fn publish(&mut self) -> Result<Option<String>, IntegrationError> {
        self.sync().await?;
        if self.published.as_ref() == Some(&self.tip.id) || self.tip.id == self.base.id {
            return Ok(None);
        }
        let place = Arc::clone(&self.place);
        let git = place.git()?;
        match self.push_branch(&git, &self.tip.id).await {
            Push::Accepted => {
                let tip = self.tip.id.clone();
                self.set_published(&git, &tip).await?;
                Ok(None)
            }
            Push::Stale => Ok(Some(format!(
                "the branch {} moved while it was published; run the same command again",
                self.place.settings.branch
            ))),
            Push::Refused(error) => Ok(Some(self.refusal(&error))),
        }
    }

    /// Moves another branch of the user's repository or the remote forward to the tip, if it is an ancestor.
    pub async fn fast_forward(&self, into: &str) -> Result<FastForward, IntegrationError> {
        let git = self.place.git()?;
        let target = self.place.target();
        let Some(current) = self.place.read_branch(&git, into).await? else {
            return Ok(FastForward::NotPossible(format!(
                "{target} has no branch {into}"
            )));
        };
        let (tip, branch) = (&self.tip.id, &self.place.settings.branch);
        if self
            .place
            .repository
            .is_ancestor(&git, tip, &current.id)
            .await?
        {
            return Ok(FastForward::AlreadyThere);
        }
        if !self
            .place
            .repository
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
            .place
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

    async fn push_branch(&self, git: &Git<'_>, commit: &str) -> Push {
        let name = format!("refs/heads/{}", self.place.settings.branch);
        let published = self.published.as_deref().unwrap_or_default();
        let lease = format!("--force-with-lease={name}:{published}");
        let refspec = format!("{commit}:{name}");
        match self
            .place
            .push_to(git, &self.place.target(), &refspec, Some(lease))
            .await
        {
            Ok(()) => Push::Accepted,
            Err(error) if is_stale(&error) => Push::Stale,
            Err(error) => Push::Refused(error),
        }
    }

    async fn set_tip(&mut self, git: &Git<'_>, tip: Commit) -> Result<(), IntegrationError> {
        let name = format!("refs/heads/{}", self.place.settings.branch);
        self.place.repository.set(git, &name, &tip.id, None).await?;
        self.tip = tip;
        Ok(())
    }

    async fn set_published(&mut self, git: &Git<'_>, id: &str) -> Result<(), IntegrationError> {
        self.place.repository.set(git, PUBLISHED, id, None).await?;
        self.published = Some(id.to_owned());
        Ok(())
    }

    /// Why the user's repository did not accept the branch.
    fn refusal(&self, error: &GitError) -> String {
        let branch = &self.place.settings.branch;
        if is_checked_out(error) {
            format!(
                "{branch} is checked out, and a work tree is never changed by a dispatch; check out another branch, and run the same command again"
            )
        } else {
            format!("{branch} could not be published: {}", error.summary())
        }
    }

    fn not_published(&self, error: GitError) -> IntegrationError {
        let what = format!(
            "{} cannot be pushed to {}",
            self.place.settings.branch,
            self.place.target()
        );
        IntegrationError::Git { what, error }
    }
}

fn is_checked_out(error: &GitError) -> bool {
    error.words.contains("branch is currently checked out")
}

/// Whether a push was rejected because the branch is not where it was expected.
fn is_stale(error: &GitError) -> bool {
    let words = [
        "stale info",
        "fetch first",
        "non-fast-forward",
        "but expected",
        "incorrect old value",
        "reference already exists",
    ];
    words.iter().any(|stale| error.words.contains(stale))
}
