//! Reads the whole graph once: tasks, edges, parents.

use std::collections::HashMap;

use super::inheritance::{Dependencies, inherit};
use super::node::{Standing, TaskNode};
use crate::scud::fields::unescape;
use crate::scud::lexer::{Item, Items, Node, SyntaxError, parse_edge, parse_parent, quote};
use crate::scud::row::Row;
use crate::scud::search::id_in_phase;
use crate::task::Status;

/// A phase that is being read, with ids as they are written in the file.
#[derive(Debug, Default)]
struct Phase<'a> {
    tag: &'a str,
    line: usize,
    /// Whether the edges of this phase are the flow of a pipeline and not dependencies.
    is_pipeline: bool,
    /// Each dependent with one dependency.
    edges: Vec<(&'a str, &'a str)>,
    /// Each parent with its subtasks.
    parents: Vec<(&'a str, Vec<&'a str>)>,
}

/// Finds tasks by their names in edges.
struct Index<'a> {
    /// The tasks by the index of their phase and their id in the phase.
    in_phase: HashMap<(usize, &'a str), usize>,
    /// The phases by their tag, for edges with a phase.
    phases: HashMap<&'a str, usize>,
    /// The tasks by their id alone: `None` if several phases have the id.
    any_phase: HashMap<&'a str, Option<usize>>,
}

impl Index<'_> {
    /// The task that an edge of a phase means. SCUD searches all phases; here the phase of the edge comes first.
    fn find(&self, phase: usize, tag: &str, name: &str) -> Option<usize> {
        let same_phase = self.in_phase.get(&(phase, id_in_phase(tag, name)));
        let with_phase = || {
            let (tag, id) = name.rsplit_once(':')?;
            self.in_phase.get(&(*self.phases.get(tag)?, id))
        };
        same_phase
            .or_else(with_phase)
            .copied()
            .or_else(|| self.any_phase.get(name).copied().flatten())
    }
}

/// Returns the tasks with their needs, and the tags of the phases.
///
/// Nodes come before edges in the file only within a phase, so edges are resolved after the whole file was read.
/// Parents come before dependencies, because a task also needs the dependencies of its parents.
pub fn read(text: &str) -> Result<(Vec<TaskNode>, Vec<String>), SyntaxError> {
    let mut phases: Vec<Phase<'_>> = Vec::new();
    // Each node with the index of its phase.
    let mut nodes: Vec<(usize, Node<'_>)> = Vec::new();
    for item in Items::of(text) {
        let item = item?;
        if let Item::Phase { tag, line, .. } = item {
            phases.push(Phase {
                tag,
                line,
                ..Phase::default()
            });
            continue;
        }
        let phase_index = phases.len().saturating_sub(1);
        let Some(phase) = phases.last_mut() else {
            continue;
        };
        match item {
            Item::Name(name) => phase.tag = name,
            Item::Pipeline => phase.is_pipeline = true,
            Item::Node(node) => nodes.push((phase_index, node)),
            Item::Edge(line) => phase.edges.extend(parse_edge(line)),
            Item::Parent(line) => {
                let parent = parse_parent(line);
                let parent = parent.map(|(parent, subtasks)| (parent, subtasks.collect()));
                phase.parents.extend(parent);
            }
            _ => {}
        }
    }
    reject_duplicate_phases(&phases)?;
    let (mut tasks, index) = read_tasks(&phases, &nodes)?;
    let parents = connect_parents(&phases, &index, &mut tasks);
    let own = own_dependencies(&phases, &index, tasks.len());
    let all = inherit(own, &parents).map_err(|task| {
        let node = nodes[task].1;
        let message = format!(
            "with task {}, the tasks of the graph inherit too many dependencies from their parents; remove some of the parents' dependencies",
            quote(node.id())
        );
        SyntaxError { line: node.line, message }
    })?;
    for (node, dependencies) in tasks.iter_mut().zip(all) {
        if node.status == Status::Expanded {
            node.needs = node.subtasks.clone();
        } else {
            node.needs.clone_from(&dependencies.needs);
            node.absent_dependencies.clone_from(&dependencies.absent);
        }
    }
    let phases = phases.iter().map(|phase| phase.tag.to_owned());
    Ok((tasks, phases.collect()))
}

/// An error if two phases have the same tag.
fn reject_duplicate_phases(phases: &[Phase<'_>]) -> Result<(), SyntaxError> {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for phase in phases {
        if let Some(first) = lines.insert(phase.tag, phase.line) {
            return Err(SyntaxError::defined_twice(
                "phase", phase.tag, first, phase.line,
            ));
        }
    }
    Ok(())
}

/// Returns the tasks without their needs, and the index to find them.
fn read_tasks<'a>(
    phases: &[Phase<'a>],
    nodes: &[(usize, Node<'a>)],
) -> Result<(Vec<TaskNode>, Index<'a>), SyntaxError> {
    let mut index = Index {
        in_phase: HashMap::with_capacity(nodes.len()),
        phases: HashMap::new(),
        any_phase: HashMap::with_capacity(nodes.len()),
    };
    let tags = phases.iter().enumerate();
    index
        .phases
        .extend(tags.map(|(phase_index, phase)| (phase.tag, phase_index)));
    let mut tasks = Vec::with_capacity(nodes.len());
    for (phase, node) in nodes {
        let row = Row::of(*node)?;
        let tag = phases[*phase].tag;
        let id = id_in_phase(tag, node.id());
        let task = tasks.len();
        if let Some(first) = index.in_phase.insert((*phase, id), task) {
            return Err(SyntaxError::defined_twice(
                "task",
                id,
                nodes[first].1.line,
                node.line,
            ));
        }
        let entry = index.any_phase.entry(id).or_insert(Some(task));
        if *entry != Some(task) {
            *entry = None;
        }
        tasks.push(TaskNode {
            phase: tag.to_owned(),
            id: id.to_owned(),
            key: format!("{tag}:{id}"),
            title: unescape(row.title),
            status: row.status,
            complexity: row.complexity,
            priority: row.priority,
            needs: Vec::new(),
            subtasks: Vec::new(),
            absent_dependencies: Vec::new(),
            is_done: false,
            chain_length: 0,
            standing: Standing::Closed,
        });
    }
    Ok((tasks, index))
}

/// Fills in the subtasks of every task, and returns the parent of each task. `@parents` or else the id names the parent:
/// `8.2` is a subtask of `8`.
fn connect_parents(
    phases: &[Phase<'_>],
    index: &Index<'_>,
    tasks: &mut [TaskNode],
) -> Vec<Option<usize>> {
    let mut parents = vec![None; tasks.len()];
    for (phase_index, phase) in phases.iter().enumerate() {
        let find = |name| index.find(phase_index, phase.tag, name);
        for (parent, subtasks) in &phase.parents {
            let Some(parent) = find(parent) else { continue };
            for subtask in subtasks.iter().filter_map(|name| find(name)) {
                parents[subtask].get_or_insert(parent);
            }
        }
    }
    for task in 0..tasks.len() {
        let node = &tasks[task];
        let by_id = || {
            let (id, _) = node.id.rsplit_once('.')?;
            let phase = *index.phases.get(node.phase.as_str())?;
            index.in_phase.get(&(phase, id)).copied()
        };
        let parent = parents[task]
            .or_else(by_id)
            .filter(|parent| *parent != task);
        parents[task] = parent;
        if let Some(parent) = parent {
            tasks[parent].subtasks.push(task);
        }
    }
    parents
}

/// The dependencies that the edges name for each task, without those of its parents.
fn own_dependencies(
    phases: &[Phase<'_>],
    index: &Index<'_>,
    task_count: usize,
) -> Vec<Dependencies> {
    let mut own = vec![Dependencies::default(); task_count];
    let phases = phases.iter().enumerate();
    for (phase_index, phase) in phases.filter(|(_, phase)| !phase.is_pipeline) {
        for (dependent, dependency) in &phase.edges {
            let Some(task) = index.find(phase_index, phase.tag, dependent) else {
                continue;
            };
            match index.find(phase_index, phase.tag, dependency) {
                Some(needed) => own[task].needs.push(needed),
                None => own[task].absent.push((*dependency).to_owned()),
            }
        }
    }
    own
}
