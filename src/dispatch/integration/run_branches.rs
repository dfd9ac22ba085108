//! The branches that runs push, and the candidates: in the bare repository, and on the remote if the workers
//! run elsewhere.
//!
//! All branches of a run are below a directory that is named after it, so that no branch can be in the way of
//! another one, or of the integration branch.

use std::sync::Arc;

use super::branch::Integration;
use super::error::IntegrationError;
use super::place::Place;
use super::types::{Candidate, RunBranch, Source, Workers};
use crate::git::Git;

/// All branches of runs; no integration branch is below it.
const RUNS: &str = "descartes-runs";
/// The last part of the name of the branch with a run's merge, by which a worker elsewhere can clone it.
const CANDIDATE: &str = "candidate";
/// Where the user's repository has the branches of runs whose work was not merged: not in the list of branches.
const UNMERGED_RUNS: &str = "refs/descartes/runs";

impl Integration {
    /// The URL that workers clone from and push to (`DESCARTES_REPO`).
    pub fn clone_url(&self) -> String {
        match (&self.place.settings.source, self.place.settings.workers) {
            (Source::Remote(url), Workers::Elsewhere) => url.clone(),
            _ => file_url(self.place.repository.dir()),
        }
    }

    /// The branch that a worker pushes to (`DESCARTES_BRANCH`).
    pub fn run_branch(run_id: &str) -> String {
        format!("{RUNS}/{run_id}/work")
    }

    /// Makes sure that a worker can clone a candidate; returns the commit (`DESCARTES_REF`). The branch by which
    /// it does that is deleted with the branches of the run.
    pub async fn offer(&self, candidate: &Candidate) -> Result<String, IntegrationError> {
        let git = self.place.git()?;
        let (commit, run_id) = (&candidate.commit.id, &candidate.run_id);
        self.place
            .repository
            .set(&git, &candidate_name(run_id), commit, None)
            .await?;
        if let Some(url) = self.place.remote_of_workers() {
            let name = format!("refs/heads/{RUNS}/{run_id}/{CANDIDATE}");
            self.place
                .push_to(&git, url, &format!("+{commit}:{name}"), None)
                .await
                .map_err(IntegrationError::git(format!(
                    "a merge that must be checked cannot be pushed to {url}"
                )))?;
        }
        Ok(candidate.commit.id.clone())
    }

    /// The branches that runs have pushed; can be asked while a merge owns the integration branch.
    pub fn run_branches(&self) -> RunBranches {
        RunBranches {
            place: Arc::clone(&self.place),
        }
    }

    /// Deletes all branches of some runs, everywhere.
    pub async fn drop_run_branches(&self, run_ids: &[String]) -> Result<(), IntegrationError> {
        let git = self.place.git()?;
        let pushed = run_ids.iter().map(|id| format!("refs/heads/{RUNS}/{id}/"));
        if let Some(url) = self.place.remote_of_workers() {
            let patterns: Vec<String> = pushed.clone().map(|prefix| prefix + "*").collect();
            let names = self.place.list_remote(&git, url, &patterns).await?;
            self.place
                .delete_at(&git, url, names.into_iter().map(|(name, _)| name))
                .await?;
        }
        let candidates = run_ids.iter().map(|id| candidate_name(id));
        let prefixes: Vec<String> = pushed.chain(candidates).collect();
        let repository = &self.place.repository;
        let names = repository.references(&git, &prefixes).await?;
        repository
            .delete_references(&git, names.iter().map(|(name, _)| name.as_str()))
            .await?;
        if let Some(target) = self.target_of_unmerged_runs() {
            let ids = run_ids.iter();
            let patterns: Vec<String> = ids
                .map(|id| format!("{}/*", self.names_of_unmerged_run(id)))
                .collect();
            let names = self.place.list_remote(&git, &target, &patterns).await?;
            self.place
                .delete_at(&git, &target, names.into_iter().map(|(name, _)| name))
                .await?;
        }
        Ok(())
    }

    /// Copies the branches of a run whose work was not merged to where a person can see them; returns their
    /// names there. In a repository on this machine these are references outside the list of branches.
    pub async fn keep_run_branches(&self, run_id: &str) -> Result<Vec<String>, IntegrationError> {
        let branches = self.run_branches().find(run_id).await?;
        let Some(target) = self.target_of_unmerged_runs() else {
            return Ok(branches.into_iter().map(|branch| branch.name).collect());
        };
        let git = self.place.git()?;
        let mut names = Vec::new();
        for branch in branches {
            let last = branch.name.rsplit('/').next().unwrap_or("work");
            let name = format!("{}/{last}", self.names_of_unmerged_run(run_id));
            self.place
                .push_to(&git, &target, &format!("+{}:{name}", branch.commit), None)
                .await
                .map_err(IntegrationError::git(format!(
                    "the work of run {run_id} cannot be copied to {target}"
                )))?;
            names.push(name);
        }
        Ok(names)
    }

    /// The directory of a run's branches there.
    fn names_of_unmerged_run(&self, run_id: &str) -> String {
        match self.place.settings.source {
            Source::Local(_) => format!("{UNMERGED_RUNS}/{run_id}"),
            Source::Remote(_) => format!("refs/heads/{RUNS}/{run_id}"),
        }
    }

    /// Where branches are copied to that a person should see; `None` if the workers push them there.
    fn target_of_unmerged_runs(&self) -> Option<String> {
        match self.place.settings.workers {
            Workers::OnThisMachine => Some(self.place.target()),
            Workers::Elsewhere => None,
        }
    }
}

impl Place {
    /// Fetches the branches of a run if the workers push them to the remote.
    pub(super) async fn fetch_run_branches(
        &self,
        git: &Git<'_>,
        run_id: &str,
    ) -> Result<(), IntegrationError> {
        let Some(url) = self.remote_of_workers() else {
            return Ok(());
        };
        let pattern = format!("+refs/heads/{RUNS}/{run_id}/*:refs/heads/{RUNS}/{run_id}/*");
        self.fetch_from(git, url, &[pattern]).await
    }

    fn remote_of_workers(&self) -> Option<&str> {
        match (&self.settings.source, self.settings.workers) {
            (Source::Remote(url), Workers::Elsewhere) => Some(url),
            _ => None,
        }
    }
}

/// The branches that runs have pushed.
#[derive(Debug, Clone)]
pub struct RunBranches {
    place: Arc<Place>,
}

impl RunBranches {
    /// The branches that a run has pushed, for example if its result was never reported.
    pub async fn find(&self, run_id: &str) -> Result<Vec<RunBranch>, IntegrationError> {
        let git = self.place.git()?;
        self.place.fetch_run_branches(&git, run_id).await?;
        let format = "--format=%(objectname)%09%(refname:lstrip=2)%09%(contents:trailers:key=Run-Id,valueonly,separator=%x2C)%09%(contents:trailers:key=Task-Id,valueonly,separator=%x2C)";
        let prefix = format!("refs/heads/{RUNS}/{run_id}/");
        let call = self
            .place
            .repository
            .call(["for-each-ref", format, &prefix]);
        let what = "the branches of a run cannot be listed";
        let text = self.place.repository.run(&git, what, call).await?;
        let branches = text.lines().filter_map(|line| {
            let mut fields = line.split('\t');
            let mut next = || fields.next().map(str::to_owned);
            let (commit, name) = (next()?, next()?);
            if name.ends_with(CANDIDATE) {
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

/// The reference of a run's merge.
fn candidate_name(run_id: &str) -> String {
    format!("refs/descartes/candidates/{run_id}")
}

/// The URL of a directory.
fn file_url(dir: &std::path::Path) -> String {
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
