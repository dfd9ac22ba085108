//! Finds mistakes in the files with settings that workers read from the project. A worker with such a mistake ends at
//! once. So a dispatch does not start if a file that every worker reads has a mistake, and a merge that would add one
//! is rejected. Definitions of agents are read only by the workers of some tasks; the module `agent_definitions` finds
//! mistakes in them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;

use super::agent_definitions::{DefinitionMistake, new_definition_mistakes};
use super::engine::EngineKind;
use super::integration::{Commit, Integration, IntegrationError};
use super::names::list_tasks;
use super::needs;
use super::settings::{AgentOfWorkers, Settings};
use crate::descartes_toml::{FILE, MAX_SIZE};
use crate::environment::value_of;
use crate::programs::{Lookup, look_up};
use crate::runner::agent;
use crate::runner::preflight::usable_agent;
use crate::runner::project_settings::{ProjectSettings, ProjectSettingsReader};
use crate::scud::{AGENTS_DIR, Checks, GRAPH_PATH, MAX_SETTINGS_SIZE, TaskGraph};

/// The path of the file with the project's checks.
pub const CONFIG: &str = ".scud/config.toml";
/// The files that [`ProjectRules::find_mistakes`] reads, and the directory with the definitions of agents.
const FILES: [&str; 3] = [FILE, CONFIG, AGENTS_DIR];

/// The settings that decide whether a project's files are correct for the workers of this dispatch.
#[derive(Debug, Clone)]
pub struct ProjectRules {
    pub project_settings: ProjectSettingsReader,
    /// Check commands that replace the project's.
    pub checks: Option<Vec<String>>,
    /// The search path of workers; `None` if they run on other machines.
    pub path: Option<OsString>,
    /// The agent of workers on this machine, unless the project chooses another one. `None` if it is known to
    /// exist.
    pub agent: Option<agent::Settings>,
    /// The keys of the tasks of the dispatch. No merge may break the definitions of their agents.
    pub scope: HashSet<String>,
}

/// The mistakes that a merge would add to the branch.
#[derive(Debug, PartialEq, Eq)]
pub struct NewMistakes {
    pub sentences: Vec<String>,
    /// Which workers the mistakes affect, as the end of a sentence that begins with "because".
    pub effect: String,
}

impl NewMistakes {
    /// `None` if there are no mistakes.
    fn of(of_all_workers: Vec<String>, of_definitions: Vec<DefinitionMistake>) -> Option<Self> {
        let effect = if !of_all_workers.is_empty() {
            "no worker could start with it".to_owned()
        } else if !of_definitions.is_empty() {
            let mut tasks: Vec<String> = Vec::new();
            for mistake in &of_definitions {
                tasks.extend(mistake.tasks.iter().cloned());
            }
            format!(
                "no worker of {} could use the definition of its agent",
                list_tasks(&tasks)
            )
        } else {
            return None;
        };
        let mut sentences = of_all_workers;
        sentences.extend(of_definitions.into_iter().map(|mistake| mistake.sentence));
        Some(Self { sentences, effect })
    }
}

impl ProjectRules {
    /// The rules for the workers of these settings. Workers on other machines do not use the programs of this machine,
    /// so the rules leave these out.
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

    /// The rules for merges of a dispatch that works on these tasks.
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
        let text = match integration.read_text(commit, FILE, MAX_SIZE).await? {
            Ok(text) => text.unwrap_or_default(),
            Err(mistake) => return Ok(vec![mistake]),
        };
        let project = match self.project_settings.read(&text) {
            Ok(project) => project,
            Err(why) => return Ok(vec![format!("{FILE} cannot be used: {why}")]),
        };
        let mut mistakes = Vec::new();
        mistakes.extend(self.missing_agent(&project));
        if let Some(graph) = integration.read_file(commit, GRAPH_PATH).await?
            && let Ok(graph) = TaskGraph::parse(&String::from_utf8_lossy(&graph))
            && let Err(why) = needs::read(&text, &graph)
        {
            mistakes.push(format!("{FILE} cannot be used: {why}"));
        }
        match self.checks(integration, commit, project.checks).await? {
            Ok(commands) => mistakes.extend(self.missing_programs(&commands)),
            Err(mistake) => mistakes.push(mistake),
        }
        Ok(mistakes)
    }

    /// The mistakes that the commit `merged` would add to the branch, whose tip is `onto`; `None` if there are none.
    /// Mistakes that `onto` has do not count: a program may disappear from this machine while the dispatch runs.
    pub async fn find_new_mistakes(
        &self,
        integration: &Integration,
        onto: &Commit,
        merged: &Commit,
    ) -> Result<Option<NewMistakes>, IntegrationError> {
        if !integration.differ(onto, merged, &FILES).await? {
            return Ok(None);
        }
        let mut mistakes = self.find_mistakes(integration, merged).await?;
        if !mistakes.is_empty() {
            let old_mistakes = self.find_mistakes(integration, onto).await?;
            mistakes.retain(|mistake| !old_mistakes.contains(mistake));
        }
        let scope = &self.scope;
        let of_definitions = new_definition_mistakes(integration, onto, merged, scope).await?;
        Ok(NewMistakes::of(mistakes, of_definitions))
    }

    /// An error message if the agent cannot run on this machine, for example because its program is missing.
    pub fn missing_agent(&self, project: &ProjectSettings) -> Option<String> {
        let settings = self.agent.as_ref()?.with_project_settings(project);
        usable_agent(&settings)
            .err()
            .map(|failure| failure.sentence())
    }

    /// The commands that workers run as checks. Like a worker, reads the file with the checks only if no other setting
    /// names commands.
    async fn checks(
        &self,
        integration: &Integration,
        commit: &Commit,
        of_project: Option<Vec<String>>,
    ) -> Result<Result<Vec<String>, String>, IntegrationError> {
        if let Some(commands) = self.checks.clone().or(of_project) {
            return Ok(Ok(commands));
        }
        let text = integration
            .read_text(commit, CONFIG, MAX_SETTINGS_SIZE)
            .await?;
        Ok(text.and_then(|text| {
            let checks = Checks::parse(&text.unwrap_or_default(), Path::new(CONFIG));
            checks
                .map(|checks| checks.commands)
                .map_err(|error| error.to_string())
        }))
    }

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

/// A mistake with the commit that has the file: the user may otherwise look at the file in the work tree.
pub fn at_commit(mistake: &str, commit: &Commit) -> String {
    if FILES.iter().any(|file| mistake.starts_with(file)) {
        format!("at the commit {}, {mistake}", commit.id)
    } else {
        mistake.to_owned()
    }
}
