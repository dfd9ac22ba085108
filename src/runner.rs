//! A claimed task becomes an outcome, always: whatever fails, panics or is told to stop on the way.
//!
//! Data flows one way: workspace, task, prompt, agent, checks, work product, verdict. Knows nothing of the
//! orchestrator: what is worth telling goes into [`Progress`] and the [`Outcome`].

pub mod agent;
mod checks;
mod failures;
mod hand_over;
mod output;
pub mod preflight;
mod product;
mod prompt;
mod push;
pub mod workspace;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::environment::Variables;
use crate::git::Git;
use crate::panics::{caught, failure_point};
use crate::process::{self, AfterRead, Ending, Limits, Program, Stream};
use crate::progress::{Phase, Progress};
use crate::redact::Redactor;
use crate::scud::{self, Actionable, FindError, Project, Wanted};
use crate::shutdown::Stop;
use crate::task::{Failure, Outcome, Reason, Report, Status, Task, Verdict};
use agent::{Agent, Place};
use checks::Checks;
use failures::{stopped, timed_out};
use workspace::{Source, Workspace};

/// The most of an agent's own words on why it failed, in characters.
const MESSAGE: usize = 1_000;

/// What a run is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the project comes from.
    pub source: Source,
    /// This attempt's name.
    pub run_id: String,
    /// The task as the orchestrator names it: `8`, `8.2` or `phase:8`.
    pub task: String,
    /// The orchestrator's name for the project.
    pub project: String,
    pub tag: Option<String>,
    pub actionable: Actionable,
    pub agent: agent::Settings,
    /// What agent and checks get as environment, beside what the run adds.
    pub environment: Variables,
    /// For the agent and the checks together, wall clock.
    pub task_timeout: Duration,
    /// Without a sign of life of the agent; `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// Instead of the project's own.
    pub checks: Option<Vec<String>>,
    /// How often failed checks go back to the agent.
    pub repairs: u32,
}

/// Runs the task to its end.
pub async fn run(
    settings: &Settings,
    redactor: &Redactor,
    stop: &Stop,
    progress: &Progress,
) -> Outcome {
    let mut run = Run {
        settings,
        redactor,
        stop,
        progress,
        deadline: Instant::now() + settings.task_timeout,
        report: Report::default(),
        git: None,
        workspace: None,
        task: None,
    };
    let verdict = match caught(run.work()).await {
        Ok(Ok(message)) => Verdict::Completed { message },
        Ok(Err(failure)) => Verdict::Failed(failure),
        Err(bug) => {
            // The panic interrupted the supervision of whatever was running.
            process::kill_leftovers().await;
            Verdict::Failed(Failure::new(Reason::Internal, bug))
        }
    };
    let verdict = Box::pin(run.hand_over(verdict)).await;
    let report = Report {
        duration: progress.elapsed(),
        output: progress.output(),
        ..run.report
    };
    Outcome { verdict, report }
}

/// One run on its way.
struct Run<'a> {
    settings: &'a Settings,
    redactor: &'a Redactor,
    stop: &'a Stop,
    progress: &'a Progress,
    /// When the task's time is up.
    deadline: Instant,
    report: Report,
    /// From here on, what has been come by.
    git: Option<Git<'a>>,
    workspace: Option<Workspace>,
    task: Option<Task>,
}

impl Run<'_> {
    /// The whole way; says in one sentence what was done.
    async fn work(&mut self) -> Result<String, Failure> {
        self.go_on()?;
        let dir = self.prepare().await?;
        let project = Project::at(dir.clone());
        let task = self
            .task
            .insert(find(self.settings, &project).await?)
            .clone();
        tracing::info!(task = task.id, phase = task.phase, status = %task.status, "found: {}", task.title);
        for dependency in task.unmet_dependencies() {
            let status = dependency.status.map_or_else(
                || "not in the graph".to_owned(),
                |status| status.to_string(),
            );
            tracing::warn!(
                status,
                "the task depends on {}, which is not done",
                dependency.id
            );
        }
        let checks = Checks::of(&project, self.settings.checks.as_deref())?;
        let definition = definition(&project, &task)?;
        let mut agent = agent::choose(&self.settings.agent, definition.as_ref())?;
        let workspace = self.workspace.as_ref().expect("prepared before");
        let mut prompt = prompt::first(&task, definition.as_ref(), workspace, &checks);

        let mut repairs = 0;
        let mut last_failed: Option<checks::Failed> = None;
        loop {
            let ran = self.run_agent(agent.as_mut(), &prompt).await;
            ran.map_err(|mut failure| {
                // Why it was not done yet.
                let check = last_failed.as_ref().map(checks::Failed::failure);
                failure.causes.extend(check.map(|check| check.sentence()));
                failure
            })?;
            let Some(failed) = self.run_checks(&checks, &dir).await? else {
                break;
            };
            if repairs == self.settings.repairs {
                return Err(failed.failure());
            }
            repairs += 1;
            tracing::warn!(
                check = failed.command,
                repairs,
                "a check failed, back to the agent"
            );
            prompt = prompt::repair(&task, &failed);
            last_failed = Some(failed);
        }
        if let Some(clone) = self
            .workspace
            .as_ref()
            .and_then(|workspace| workspace.clone.as_ref())
        {
            // What stands in its place is nobody's to be written to.
            clone.still_there()?;
        }
        Ok(mark_done(&project, &task).await)
    }

    /// Comes by a workspace; gives its directory.
    async fn prepare(&mut self) -> Result<PathBuf, Failure> {
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
                git.until = Some(self.deadline);
                git.remember_ssh().await;
                let cloned = Workspace::cloned(repository, &git).await;
                self.go_on()?;
                self.git = Some(git);
                cloned?
            }
        };
        Ok(self.workspace.insert(workspace).dir.clone())
    }

    /// An error where the run was told to end.
    fn go_on(&self) -> Result<(), Failure> {
        self.stop.why().map_or(Ok(()), |why| Err(stopped(&why)))
    }

    async fn run_agent(&mut self, agent: &mut dyn Agent, prompt: &str) -> Result<(), Failure> {
        self.go_on()?;
        self.progress.enter(Phase::Agent);
        let workspace = self.workspace.as_ref().expect("prepared before");
        let place = Place {
            dir: &workspace.dir,
            own: workspace.own_dir(),
            environment: self.environment(),
            access: &self.settings.agent.access,
        };
        let program = agent.program(place);
        self.report.agent = Some(agent.report());
        let mut program = program?;
        let file = workspace.write_prompt(prompt)?;
        program
            .env
            .push(("DESCARTES_PROMPT_FILE".into(), file.path.into()));
        program.stdin = Some(file.reader);
        tracing::info!(agent = agent.report().kind, "the agent starts");
        let mut output = output::Live::new("agent", self.redactor, self.progress);
        let mut hear = |stream, bytes: &[u8]| {
            failure_point("agent output");
            match stream {
                Stream::Stdout => agent.hear(bytes, &mut output),
                Stream::Stderr => {
                    output.hear(bytes);
                    AfterRead::ReadMore
                }
            }
        };
        let limits = self.limits();
        let ending = process::supervise(program, limits, self.stop, self.progress, &mut hear).await;
        output.finish();
        // What was left for this turn is of no interest: the task's time is up.
        let ending = ending.map(|ending| match ending {
            Ending::TimedOut(_) => Ending::TimedOut(self.settings.task_timeout),
            other => other,
        });
        let verdict = agent.judge(ending).map_err(|failure| {
            // In the agent's own words, perhaps: masked before they are cut.
            let message = brief(&self.redactor.text(&failure.message));
            Failure { message, ..failure }
        });
        let words = agent.last_words();
        self.report.summary = words.or_else(|| self.progress.snapshot().activity);
        self.report.agent = Some(agent.report());
        verdict
    }

    /// Runs the checks until one fails; gives that one.
    async fn run_checks(
        &mut self,
        checks: &Checks,
        dir: &Path,
    ) -> Result<Option<checks::Failed>, Failure> {
        self.progress.enter(Phase::Checks);
        self.report.checks.clear();
        let mut first_failed = None;
        for command in &checks.commands {
            self.go_on()?;
            self.progress.set_activity(command);
            let program = Program::shell(command, dir.to_owned(), self.environment());
            let limits = Limits {
                wall: checks.timeout.min(self.time_left()),
                idle: None,
            };
            let checked = checks::run(
                command,
                program,
                limits,
                self.redactor,
                self.stop,
                self.progress,
            )
            .await?;
            self.report.checks.push(checked.report.clone());
            if let Some(failed) = checked.failed() {
                if self.time_left().is_zero() {
                    return Err(self.timed_out());
                }
                first_failed.get_or_insert(failed);
                if checks.stop_on_failure {
                    break;
                }
            }
        }
        Ok(first_failed)
    }

    fn environment(&self) -> Variables {
        let mut environment = self.settings.environment.clone();
        environment.push(("TASK_ID".into(), self.settings.task.clone().into()));
        environment.push(("PROJECT_ID".into(), self.settings.project.clone().into()));
        environment
    }

    fn limits(&self) -> Limits {
        Limits {
            wall: self.time_left(),
            idle: self.settings.idle_timeout,
        }
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn timed_out(&self) -> Failure {
        timed_out(self.settings.task_timeout)
    }
}

/// Keeps the agent from reading the worker's memory and environment, as far as the platform lets
/// it; where both are root, nothing does.
pub fn harden() {
    process::memory::open();
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "the worker's memory stays readable to its own user");
    }
}

async fn find(settings: &Settings, project: &Project) -> Result<Task, Failure> {
    let wanted = Wanted {
        reference: &settings.task,
        tag: settings.tag.as_deref(),
        actionable: settings.actionable,
    };
    project.find(&wanted).await.map_err(|error| {
        let reason = match error {
            FindError::NotFound { .. }
            | FindError::PhaseNotFound { .. }
            | FindError::Ambiguous { .. } => Reason::TaskNotFound,
            FindError::NotActionable { .. } => Reason::TaskNotActionable,
            FindError::File(_) | FindError::Malformed(_) => Reason::WorkspaceFailed,
        };
        let mut failure = Failure::because(reason, &error);
        if reason == Reason::TaskNotActionable {
            failure
                .message
                .push_str("; DESCARTES_FORCE=true runs it all the same");
        }
        failure
    })
}

/// The graph says so too. That it cannot be made to is no reason to throw the work away.
async fn mark_done(project: &Project, task: &Task) -> String {
    let done = format!(
        "task {} of phase {} is done: {}",
        task.id, task.phase, task.title
    );
    match project.mark(task, Status::Done).await {
        Ok(()) => done,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the graph could not be marked"
            );
            format!("{done} (but the graph could not be marked: {error})")
        }
    }
}

fn definition(project: &Project, task: &Task) -> Result<Option<scud::AgentDefinition>, Failure> {
    let Some(name) = &task.agent else {
        return Ok(None);
    };
    let definition = project
        .agent(name)
        .map_err(|error| Failure::because(Reason::WorkspaceFailed, &error))?;
    if definition.is_none() {
        tracing::warn!(
            agent = name,
            "the graph assigns an agent that .scud/agents does not define"
        );
    }
    Ok(definition)
}

/// The beginning of a message that may be long; all of it is in the output.
fn brief(message: &str) -> String {
    match message.char_indices().nth(MESSAGE) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}…", &message[..end]),
    }
}
