//! Finds mistakes in the definitions of agents that open tasks are assigned to.
//!
//! A worker reads the definition of its task's agent, and ends at once if there is a mistake in it. So a task is
//! blocked while the branch has such a mistake, and a merge that would add one is rejected. A missing definition is
//! not a mistake: the worker uses the default prompt and model. But a merge may not delete a definition that an open
//! task needs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::integration::{Commit, Integration, IntegrationError};
use super::names::list_tasks;
use crate::scud::{AgentFile, GRAPH_PATH, MAX_SETTINGS_SIZE, TaskGraph, assigned_agents};
use crate::task::Status;

/// The mistake in the definition of a task's agent, by the key of the task.
pub type BrokenDefinitions = HashMap<String, String>;

/// A mistake in a definition that affects tasks.
#[derive(Debug, PartialEq, Eq)]
pub struct DefinitionMistake {
    /// The mistake, as a clause without a period.
    pub sentence: String,
    /// The names of the tasks, in the order of the graph.
    pub tasks: Vec<String>,
}

/// The definition of an agent in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Definition {
    Missing,
    Usable,
    /// The definition has this mistake.
    Broken(String),
}

/// An open task that is assigned to an agent.
struct AssignedTask {
    key: String,
    /// The name of the task in messages.
    name: String,
    /// The name of the agent.
    agent: String,
}

/// The mistakes in the definitions of the agents of all open tasks, in the files of a commit. `graph` is the text of
/// the commit's graph.
pub async fn broken_definitions(
    integration: &Integration,
    commit: &Commit,
    graph: &str,
) -> Result<BrokenDefinitions, IntegrationError> {
    let tasks = assigned_tasks(graph);
    let definitions = read_definitions(integration, commit, &tasks).await?;
    let broken = tasks
        .into_iter()
        .filter_map(|task| match &definitions[&task.agent] {
            Definition::Broken(mistake) => Some((task.key, mistake.clone())),
            Definition::Missing | Definition::Usable => None,
        });
    Ok(broken.collect())
}

/// The mistakes that the commit `merged` would add to the branch, whose tip is `onto`: broken definitions of tasks
/// whose definition is not broken in `onto`, and deleted definitions. Only the tasks of the dispatch, whose keys are
/// in `scope`, count.
pub async fn new_definition_mistakes(
    integration: &Integration,
    onto: &Commit,
    merged: &Commit,
    scope: &HashSet<String>,
) -> Result<Vec<DefinitionMistake>, IntegrationError> {
    let mut tasks = assigned_tasks(&graph_text(integration, merged).await?);
    tasks.retain(|task| scope.contains(&task.key));
    let mut definitions = read_definitions(integration, merged, &tasks).await?;
    definitions.retain(|_, definition| *definition != Definition::Usable);
    tasks.retain(|task| definitions.contains_key(&task.agent));
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let graph = graph_text(integration, onto).await?;
    let broken_before = broken_definitions(integration, onto, &graph).await?;
    let definitions_before = read_definitions(integration, onto, &tasks).await?;
    let mut mistakes = Mistakes::default();
    for task in tasks {
        match &definitions[&task.agent] {
            Definition::Broken(mistake) if !broken_before.contains_key(&task.key) => {
                mistakes.add(mistake, task.name);
            }
            Definition::Missing if definitions_before[&task.agent] != Definition::Missing => {
                let agent = &task.agent;
                let sentence = format!(
                    "the definition of the agent `{agent}` was deleted, so its prompt and model would not be used"
                );
                mistakes.add(&sentence, task.name);
            }
            Definition::Missing | Definition::Usable | Definition::Broken(_) => {}
        }
    }
    Ok(mistakes.0)
}

/// A warning about each mistake in the definitions of agents that tasks of the dispatch are assigned to.
pub fn definition_warnings(
    broken: &BrokenDefinitions,
    graph: &TaskGraph,
    scope: &HashSet<usize>,
    commit: &str,
) -> Vec<String> {
    let mut mistakes = Mistakes::default();
    for task in (0..graph.tasks.len()).filter(|task| scope.contains(task)) {
        if let Some(mistake) = broken.get(&graph.tasks[task].key) {
            mistakes.add(mistake, graph.name(task));
        }
    }
    let warnings = mistakes
        .0
        .iter()
        .map(|DefinitionMistake { sentence, tasks }| {
            let (tasks, verb) = (
                list_tasks(tasks),
                if tasks.len() == 1 { "is" } else { "are" },
            );
            format!(
                "at the commit {commit}, {sentence}; {tasks} {verb} blocked until it is corrected"
            )
        });
    warnings.collect()
}

/// Mistakes, each with all tasks that it affects.
#[derive(Default)]
struct Mistakes(Vec<DefinitionMistake>);

impl Mistakes {
    /// Adds a task to the mistake with this sentence.
    fn add(&mut self, sentence: &str, task: String) {
        match self.0.iter_mut().find(|known| known.sentence == sentence) {
            Some(known) => known.tasks.push(task),
            None => self.0.push(DefinitionMistake {
                sentence: sentence.to_owned(),
                tasks: vec![task],
            }),
        }
    }
}

/// The text of a commit's graph; empty if the commit has no graph.
async fn graph_text(
    integration: &Integration,
    commit: &Commit,
) -> Result<String, IntegrationError> {
    let graph = integration.read_file(commit, GRAPH_PATH).await?;
    Ok(String::from_utf8_lossy(&graph.unwrap_or_default()).into_owned())
}

/// The open tasks of a graph that are assigned to an agent. A deferred task is not open. If the graph is malformed, the
/// result is empty.
fn assigned_tasks(text: &str) -> Vec<AssignedTask> {
    let mut agents = assigned_agents(text);
    if agents.is_empty() {
        return Vec::new();
    }
    let Ok(graph) = TaskGraph::parse(text) else {
        return Vec::new();
    };
    let is_open = |status| {
        !matches!(
            status,
            Status::Done | Status::Cancelled | Status::Deferred | Status::Expanded
        )
    };
    let tasks = graph.tasks.iter().enumerate().filter_map(|(task, node)| {
        let agent = agents.remove(&(node.phase.clone(), node.id.clone()))?;
        is_open(node.status).then(|| AssignedTask {
            key: node.key.clone(),
            name: graph.name(task),
            agent,
        })
    });
    tasks.collect()
}

/// The definitions of the tasks' agents in a commit, by the name of the agent.
async fn read_definitions(
    integration: &Integration,
    commit: &Commit,
    tasks: &[AssignedTask],
) -> Result<BTreeMap<String, Definition>, IntegrationError> {
    let mut definitions = BTreeMap::new();
    for AssignedTask { agent, .. } in tasks {
        if !definitions.contains_key(agent) {
            let definition = read_definition(integration, commit, agent).await?;
            definitions.insert(agent.clone(), definition);
        }
    }
    Ok(definitions)
}

/// Reads a definition and its template file in the same way as a worker.
async fn read_definition(
    integration: &Integration,
    commit: &Commit,
    agent: &str,
) -> Result<Definition, IntegrationError> {
    let path = match AgentFile::path(agent) {
        Ok(path) => path,
        Err(error) => return Ok(Definition::Broken(error.to_string())),
    };
    let read = integration.read_text(commit, &path, MAX_SETTINGS_SIZE);
    let text = match read.await? {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(Definition::Missing),
        Err(mistake) => return Ok(Definition::Broken(mistake)),
    };
    let template = match AgentFile::parse(&text, Path::new(&path)) {
        Ok(file) => file.template_file,
        Err(error) => return Ok(Definition::Broken(error.to_string())),
    };
    let Some(template) = template else {
        return Ok(Definition::Usable);
    };
    let read = integration.read_text(commit, &template, MAX_SETTINGS_SIZE);
    Ok(match read.await? {
        Ok(Some(_)) => Definition::Usable,
        Ok(None) => Definition::Broken(format!(
            "{path}: the template file {template} does not exist"
        )),
        Err(mistake) => Definition::Broken(format!("{path}: {mistake}")),
    })
}
