//! The state of a run, and its first step: the workspace.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::failures::stop_failure;
use super::isolate;
use super::project_file;
use super::settings::Settings;
use super::workspace::{AgentUser, Source, Workspace};
use crate::environment::{Variables, VariablesFile, merge};
use crate::git::Git;
use crate::isolation::{self, Kind, Mode};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::shutdown::Stop;
use crate::task::{Failure, Reason, RunReport, Task};
use crate::telemetry::TraceContext;

/// How long a clone may take that makes progress; without progress it ends much earlier. The task's
/// time limit starts after it.
const MAX_CLONE_TIME: Duration = Duration::from_secs(60 * 60);

/// A run, and the results of the steps that it has finished.
pub struct Run<'a> {
    pub settings: &'a Settings,
    pub redactor: &'a Redactor,
    pub stop: &'a Stop,
    pub progress: &'a Progress,
    /// The span of the run.
    pub trace: &'a TraceContext,
    pub report: RunReport,
    /// The task; `None` until the graph was read.
    pub task: Option<Task>,
    /// Variables of the agent's user, such as HOME, which replace the worker's. Empty if the agent has the worker's
    /// user.
    pub user_variables: Variables,
}

/// The result of the first step, which all other steps use.
pub struct PreparedWorkspace<'a> {
    pub workspace: Workspace,
    /// Runs git with access to the clone's remote; `None` if nothing was cloned.
    pub git: Option<Git<'a>>,
}

impl<'a> Run<'a> {
    pub fn new(
        settings: &'a Settings,
        redactor: &'a Redactor,
        stop: &'a Stop,
        progress: &'a Progress,
        trace: &'a TraceContext,
    ) -> Self {
        Self {
            settings,
            redactor,
            stop,
            progress,
            trace,
            report: RunReport::default(),
            task: None,
            user_variables: Variables::new(),
        }
    }

    /// Opens the existing directory, or clones the repository, and tests whether the agent's user can enter it.
    pub async fn prepare(&self) -> Result<PreparedWorkspace<'a>, Failure> {
        let prepared = self.open().await?;
        let (isolation_settings, environment) =
            (&self.settings.isolation, &self.settings.environment);
        let Workspace { dir, state_dir, .. } = &prepared.workspace;
        let dirs = [dir.as_path(), state_dir];
        isolate::check_agent_can_enter(
            isolation_settings,
            &dirs,
            environment,
            self.stop,
            self.progress,
        )
        .await?;
        Ok(prepared)
    }

    /// Opens or clones the project. Tests the isolation first, so that a run that must not start costs no clone.
    async fn open(&self) -> Result<PreparedWorkspace<'a>, Failure> {
        self.check_stop()?;
        self.test_isolation().await?;
        let repository = match &self.settings.source {
            Source::Directory(dir) => {
                let workspace = Workspace::open_directory(dir, self.agent_user())?;
                return Ok(PreparedWorkspace {
                    workspace,
                    git: None,
                });
            }
            Source::StartDirectory { keep_copy } => {
                let workspace = self.open_start_directory(*keep_copy).await?;
                return Ok(PreparedWorkspace {
                    workspace,
                    git: None,
                });
            }
            Source::Repository(repository) => repository,
        };
        let git = Git::find(
            &self.settings.environment,
            &repository.git_access,
            &repository.url,
            self.redactor,
            self.stop,
            self.progress,
        );
        // git is missing, or a file of certificates cannot be read: another attempt would fail, too.
        let mut git = git.map_err(|error| Failure {
            retryable: false,
            ..Failure::from_error(Reason::WorkspaceFailed, &error)
        })?;
        git.deadline = Some(Instant::now() + MAX_CLONE_TIME);
        git.record_ssh().await;
        let mut span = self.trace.child("clone");
        span.set_text("vcs.repository.url.full", &repository.url);
        if let Some(reference) = &repository.reference {
            span.set_text("vcs.ref.base.name", reference);
        }
        let cloned = Workspace::clone_repository(repository, &git, self.agent_user()).await;
        if let Err(failure) = &cloned {
            span.fail(failure.reason.word());
        }
        span.end();
        self.check_stop()?;
        Ok(PreparedWorkspace {
            workspace: cloned?,
            git: Some(git),
        })
    }

    /// Opens the directory in which the worker was started. If the `.descartes.toml` there names a sample project,
    /// opens a copy of that sample.
    async fn open_start_directory(&self, keep_copy: bool) -> Result<Workspace, Failure> {
        match project_file::sample_directory(self.settings, Path::new("."))? {
            Some(sample) => Workspace::copy_sample(&sample, keep_copy, self.agent_user()).await,
            None => Workspace::open_directory(Path::new("."), self.agent_user()),
        }
    }

    /// Finds out which kind of isolation works, and logs it.
    async fn test_isolation(&self) -> Result<(), Failure> {
        let settings = self.settings;
        let (isolation_settings, environment) = (&settings.isolation, &settings.environment);
        let kind =
            isolate::test_isolation(isolation_settings, environment, self.stop, self.progress)
                .await?;
        let (word, description) = (kind.word(), isolation_settings.description());
        if let Some(limits) = isolation::describe_limits() {
            tracing::info!("the control group of the worker allows {limits}");
        }
        if kind < Kind::Landlock
            && isolation_settings.mode != Mode::Off
            && isolation_settings.user.is_none()
        {
            tracing::warn!(
                "isolation {word}: the agent {description}; install bubblewrap, or start the worker with `exec` \
                 and without secrets in its parent"
            );
        } else {
            tracing::info!("isolation {word}: the agent {description}");
        }
        Ok(())
    }

    /// The agent's user, if it is not the worker's.
    fn agent_user(&self) -> Option<AgentUser<'a>> {
        let user = self.settings.isolation.user.as_ref()?;
        Some(AgentUser {
            user,
            environment: &self.settings.environment,
        })
    }

    /// An error if the run was cancelled or stopped.
    pub fn check_stop(&self) -> Result<(), Failure> {
        self.stop
            .reason()
            .map_or(Ok(()), |reason| Err(stop_failure(&reason)))
    }

    /// The environment of the agent and the checks.
    pub fn environment(&self) -> Variables {
        self.with_variables_file(VariablesFile::merged_over)
    }

    /// The environment of the git that the worker runs in the agent's repository. Leaves out the variables for the
    /// dynamic loader in the variables file: git might not start with the project's libraries.
    pub fn environment_of_git(&self) -> Variables {
        self.with_variables_file(VariablesFile::merged_over_without_loader_variables)
    }

    /// The environment without the variables file, or the result of `merge` if there is such a file.
    fn with_variables_file(
        &self,
        merge: impl Fn(&VariablesFile, &Variables) -> Variables,
    ) -> Variables {
        let environment = self.environment_without_variables_file();
        match &self.settings.variables_file {
            Some(file) => merge(file, &environment),
            None => environment,
        }
    }

    /// The variables of the worker's environment that the agent gets too, and those of the run.
    pub fn environment_without_variables_file(&self) -> Variables {
        let mut environment = merge(&self.settings.environment, self.user_variables.clone());
        environment.push(("TASK_ID".into(), self.settings.task.clone().into()));
        environment.push(("PROJECT_ID".into(), self.settings.project.clone().into()));
        environment
    }
}

impl PreparedWorkspace<'_> {
    /// The settings of the run, changed by the project's `.descartes.toml`.
    pub fn project_settings(&self, settings: &Settings) -> Result<Settings, Failure> {
        match project_file::read(settings, &self.workspace.dir)? {
            Some(project) => {
                project_file::log_sources(&project);
                Ok(settings.with_project_settings(&project))
            }
            None => Ok(settings.clone()),
        }
    }

    /// An error if the agent has replaced the clone's directory: the worker must not write there.
    pub fn check_clone(&self) -> Result<(), Failure> {
        match &self.workspace.clone {
            Some(clone) => clone.check_directory(),
            None => Ok(()),
        }
    }
}
