//! The branches that runs push, and the branches of candidates: in the bare repository, and on the remote if the
//! workers run on other machines. The names of all branches of a run begin with a directory for this run. git allows
//! no branch `a/b` if there is a branch `a`; with the directory, no branch of a run prevents another branch.

use std::sync::Arc;

use super::branch::Integration;
use super::error::IntegrationError;
use super::repositories::Repositories;
use super::types::{Candidate, RunBranch, Source, WorkerLocation};
use crate::git::Git;

/// The directory of the branches of all runs. No integration branch is in it.
const RUNS_DIRECTORY: &str = "descartes-runs";
/// The last part of the name of the branch with the candidate of a run. A worker on another machine clones this branch
/// to run the checks.
const CANDIDATE_BRANCH: &str = "candidate";
/// The directory in the user's repository for the branches of runs whose work was not merged. `git branch` does
/// not list them.
const UNMERGED_RUNS_DIRECTORY: &str = "refs/descartes/runs";

impl Integration {
    /// The URL that workers clone from and push to (`DESCARTES_REPO`).
    pub fn clone_url(&self) -> String {
        match (
            &self.repositories.settings.source,
            self.repositories.settings.worker_location,
        ) {
            (Source::Remote(url), WorkerLocation::Elsewhere) => url.clone(),
            _ => url_of_dir(self.repositories.bare.dir()),
        }
    }

    /// The branch that a worker pushes to (`DESCARTES_BRANCH`).
    pub fn run_branch(run_id: &str) -> String {
        format!("{RUNS_DIRECTORY}/{run_id}/work")
    }

    /// Publishes a candidate so that a worker can clone it; returns the commit (`DESCARTES_REF`). The candidate's
    /// branch is deleted with the branches of the run.
    pub async fn publish_candidate(
        &self,
        candidate: &Candidate,
    ) -> Result<String, IntegrationError> {
        let git = self.repositories.git()?;
        let (commit, run_id) = (&candidate.commit.id, &candidate.run_id);
        self.repositories
            .bare
            .set_reference(&git, &candidate_reference(run_id), commit)
            .await?;
        if let Some(url) = self.repositories.remote_of_workers() {
            let name = format!("refs/heads/{RUNS_DIRECTORY}/{run_id}/{CANDIDATE_BRANCH}");
            self.repositories
                .push_to(&git, url, &format!("+{commit}:{name}"), None)
                .await
                .map_err(IntegrationError::git(format!(
                    "a merge that must be checked cannot be pushed to {url}"
                )))?;
        }
        Ok(candidate.commit.id.clone())
    }

    /// Access to the branches that runs have pushed, for use while the merge task owns the integration branch.
    pub fn run_branches(&self) -> RunBranches {
        RunBranches {
            repositories: Arc::clone(&self.repositories),
        }
    }

    /// Deletes all branches of some runs in all repositories.
    pub async fn delete_run_branches(&self, run_ids: &[String]) -> Result<(), IntegrationError> {
        // Without a pattern, git would list all references.
        if run_ids.is_empty() {
            return Ok(());
        }
        let git = self.repositories.git()?;
        let pushed = run_ids
            .iter()
            .map(|id| format!("refs/heads/{RUNS_DIRECTORY}/{id}/"));
        if let Some(url) = self.repositories.remote_of_workers() {
            let patterns: Vec<String> = pushed.clone().map(|prefix| prefix + "*").collect();
            let names = self.repositories.list_remote(&git, url, &patterns).await?;
            self.repositories
                .delete_from(&git, url, names.into_iter().map(|(name, _)| name))
                .await?;
        }
        let candidates = run_ids.iter().map(|id| candidate_reference(id));
        let prefixes: Vec<String> = pushed.chain(candidates).collect();
        let repository = &self.repositories.bare;
        let names = repository.references(&git, &prefixes).await?;
        repository
            .delete_references(&git, names.iter().map(|(name, _)| name.as_str()))
            .await?;
        if let Some(target) = self.repository_for_unmerged_runs() {
            let ids = run_ids.iter();
            let patterns: Vec<String> = ids
                .map(|id| format!("{}/*", self.directory_of_unmerged_run(id)))
                .collect();
            let names = self
                .repositories
                .list_remote(&git, &target, &patterns)
                .await?;
            self.repositories
                .delete_from(&git, &target, names.into_iter().map(|(name, _)| name))
                .await?;
        }
        Ok(())
    }

    /// Copies the branches of a run whose work was not merged to the user's repository or to the remote, if they are
    /// not there already. Returns their names there.
    pub async fn copy_unmerged_branches(
        &self,
        run_id: &str,
    ) -> Result<Vec<String>, IntegrationError> {
        let branches = self.run_branches().find(run_id).await?;
        let Some(target) = self.repository_for_unmerged_runs() else {
            return Ok(branches.into_iter().map(|branch| branch.name).collect());
        };
        let git = self.repositories.git()?;
        let mut names = Vec::new();
        for branch in branches {
            let prefix = format!("{RUNS_DIRECTORY}/{run_id}/");
            let name = branch.name.strip_prefix(&prefix).unwrap_or("work");
            let name = format!("{}/{name}", self.directory_of_unmerged_run(run_id));
            self.repositories
                .push_to(&git, &target, &format!("+{}:{name}", branch.commit), None)
                .await
                .map_err(IntegrationError::git(format!(
                    "the work of run {run_id} cannot be copied to {target}"
                )))?;
            names.push(name);
        }
        Ok(names)
    }

    /// The directory of the branches of a run in the repository that they are copied to.
    fn directory_of_unmerged_run(&self, run_id: &str) -> String {
        match self.repositories.settings.source {
            Source::Local(_) => format!("{UNMERGED_RUNS_DIRECTORY}/{run_id}"),
            Source::Remote(_) => format!("refs/heads/{RUNS_DIRECTORY}/{run_id}"),
        }
    }

    /// The repository that unmerged branches are copied to; `None` if the workers have pushed them there already.
    fn repository_for_unmerged_runs(&self) -> Option<String> {
        match self.repositories.settings.worker_location {
            WorkerLocation::OnThisMachine => Some(self.repositories.published_repository()),
            WorkerLocation::Elsewhere => None,
        }
    }
}

impl Repositories {
    /// Fetches the branches of a run if the workers push them to the remote.
    pub(super) async fn fetch_run_branches(
        &self,
        git: &Git<'_>,
        run_id: &str,
    ) -> Result<(), IntegrationError> {
        let Some(url) = self.remote_of_workers() else {
            return Ok(());
        };
        let pattern = format!(
            "+refs/heads/{RUNS_DIRECTORY}/{run_id}/*:refs/heads/{RUNS_DIRECTORY}/{run_id}/*"
        );
        self.fetch_from(git, url, &[pattern]).await
    }

    /// The URL of the remote, if the workers clone from it and push to it.
    fn remote_of_workers(&self) -> Option<&str> {
        match (&self.settings.source, self.settings.worker_location) {
            (Source::Remote(url), WorkerLocation::Elsewhere) => Some(url),
            _ => None,
        }
    }
}

/// Access to the branches that runs have pushed.
#[derive(Debug, Clone)]
pub struct RunBranches {
    repositories: Arc<Repositories>,
}

impl RunBranches {
    /// The branches that a run has pushed.
    pub async fn find(&self, run_id: &str) -> Result<Vec<RunBranch>, IntegrationError> {
        let git = self.repositories.git()?;
        self.repositories.fetch_run_branches(&git, run_id).await?;
        let format = "--format=%(objectname)%09%(refname:lstrip=2)%09%(contents:trailers:key=Run-Id,valueonly,separator=%x2C)%09%(contents:trailers:key=Task-Id,valueonly,separator=%x2C)";
        let prefix = format!("refs/heads/{RUNS_DIRECTORY}/{run_id}/");
        let call = self
            .repositories
            .bare
            .call(["for-each-ref", format, &prefix]);
        let what = "the branches of a run cannot be listed";
        let text = self.repositories.bare.run(&git, what, call).await?;
        let candidate = format!("{RUNS_DIRECTORY}/{run_id}/{CANDIDATE_BRANCH}");
        let branches = text.lines().filter_map(|line| {
            let mut fields = line.split('\t');
            let mut next = || fields.next().map(str::to_owned);
            let (commit, name) = (next()?, next()?);
            if name == candidate {
                return None;
            }
            Some(RunBranch {
                is_partial: name.ends_with("-wip") || name.contains("/work-wip"),
                commit,
                name,
                run_id: next()?,
                task_id: next()?,
            })
        });
        Ok(branches.collect())
    }
}

/// The reference of a run's candidate in the bare repository.
fn candidate_reference(run_id: &str) -> String {
    format!("refs/descartes/candidates/{run_id}")
}

/// The `file://` URL of a directory. Other bytes than letters, digits and `/-._~` are percent-encoded.
fn url_of_dir(dir: &std::path::Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let mut url = "file://".to_owned();
    for byte in dir.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}
