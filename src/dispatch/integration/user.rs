//! Reads facts about the user's repository and the remote. Changes neither of them.

use std::path::PathBuf;

use super::branch::Integration;
use super::error::IntegrationError;
use super::types::Source;
use crate::environment::variable;
use crate::git::{Call, Git};

impl Integration {
    /// The name of the integration branch.
    pub fn branch(&self) -> &str {
        &self.repositories.settings.branch
    }

    /// The URL or the directory of the project.
    pub fn source_name(&self) -> String {
        match &self.repositories.settings.source {
            Source::Local(dir) => dir.display().to_string(),
            Source::Remote(url) => url.clone(),
        }
    }

    /// The top directory of the user's work tree, if the project is on this machine and is not bare.
    pub fn work_tree(&self) -> Option<PathBuf> {
        let project = self.repositories.project.as_ref()?;
        project.work_tree.clone()
    }

    /// Whether git ignores a path in the user's work tree.
    pub async fn ignores(&self, path: &str) -> Result<bool, IntegrationError> {
        let Some(dir) = self.work_tree() else {
            return Ok(false);
        };
        let call = Call::new(&dir, ["check-ignore", "--quiet", "--", path]);
        let finished = self
            .run_in_users_repository(&self.repositories.git()?, call)
            .await?;
        Ok(finished.is_some())
    }

    /// The changed and the new files of the user's work tree.
    pub async fn uncommitted_files(&self) -> Result<Vec<String>, IntegrationError> {
        let Some(dir) = self.work_tree() else {
            return Ok(Vec::new());
        };
        let call = Call::new(
            &dir,
            [
                "status",
                "--porcelain",
                "-z",
                "--no-renames",
                "--untracked-files=normal",
            ],
        );
        let text = self
            .run_in_users_repository(&self.repositories.git()?, call)
            .await?;
        let text = text.unwrap_or_default();
        // Each entry is `XY path`: two letters for the status, a space, the path.
        let files = text.split('\0').filter_map(|entry| entry.get(3..));
        Ok(files.map(str::to_owned).collect())
    }

    /// The work tree in which the integration branch is checked out; `None` if there is none.
    pub async fn checked_out_in(&self) -> Result<Option<String>, IntegrationError> {
        let Some(project) = &self.repositories.project else {
            return Ok(None);
        };
        let call = Call::new(&project.common_dir, ["worktree", "list", "--porcelain"]);
        let git = self.repositories.git()?;
        let text = git.run_keeping_children(call).await;
        let text = text.map_err(IntegrationError::git("the work trees cannot be listed"))?;
        let branch = format!("branch refs/heads/{}", self.branch());
        let mut dir = None;
        for line in text.lines() {
            if let Some(found) = line.strip_prefix("worktree ") {
                dir = Some(found.to_owned());
            } else if line == branch {
                return Ok(dir);
            }
        }
        Ok(None)
    }

    /// Why the published repository would refuse a push, according to `git push --dry-run`; `None` if it would accept
    /// one.
    pub async fn push_refusal(&self) -> Result<Option<String>, IntegrationError> {
        let git = self.repositories.git()?;
        let target = self.repositories.published_repository();
        let call = self
            .repositories
            .bare
            .call(["push", "--dry-run", "--no-verify"]);
        let call = call.args(self.repositories.server_option(&git, "receive-pack"));
        let refspec = format!("{}:refs/heads/descartes-runs/preflight", self.tip.id);
        let call = call.arg("--").arg(target).arg(refspec);
        let pushed = git.run_keeping_children(call.contacts_remote()).await;
        Ok(pushed.err().map(|error| error.summary()))
    }

    /// Runs a command in the user's repository with the user's own configuration; `None` if its exit code is 1.
    async fn run_in_users_repository(
        &self,
        git: &Git<'_>,
        call: Call<'_>,
    ) -> Result<Option<String>, IntegrationError> {
        let git = git.with_agents_environment(&self.repositories.settings.environment, None);
        let what = "the user's repository cannot be read";
        let call = call.variables(&vec![variable("GIT_OPTIONAL_LOCKS", "0")]);
        let finished = git.output_keeping_children(call).await;
        let finished = finished.map_err(IntegrationError::git(what))?;
        if finished.exit_code == 1 {
            return Ok(None);
        }
        let output = finished
            .require_success()
            .map_err(IntegrationError::git(what))?;
        Ok(Some(String::from_utf8_lossy(&output).into_owned()))
    }
}
