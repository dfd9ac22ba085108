//! Checks whether everything that a run would need is present, within time limits. Changes nothing.
//!
//! Sends nothing to the orchestrator, because every request of the protocol would change something there.

mod findings;
mod machine;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use tokio::time::Instant;

use super::agent::{self, Agent};
use super::checks::Checks;
use super::model_gateway;
use super::project_file::{self, LocalProject};
use super::project_settings::ProjectSettings;
use super::project_task::{agent_definition, find_task};
use super::settings::{Settings, Steps};
use super::workspace::{
    RemoteRepository, Source, Workspace, check_owner, existing_directory, is_empty_for_clone,
};
use crate::git::{Call, Git, GitError};
use crate::programs::{Lookup, look_up};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::scud::Project;
use crate::shutdown::Stop;
use crate::task::{Failure, Reason};
pub use findings::Finding;
use findings::Findings;
use machine::check_machine;

/// How long the check waits for the answer of the remote repository.
const REPOSITORY_TIMEOUT: Duration = Duration::from_secs(30);

/// All findings of a preflight check.
#[derive(Debug)]
pub struct PreflightReport {
    /// The findings, in the order in which a run would use what was checked.
    pub findings: Vec<Finding>,
    /// The settings in the project's `.descartes.toml`; `None` if there is no such file on this machine.
    pub project_settings: Option<ProjectSettings>,
}

/// Checks everything that a run would use, in the order of use. If something is missing, the checks that depend on it
/// are skipped.
pub async fn preflight(settings: &Settings, redactor: &Redactor, stop: &Stop) -> PreflightReport {
    let mut findings = Findings(Vec::new());
    check_machine(&mut findings, settings, stop).await;
    let local_project = project_file::local_project(settings);
    let project_settings =
        local_project
            .as_ref()
            .map_or(Ok(None), |local_project| match local_project {
                Some(local_project) => project_file::read(settings, local_project.dir()),
                None => Ok(None),
            });
    let local_project = findings
        .add_problem("project's settings", local_project)
        .flatten();
    let project_settings = findings
        .add_problem("project's settings", project_settings)
        .flatten();
    let settings = match &project_settings {
        Some(project_settings) => &settings.with_project_settings(project_settings),
        None => settings,
    };
    match (&settings.source, local_project) {
        (Source::Repository(repository), _) => {
            check_remote_project(&mut findings, settings, repository, redactor, stop).await;
        }
        (Source::Directory(_) | Source::StartDirectory { .. }, Some(local_project)) => {
            check_local_project(&mut findings, settings, &local_project).await;
        }
        (Source::Directory(_) | Source::StartDirectory { .. }, None) => {}
    }
    PreflightReport {
        findings: findings.0,
        project_settings,
    }
}

/// Checks a project that is on this machine.
async fn check_local_project(
    findings: &mut Findings,
    settings: &Settings,
    local_project: &LocalProject,
) {
    let workspace = check_workspace(settings, local_project).await;
    let found = findings.add("workspace", workspace, |dir| match local_project {
        LocalProject::Directory(_) => dir.display().to_string(),
        LocalProject::Sample(_) => format!("a copy of the sample project {}", dir.display()),
    });
    let Some(dir) = found else {
        return;
    };
    let project = Project::at(dir.clone());
    let task = match settings.steps {
        Steps::OnlyChecks => None,
        Steps::All => {
            let task = find_task(settings, &project).await;
            findings.add("task", task, |task| {
                format!("{} of phase {}: {}", task.id, task.phase, task.title)
            })
        }
    };
    let checks = Checks::select(&project, settings.checks.as_deref());
    let checks = checks.and_then(|checks| with_existing_programs(checks, &settings.agent.path));
    findings.add("checks", checks, |checks| {
        match checks.commands.as_slice() {
            [] => "none".to_owned(),
            commands => commands.join(", "),
        }
    });
    if settings.steps == Steps::OnlyChecks {
        return;
    }
    let definition = task.map_or(Ok(None), |task| agent_definition(&project, &task));
    let definition = findings.add(
        "agent definition",
        definition,
        |definition| match definition {
            Some(definition) => definition.name.clone(),
            None => "none".to_owned(),
        },
    );
    if let Some(definition) = definition {
        let agent = agent::create(&settings.agent, definition.as_ref());
        check_and_add_agent(findings, settings, agent, Some(&dir));
    }
}

/// Checks and returns the directory in which a run works, or the sample that it copies. Only a directory in which a run
/// works must be writable and belong to the agent's user.
async fn check_workspace(
    settings: &Settings,
    local_project: &LocalProject,
) -> Result<PathBuf, Failure> {
    match local_project {
        LocalProject::Sample(dir) => Workspace::check_sample(dir).await.map(|()| dir.clone()),
        LocalProject::Directory(dir) => {
            let dir = existing_directory(dir)?;
            check_writable(&dir)?;
            if let Some(user) = &settings.isolation.user {
                check_owner(user, &dir)?;
            }
            Ok(dir)
        }
    }
}

/// Checks the project in a remote repository. Its task, checks and agent definition can be read only after the
/// clone.
async fn check_remote_project(
    findings: &mut Findings,
    settings: &Settings,
    repository: &RemoteRepository,
    redactor: &Redactor,
    stop: &Stop,
) {
    let progress = Progress::new();
    let git = Git::find(
        &settings.environment,
        &repository.git_access,
        &repository.url,
        redactor,
        stop,
        &progress,
    );
    let git = git.map_err(|error| Failure::from_error(Reason::WorkspaceFailed, &error));
    let git = findings.add("git", git, |git| git.program().display().to_string());
    if let Some(mut git) = git {
        git.deadline = Some(Instant::now() + REPOSITORY_TIMEOUT);
        let answer = ask_remote(&git, repository).await;
        findings.add("repository", answer, String::clone);
    }
    let into = repository.into.as_deref();
    findings.add("workspace", check_clone_target(into), |()| match into {
        Some(dir) => format!("a clone in {}", dir.display()),
        None => "a clone in a new temporary directory".to_owned(),
    });
    if let Some(commands) = &settings.checks {
        let checks = Checks {
            commands: commands.clone(),
            stop_on_failure: true,
            timeout: None,
        };
        findings.add(
            "checks",
            with_existing_programs(checks, &settings.agent.path),
            |checks| match checks.commands.as_slice() {
                [] => "none".to_owned(),
                commands => commands.join(", "),
            },
        );
    }
    if settings.steps == Steps::All {
        let agent = agent::create(&settings.agent, None);
        check_and_add_agent(findings, settings, agent, None);
    }
}

/// Checks the agent, and adds the finding. `dir` is the project's directory, if it is on this machine.
fn check_and_add_agent(
    findings: &mut Findings,
    settings: &Settings,
    agent: Result<Box<dyn Agent>, Failure>,
    dir: Option<&Path>,
) {
    let agent = check_agent(agent, &settings.agent, dir);
    findings.add("agent", agent, String::clone);
}

/// The kind of the agent that the settings select; an error if something that the agent needs is missing.
pub fn usable_agent(settings: &agent::Settings) -> Result<String, Failure> {
    check_agent(agent::create(settings, None), settings, None)
}

/// The kind of an agent; an error if its program is missing or one of its limits cannot be enforced.
fn check_agent(
    agent: Result<Box<dyn Agent>, Failure>,
    settings: &agent::Settings,
    dir: Option<&Path>,
) -> Result<String, Failure> {
    let kind = agent?.report().kind;
    model_gateway::check_limits(settings, kind)?;
    let command = settings.command.as_deref();
    match command.map(|command| look_up(command, &settings.path, dir)) {
        Some(Lookup::Missing(word)) if kind == agent::COMMAND => Err(Failure::new(
            Reason::AgentNotFound,
            format!(
                "there is no executable program `{word}`, which DESCARTES_AGENT_COMMAND starts: correct the \
                 command, or install the program"
            ),
        )),
        _ => Ok(kind.to_owned()),
    }
}

fn check_writable(dir: &Path) -> Result<(), Failure> {
    access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| Failure {
        causes: vec![io::Error::from(error).to_string()],
        ..Failure::new(
            Reason::WorkspaceFailed,
            format!("the workspace {} cannot be written", dir.display()),
        )
    })
}

/// Checks that the directory for a clone is empty or does not exist yet.
fn check_clone_target(dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else { return Ok(()) };
    let not_empty = match is_empty_for_clone(dir) {
        Ok(is_empty) => (!is_empty).then(|| "it is not empty".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(error.to_string()),
    };
    not_empty.map_or(Ok(()), |why| {
        Err(Failure::new(
            Reason::WorkspaceFailed,
            format!("nothing can be cloned into {}: {why}", dir.display()),
        ))
    })
}

/// Returns the checks if their programs exist. A missing program inside the project is accepted: the agent may build
/// it.
fn with_existing_programs(checks: Checks, path: &OsStr) -> Result<Checks, Failure> {
    for command in &checks.commands {
        if let Lookup::Missing(word) = look_up(command, path, None) {
            return Err(Failure::new(
                Reason::WorkspaceFailed,
                format!(
                    "the check `{command}` cannot start: there is no executable program `{word}`; correct the \
                     command, or install the program"
                ),
            ));
        }
    }
    Ok(checks)
}

/// Asks the remote repository for the branch, the tag or `HEAD`.
async fn ask_remote(git: &Git<'_>, repository: &RemoteRepository) -> Result<String, Failure> {
    let url = &repository.url;
    let wanted = repository.reference.as_deref().unwrap_or("HEAD");
    let call = Call::new(Path::new("/"), ["ls-remote", "--"])
        .arg(url)
        .arg(wanted)
        .contacts_remote();
    let failed = |message: String, error: &GitError| Failure {
        causes: vec![error.messages.clone()],
        ..Failure::new(Reason::WorkspaceFailed, message)
    };
    let answer = git
        .run(call)
        .await
        .map_err(|error| failed(format!("{url} cannot be cloned: {error}"), &error))?;
    let names = answer
        .lines()
        .filter_map(|line| Some(line.split_once('\t')?.1));
    if names.into_iter().any(|name| is_name_of(wanted, name)) {
        return Ok(format!("{url} ({wanted})"));
    }
    if matches!(wanted.len(), 40 | 64) && wanted.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(format!(
            "{url} (only the clone can tell whether commit {wanted} exists)"
        ));
    }
    let message = match &repository.reference {
        Some(reference) => format!(
            "{url} has no branch or tag `{reference}`; correct DESCARTES_REF, or push the branch"
        ),
        None => {
            format!("{url} has no default branch: it is empty, or its HEAD names a missing branch")
        }
    };
    Err(Failure::new(Reason::WorkspaceFailed, message))
}

/// Whether `git fetch <wanted>` would fetch the remote's reference with the full name `name`.
fn is_name_of(wanted: &str, name: &str) -> bool {
    let prefixes = ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"];
    prefixes
        .iter()
        .any(|prefix| name.strip_prefix(prefix) == Some(wanted))
}
