//! The state of a run, and its first step: the workspace.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::failures::stopped;
use super::isolate;
use super::project_file;
use super::settings::Settings;
use super::workspace::{Owner, Source, Workspace};
use crate::environment::{Variables, VariablesFile, merge};
use crate::git::Git;
use crate::isolation::{self, Kind, Mode};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::shutdown::Stop;
use crate::task::{Failure, Reason, Report, Task};
use crate::telemetry::TraceContext;

/// How long a clone may take that makes progress; without progress it ends much earlier. The task's
/// time limit starts after it.
const MAX_CLONE_TIME: Duration = Duration::from_secs(60 * 60);

/// A run and its results so far.
pub struct Run<'a> {
    pub settings: &'a Settings,
    pub redactor: &'a Redactor,
    pub stop: &'a Stop,
    pub progress: &'a Progress,
    /// The span of the run.
    pub trace: &'a TraceContext,
    pub report: Report,
    /// `None` until the graph was read.
    pub task: Option<Task>,
    /// Variables of the agent's user, such as HOME, which replace the worker's. Empty if the agent has the worker's
    /// user.
    pub user_variables: Variables,
}

/// The results of the first step, which all other steps use.
pub struct Prepared<'a> {
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
            report: Report::default(),
            task: None,
            user_variables: Variables::new(),
        }
    }

    /// Opens the existing directory, or clones the repository, and tests whether the agent's user can enter it.
    pub async fn prepare(&self) -> Result<Prepared<'a>, Failure> {
        let prepared = self.open().await?;
        let (isolation_settings, environment) =
            (&self.settings.isolation, &self.settings.environment);
        let Workspace { dir, state_dir, .. } = &prepared.workspace;
        let dirs = [dir.as_path(), state_dir];
        isolate::enter(
            isolation_settings,
            &dirs,
            environment,
            self.stop,
            self.progress,
        )
        .await?;
        Ok(prepared)
    }

    /// Opens or clones the project. The isolation is tested first: a run that must not start should not cost a clone.
    async fn open(&self) -> Result<Prepared<'a>, Failure> {
        self.check_stop()?;
        self.test_isolation().await?;
        let repository = match &self.settings.source {
            Source::Directory(dir) => {
                let workspace = Workspace::existing(dir, self.owner())?;
                return Ok(Prepared {
                    workspace,
                    git: None,
                });
            }
            Source::StartDirectory { keep_copy } => {
                let workspace = self.open_start_directory(*keep_copy).await?;
                return Ok(Prepared {
                    workspace,
                    git: None,
                });
            }
            Source::Repository(repository) => repository,
        };
        let git = Git::find(
            &self.settings.environment,
            &repository.access,
            &repository.url,
            self.redactor,
            self.stop,
            self.progress,
        );
        // git is missing, or a file of certificates cannot be read: another attempt would fail, too.
        let mut git = git.map_err(|error| Failure {
            retryable: false,
            ..Failure::because(Reason::WorkspaceFailed, &error)
        })?;
        git.until = Some(Instant::now() + MAX_CLONE_TIME);
        git.record_ssh().await;
        let mut span = self.trace.child("clone");
        span.set_text("vcs.repository.url.full", &repository.url);
        if let Some(reference) = &repository.reference {
            span.set_text("vcs.ref.base.name", reference);
        }
        let cloned = Workspace::cloned(repository, &git, self.owner()).await;
        if let Err(failure) = &cloned {
            span.fail(failure.reason.word());
        }
        span.end();
        self.check_stop()?;
        Ok(Prepared {
            workspace: cloned?,
            git: Some(git),
        })
    }

    /// Opens the directory in which the worker was started, or a copy of the sample that the project there names.
    async fn open_start_directory(&self, keep_copy: bool) -> Result<Workspace, Failure> {
        match project_file::sample(self.settings, Path::new("."))? {
            Some(sample) => Workspace::copied(&sample, keep_copy, self.owner()).await,
            None => Workspace::existing(Path::new("."), self.owner()),
        }
    }

    /// Finds out what separates the agent from the worker, and logs it.
    async fn test_isolation(&self) -> Result<(), Failure> {
        let settings = self.settings;
        let (isolation_settings, environment) = (&settings.isolation, &settings.environment);
        let kind = isolate::test(isolation_settings, environment, self.stop, self.progress).await?;
        let (word, description) = (kind.word(), isolation_settings.description());
        if let Some(limits) = isolation::limits() {
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

    /// The agent's user, and the environment that its variables replace.
    fn owner(&self) -> Option<Owner<'a>> {
        let user = self.settings.isolation.user.as_ref()?;
        Some(Owner {
            user,
            environment: &self.settings.environment,
        })
    }

    /// An error if the run was cancelled or stopped.
    pub fn check_stop(&self) -> Result<(), Failure> {
        self.stop.reason().map_or(Ok(()), |why| Err(stopped(&why)))
    }

    /// The environment of the agent and the checks.
    pub fn environment(&self) -> Variables {
        self.with_file(VariablesFile::over)
    }

    /// The environment of a program that the worker itself needs and that works in the agent's repository.
    pub fn environment_of_own_programs(&self) -> Variables {
        self.with_file(VariablesFile::over_without_libraries)
    }

    fn with_file(&self, merge: impl Fn(&VariablesFile, &Variables) -> Variables) -> Variables {
        let environment = self.environment_without_variables_file();
        match &self.settings.variables_file {
            Some(file) => merge(file, &environment),
            None => environment,
        }
    }

    /// The worker's variables that the agent gets too, and those of the run.
    pub fn environment_without_variables_file(&self) -> Variables {
        let mut environment = merge(&self.settings.environment, self.user_variables.clone());
        environment.push(("TASK_ID".into(), self.settings.task.clone().into()));
        environment.push(("PROJECT_ID".into(), self.settings.project.clone().into()));
        environment
    }
}

impl Prepared<'_> {
    /// The settings of the run, with those that the project brings along.
    pub fn project_settings(&self, settings: &Settings) -> Result<Settings, Failure> {
        match project_file::read(settings, &self.workspace.dir)? {
            Some(project) => {
                project_file::log(&project);
                Ok(settings.with(&project))
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
