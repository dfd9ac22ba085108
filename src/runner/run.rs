//! The state of a run, and its first step: the workspace.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::failures::stopped;
use super::settings::Settings;
use super::workspace::{Source, Workspace};
use crate::environment::Variables;
use crate::git::Git;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::shutdown::Stop;
use crate::task::{Failure, Reason, Report, Task};

/// How long a clone may take that makes progress; without progress it ends much earlier. The task's
/// time limit starts after it.
const MAX_CLONE_TIME: Duration = Duration::from_secs(60 * 60);

/// A run and its results so far.
pub struct Run<'a> {
    pub settings: &'a Settings,
    pub redactor: &'a Redactor,
    pub stop: &'a Stop,
    pub progress: &'a Progress,
    pub report: Report,
    pub git: Option<Git<'a>>,
    pub workspace: Option<Workspace>,
    pub task: Option<Task>,
}

impl<'a> Run<'a> {
    pub fn new(
        settings: &'a Settings,
        redactor: &'a Redactor,
        stop: &'a Stop,
        progress: &'a Progress,
    ) -> Self {
        Self {
            settings,
            redactor,
            stop,
            progress,
            report: Report::default(),
            git: None,
            workspace: None,
            task: None,
        }
    }

    /// Opens the given directory, or clones the repository; returns the directory of the project.
    pub async fn prepare_workspace(&mut self) -> Result<PathBuf, Failure> {
        let workspace = match &self.settings.source {
            Source::Given(dir) => Workspace::given(dir)?,
            Source::Repository(repository) => {
                let (environment, access) = (&self.settings.environment, &repository.access);
                let git = Git::find(
                    environment,
                    access,
                    &repository.url,
                    self.redactor,
                    self.stop,
                    self.progress,
                );
                let mut git =
                    git.map_err(|error| Failure::because(Reason::WorkspaceFailed, &error))?;
                git.until = Some(Instant::now() + MAX_CLONE_TIME);
                git.remember_ssh().await;
                let cloned = Workspace::cloned(repository, &git).await;
                self.check_stop()?;
                self.git = Some(git);
                cloned?
            }
        };
        Ok(self.workspace.insert(workspace).dir.clone())
    }

    /// An error if the agent has replaced the clone's directory: the worker must not write there.
    pub fn check_clone(&self) -> Result<(), Failure> {
        let workspace = self.workspace.as_ref();
        match workspace.and_then(|workspace| workspace.clone.as_ref()) {
            Some(clone) => clone.still_there(),
            None => Ok(()),
        }
    }

    /// An error if the run was cancelled or stopped.
    pub fn check_stop(&self) -> Result<(), Failure> {
        self.stop.why().map_or(Ok(()), |why| Err(stopped(&why)))
    }

    /// The environment of the agent and the checks.
    pub fn environment(&self) -> Variables {
        let mut environment = self.settings.environment.clone();
        environment.push(("TASK_ID".into(), self.settings.task.clone().into()));
        environment.push(("PROJECT_ID".into(), self.settings.project.clone().into()));
        environment
    }
}
