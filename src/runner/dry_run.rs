//! Finds out what a run would do first: the prompt and the agent's command line. Starts no program, and changes
//! nothing.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::agent::{self, ProgramContext};
use super::checks::Checks;
use super::project_file;
use super::project_settings::FileSource;
use super::project_task::{agent_definition, find_task};
use super::prompt::{self, Location};
use super::settings::Settings;
use super::workspace::existing_directory;
use crate::programs;
use crate::redact::Redactor;
use crate::scud::Project;
use crate::task::{Failure, Task};

/// Stands for the private directory of a run, which does not exist yet.
const RUN_DIRECTORY: &str = "RUN_DIRECTORY";
/// Stands for the directory of a clone, which does not exist yet.
const CLONE_DIRECTORY: &str = "CLONE_DIRECTORY";

/// Where the run would work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workplace {
    /// In the project's directory.
    Project,
    /// In a clone of the project.
    Clone,
}

/// The first round of a run.
#[derive(Debug)]
pub struct FirstRound {
    pub task: Task,
    pub workplace: Workplace,
    /// The directory that the agent would work in.
    pub dir: PathBuf,
    /// The kind of agent.
    pub agent: &'static str,
    pub model: Option<String>,
    /// The agent's program and its arguments.
    pub command: Vec<String>,
    /// Whether the agent has the key for the model's service.
    pub key: Key,
    pub checks: Vec<String>,
    /// The settings that the project's file decides.
    pub from_project: Vec<FileSource>,
    pub prompt: String,
}

/// Whether the agent has the key that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The key is set, or the agent needs none.
    Present,
    Missing,
}

/// Finds out what the first round of a run on the project in `dir` would do.
///
/// # Errors
/// If the run would fail before its agent starts. A missing key is not an error: [`FirstRound::key`] says so.
pub async fn first_round(
    settings: &Settings,
    dir: &Path,
    workplace: Workplace,
    redactor: &Redactor,
) -> Result<FirstRound, Failure> {
    let dir = existing_directory(dir)?;
    let project_settings = project_file::read(settings, &dir)?;
    let settings = match &project_settings {
        Some(project_settings) => &settings.with_project_settings(project_settings),
        None => settings,
    };
    let project = Project::at(dir.clone());
    let task = find_task(settings, &project).await?;
    let checks = Checks::select(&project, settings.checks.as_deref())?;
    let definition = agent_definition(&project, &task)?;
    let dir = match workplace {
        Workplace::Project => dir,
        Workplace::Clone => CLONE_DIRECTORY.into(),
    };
    let location = match workplace {
        Workplace::Project => Location::Project(&dir),
        Workplace::Clone => Location::Clone(&dir),
    };
    let note = settings.note.as_ref().map(|note| redactor.mask(note));
    let prompt = prompt::first_prompt(
        &task,
        definition.as_ref(),
        location,
        &checks,
        note.as_deref(),
    )?;
    let (mut agent, key) = match agent::create(&settings.agent, definition.as_ref()) {
        Ok(agent) => (agent, Key::Present),
        Err(failure) => {
            let with_key = settings.agent.with_placeholder_key();
            // The first failure names what is missing. A failure with the placeholder could be a consequence of the
            // placeholder.
            let agent = agent::create(&with_key, definition.as_ref()).map_err(|_| failure)?;
            (agent, Key::Missing)
        }
    };
    let report = agent.report();
    let program = agent.program(ProgramContext {
        dir: &dir,
        state_dir: RUN_DIRECTORY.into(),
        environment: settings.environment.clone(),
        user: None,
        launch: None,
        environment_without_variables_file: settings.environment.clone(),
        variables_file: settings.variables_file.as_ref(),
        model_access: &settings.agent.model_access,
    })?;
    let words = std::iter::once(program_name(&program.program)).chain(program.args);
    let command = words.map(|word| redactor.mask(&word.to_string_lossy()));
    Ok(FirstRound {
        agent: report.kind,
        model: report.model,
        command: command.collect(),
        key,
        checks: checks.commands,
        from_project: project_settings
            .map(|project_settings| project_settings.sources)
            .unwrap_or_default(),
        prompt,
        task,
        workplace,
        dir,
    })
}

/// The program as a user can start it. The worker starts its own program as `/proc/self/exe`, which means another
/// program in another process.
fn program_name(program: &OsStr) -> OsString {
    let is_own = programs::own_executable().is_ok_and(|executable| executable == program);
    match std::env::current_exe() {
        Ok(path) if is_own => path.into(),
        _ => program.to_owned(),
    }
}
