//! Finds mistakes in the project's files with settings that every worker reads. A worker that finds such a mistake ends
//! at once. So a dispatch does not start if there is a mistake, and a merge that would add one is rejected. Definitions
//! of agents are read only by the workers of some tasks; the module `agent_definitions` finds mistakes in them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;

use super::agent_definitions::{DefinitionMistake, new_definition_mistakes};
use super::engine::EngineKind;
use super::integration::{Commit, Integration, IntegrationError};
use super::names::list_tasks;
use super::needs;
use super::settings::{AgentOfWorkers, Settings};
use crate::descartes_toml::{FILE_NAME, MAX_FILE_SIZE};
use crate::environment::value_of;
use crate::programs::{Lookup, look_up};
use crate::runner::agent;
use crate::runner::preflight::usable_agent;
use crate::runner::project_settings::{ProjectSettings, ProjectSettingsReader};
use crate::scud::{AGENTS_DIR, Checks, GRAPH_PATH, MAX_SETTINGS_SIZE, TaskGraph};

/// The path of the file with the project's checks.
pub const CHECKS_FILE: &str = ".scud/config.toml";
/// The files that [`ProjectRules::find_mistakes`] reads, and the directory with the definitions of agents.
const PATHS_WITH_SETTINGS: [&str; 3] = [FILE_NAME, CHECKS_FILE, AGENTS_DIR];

/// The settings that decide whether a project's files are correct for the workers of this dispatch.
#[derive(Debug, Clone)]
pub struct ProjectRules {
    pub project_settings: ProjectSettingsReader,
    /// Check commands that replace the project's.
    pub checks: Option<Vec<String>>,
    /// The variable `PATH` of workers; `None` if they run on other machines.
    pub path: Option<OsString>,
    /// The agent of workers on this machine, unless the project chooses another one. `None` if the agent is known to
    /// exist, or if the workers run on other machines.
    pub agent: Option<agent::Settings>,
    /// The keys of the tasks of the dispatch. No merge may break or delete the definitions of their agents.
    pub scope: HashSet<String>,
}

/// The mistakes that a merge would add to the branch.
#[derive(Debug, PartialEq, Eq)]
pub struct NewMistakes {
    pub sentences: Vec<String>,
    /// Which workers the mistakes affect: a clause that can follow "because".
    pub effect: String,
}

impl NewMistakes {
    /// `None` if there are no mistakes. `for_all_workers` has mistakes in files that every worker reads, and
    /// `in_definitions` mistakes in definitions of agents.
    fn of(for_all_workers: Vec<String>, in_definitions: Vec<DefinitionMistake>) -> Option<Self> {
        let effect = if !for_all_workers.is_empty() {
            "no worker could start with it".to_owned()
        } else if !in_definitions.is_empty() {
            let mut tasks: Vec<String> = Vec::new();
            for mistake in &in_definitions {
                tasks.extend(mistake.tasks.iter().cloned());
            }
            format!(
                "no worker of {} could use the definition of its agent",
                list_tasks(&tasks)
            )
        } else {
            return None;
        };
        let mut sentences = for_all_workers;
        sentences.extend(in_definitions.into_iter().map(|mistake| mistake.sentence));
        Some(Self { sentences, effect })
    }
}

impl ProjectRules {
    /// The rules for the workers of these settings, without tasks. If no worker runs on this machine, the programs of
    /// this machine do not matter.
    pub fn of(settings: &Settings) -> Self {
        let is_local = settings.engines.uses(EngineKind::Local);
        let path = value_of(&settings.environment, "PATH").map(ToOwned::to_owned);
        let agent = match &settings.agent {
            AgentOfWorkers::Settings(agent) => Some(agent.as_ref().clone()),
            AgentOfWorkers::Exists => None,
        };
        Self {
            project_settings: settings.project_settings.clone(),
            checks: settings.checks.clone(),
            path: path.filter(|_| is_local),
            agent: agent.filter(|_| is_local),
            scope: HashSet::new(),
        }
    }

    /// The same rules, for merges of a dispatch that works on these tasks.
    pub fn for_tasks(self, scope: HashSet<String>) -> Self {
        Self { scope, ..self }
    }

    /// The mistakes in the files of a commit, as sentences. A program inside the project may be missing, because a
    /// task may create it.
    pub async fn find_mistakes(
        &self,
        integration: &Integration,
        commit: &Commit,
    ) -> Result<Vec<String>, IntegrationError> {
        let text = match integration
            .read_text(commit, FILE_NAME, MAX_FILE_SIZE)
            .await?
        {
            Ok(text) => text.unwrap_or_default(),
            Err(mistake) => return Ok(vec![mistake]),
        };
        let project = match self.project_settings.read(&text) {
            Ok(project) => project,
            Err(why) => return Ok(vec![format!("{FILE_NAME} cannot be used: {why}")]),
        };
        let mut mistakes = Vec::new();
        mistakes.extend(self.missing_agent(&project));
        if let Some(graph) = integration.read_file(commit, GRAPH_PATH).await?
            && let Ok(graph) = TaskGraph::parse(&String::from_utf8_lossy(&graph))
            && let Err(why) = needs::read(&text, &graph)
        {
            mistakes.push(format!("{FILE_NAME} cannot be used: {why}"));
        }
        match self.checks(integration, commit, project.checks).await? {
            Ok(commands) => mistakes.extend(self.missing_programs(&commands)),
            Err(mistake) => mistakes.push(mistake),
        }
        Ok(mistakes)
    }

    /// The mistakes that the commit `merged` would add to the branch, whose tip is `onto`; `None` if there are none.
    /// Mistakes that `onto` has too do not count: a program may disappear from this machine while the dispatch runs.
    pub async fn find_new_mistakes(
        &self,
        integration: &Integration,
        onto: &Commit,
        merged: &Commit,
    ) -> Result<Option<NewMistakes>, IntegrationError> {
        if !integration
            .paths_differ(onto, merged, &PATHS_WITH_SETTINGS)
            .await?
        {
            return Ok(None);
        }
        let mut mistakes = self.find_mistakes(integration, merged).await?;
        if !mistakes.is_empty() {
            let old_mistakes = self.find_mistakes(integration, onto).await?;
            mistakes.retain(|mistake| !old_mistakes.contains(mistake));
        }
        let scope = &self.scope;
        let in_definitions = new_definition_mistakes(integration, onto, merged, scope).await?;
        Ok(NewMistakes::of(mistakes, in_definitions))
    }

    /// An error message if the agent cannot run on this machine, for example because its program is missing.
    pub fn missing_agent(&self, project: &ProjectSettings) -> Option<String> {
        let settings = self.agent.as_ref()?.with_project_settings(project);
        usable_agent(&settings)
            .err()
            .map(|failure| failure.message_with_causes())
    }

    /// The commands that workers run as checks. Like a worker, reads the file with the checks only if no other setting
    /// names commands. The inner error is a mistake in that file.
    async fn checks(
        &self,
        integration: &Integration,
        commit: &Commit,
        commands_of_project: Option<Vec<String>>,
    ) -> Result<Result<Vec<String>, String>, IntegrationError> {
        if let Some(commands) = self.checks.clone().or(commands_of_project) {
            return Ok(Ok(commands));
        }
        let text = integration
            .read_text(commit, CHECKS_FILE, MAX_SETTINGS_SIZE)
            .await?;
        Ok(text.and_then(|text| {
            let checks = Checks::parse(&text.unwrap_or_default(), Path::new(CHECKS_FILE));
            checks
                .map(|checks| checks.commands)
                .map_err(|error| error.to_string())
        }))
    }

    /// An error message for each command whose program does not exist on this machine.
    fn missing_programs(&self, commands: &[String]) -> Vec<String> {
        let Some(path) = &self.path else {
            return Vec::new();
        };
        let missing = commands.iter().filter_map(|command| {
            match look_up(command, path, None) {
                Lookup::Missing(word) => Some(format!(
                    "the check `{command}` cannot start: there is no executable program `{word}`; correct the command, or \
                     install the program"
                )),
                _ => None,
            }
        });
        missing.collect()
    }
}

/// Adds the commit to a mistake in a file: without the commit, the user may look at the file in the work tree.
pub fn at_commit(mistake: &str, commit: &Commit) -> String {
    if PATHS_WITH_SETTINGS
        .iter()
        .any(|path| mistake.starts_with(path))
    {
        format!("at the commit {}, {mistake}", commit.id)
    } else {
        mistake.to_owned()
    }
}
