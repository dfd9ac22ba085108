//! The directory that the agent works in: an existing one, a copy of a sample, or a new clone. Also a private directory
//! for the prompts of the run.
//!
//! The worker neither cleans an existing directory nor commits to it. A clone is shallow and has one
//! commit. A clone in a temporary directory is deleted at the end of the run.

mod clone;
mod configuration;
mod directories;
mod empty_repository;
mod fetch;
mod lfs;
mod not_fetched;
mod sample;
mod source;
mod submodules;

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::environment::Variables;
pub use crate::git::Access;
use crate::git::Git;
use crate::isolation::User;
use crate::scud::GRAPH_PATH;
use crate::task::Failure;
use crate::temporary_dir::TemporaryDir;
pub use clone::LocalClone;
pub use directories::{check_owner, existing_directory, is_empty_for_clone};
use directories::{make_clone_directory, new_run_directory, workspace_failure};
pub use source::{RemoteRepository, Source};

/// The agent's user, if it is not the worker's.
#[derive(Debug, Clone, Copy)]
pub struct AgentUser<'a> {
    pub user: &'a User,
    /// The worker's variables for the agent.
    pub environment: &'a Variables,
}

/// The project's directory, and a private directory of the run. Dropping this begins the deletion of the temporary
/// directories.
#[derive(Debug)]
pub struct Workspace {
    /// The project's directory; an absolute path.
    pub dir: PathBuf,
    run_dir: TemporaryDir,
    /// The directory for files that the agent keeps from one round to the next: `run_dir`, or a directory in it.
    pub state_dir: PathBuf,
    /// The agent's user, if it is not the worker's.
    pub user: Option<User>,
    /// Variables of the agent's user, such as HOME, which replace the worker's. Empty if the agent has the worker's
    /// user.
    pub user_variables: Variables,
    /// The directory of the clone, or of the copy of a sample, if the worker deletes it at the end.
    _temporary_dir: Option<TemporaryDir>,
    /// `None` if nothing was cloned.
    pub clone: Option<LocalClone>,
}

/// A file that contains the prompt for the agent.
#[derive(Debug)]
pub struct PromptFile {
    pub path: PathBuf,
    /// The open file, at its beginning.
    pub reader: File,
}

impl Workspace {
    /// Opens an existing directory.
    pub fn open_directory(dir: &Path, agent_user: Option<AgentUser<'_>>) -> Result<Self, Failure> {
        let dir = existing_directory(dir)?;
        if let Some(agent_user) = agent_user {
            check_owner(agent_user.user, &dir)?;
        }
        Self::new(dir, None, None, agent_user)
    }

    /// An error if a sample project could not be copied. Copies nothing.
    pub async fn check_sample(sample: &Path) -> Result<(), Failure> {
        let checked = sample::check(sample).await;
        checked.map_err(|error| sample_failure(sample, &error))
    }

    /// Copies a sample project to a new temporary directory.
    pub async fn copy_sample(
        sample: &Path,
        keep_copy: bool,
        agent_user: Option<AgentUser<'_>>,
    ) -> Result<Self, Failure> {
        let copy = sample::copy(sample, agent_user.map(|agent_user| agent_user.user)).await;
        let copy = copy.map_err(|error| sample_failure(sample, &error))?;
        let dir = fs::canonicalize(copy.path()).map_err(|error| {
            workspace_failure("the copy of the sample cannot be read".to_owned(), &error)
        })?;
        tracing::info!(
            "the workspace is {}, a copy of the sample project {}; set DESCARTES_WORKSPACE to work on another project",
            dir.display(),
            sample.display()
        );
        let temporary = if keep_copy {
            copy.keep();
            None
        } else {
            Some(copy)
        };
        Self::new(dir, temporary, None, agent_user)
    }

    fn new(
        dir: PathBuf,
        temporary_dir: Option<TemporaryDir>,
        clone: Option<LocalClone>,
        agent_user: Option<AgentUser<'_>>,
    ) -> Result<Self, Failure> {
        let run_dir = new_run_directory()?;
        let (mut state_dir, mut user_variables) = (run_dir.path().to_owned(), Variables::new());
        if let Some(AgentUser { user, environment }) = agent_user {
            state_dir.push("agent");
            let prepared = fs::set_permissions(run_dir.path(), fs::Permissions::from_mode(0o711));
            let prepared = prepared
                .and_then(|()| fs::create_dir(&state_dir))
                .and_then(|()| user.become_owner_of(&state_dir))
                .and_then(|()| user.variables(run_dir.path(), environment));
            user_variables = prepared.map_err(|error| {
                let name = &user.name;
                workspace_failure(
                    format!("no directories for the user {name} could be made"),
                    &error,
                )
            })?;
        }
        Ok(Self {
            dir,
            run_dir,
            state_dir,
            user: agent_user.map(|agent_user| agent_user.user.clone()),
            user_variables,
            _temporary_dir: temporary_dir,
            clone,
        })
    }

    /// Clones a repository.
    pub async fn clone_repository(
        repository: &RemoteRepository,
        git: &Git<'_>,
        agent_user: Option<AgentUser<'_>>,
    ) -> Result<Self, Failure> {
        let (dir, mut temporary_dir) = make_clone_directory(repository.into.as_deref())?;
        tracing::info!(
            url = repository.url,
            reference = repository.reference,
            "cloning into {}",
            dir.display()
        );
        let user = agent_user.map(|agent_user| agent_user.user);
        let clone = LocalClone::create(repository, git, &dir, user).await?;
        not_fetched::warn(&dir, repository);
        if repository.keep_clone
            && let Some(temporary_dir) = temporary_dir.take()
        {
            temporary_dir.keep();
        }
        Self::new(dir, temporary_dir, Some(clone), agent_user)
    }

    /// Whether a clone has no file for the graph, for example after `git sparse-checkout`. If so, the worker changes
    /// the graph only in the commit.
    pub fn lacks_graph(&self) -> bool {
        let is_absent = |clone: &LocalClone| {
            let found = fs::symlink_metadata(clone.dir.join(GRAPH_PATH));
            found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        self.clone.as_ref().is_some_and(is_absent)
    }

    /// Writes a prompt to a new file outside the project. The worker never opens the file by its name, because the
    /// agent knows the directory from earlier prompts and may put links there.
    pub fn write_prompt(&self, prompt: &str) -> Result<PromptFile, Failure> {
        let dir = self.run_dir.path();
        let written = fs::create_dir_all(dir).and_then(|()| {
            let file = tempfile::Builder::new()
                .prefix("prompt-")
                .suffix(".md")
                .tempfile_in(dir)?;
            let (mut reader, path) = file.keep().map_err(|error| error.error)?;
            if let Some(user) = &self.user {
                user.become_owner_of(&path)?;
            }
            reader.write_all(prompt.as_bytes())?;
            reader.rewind()?;
            Ok(PromptFile { path, reader })
        });
        written.map_err(|error| {
            let dir = dir.display();
            workspace_failure(format!("the prompt cannot be written to {dir}"), &error)
        })
    }
}

/// The failure if a sample project cannot be copied.
fn sample_failure(sample: &Path, error: &io::Error) -> Failure {
    Failure {
        retryable: false,
        ..workspace_failure(
            format!("the sample project {} cannot be copied", sample.display()),
            error,
        )
    }
}
