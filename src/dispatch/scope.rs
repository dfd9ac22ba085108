//! Finds the tasks that a dispatch works on.

use std::collections::{BTreeSet, HashSet};

use crate::scud::TaskGraph;

/// The positions in the graph of the tasks that a dispatch works on: the tasks of some phases. If `only` names tasks,
/// only these and their subtasks.
///
/// # Errors
/// If a name matches no task or several.
pub fn scope(
    graph: &TaskGraph,
    phases: &BTreeSet<String>,
    only: &[String],
) -> Result<HashSet<usize>, String> {
    let in_phases = (0..graph.tasks.len())
        .filter(|task| phases.contains(&graph.tasks[*task].phase))
        .collect();
    if only.is_empty() {
        return Ok(in_phases);
    }
    let mut chosen = HashSet::new();
    for name in only {
        let task = find_task(graph, &in_phases, name)?;
        chosen.insert(task);
        // An expanded task cannot run itself; its subtasks run instead.
        let mut left = graph.tasks[task].subtasks.clone();
        while let Some(subtask) = left.pop() {
            if chosen.insert(subtask) {
                left.extend_from_slice(&graph.tasks[subtask].subtasks);
            }
        }
    }
    Ok(chosen)
}

/// The position of the task with an id, written with or without its phase.
///
/// # Errors
/// A message for the user if no task or several tasks of the scope have the id.
pub fn find_task(graph: &TaskGraph, scope: &HashSet<usize>, name: &str) -> Result<usize, String> {
    let has_name = |task: &usize| {
        let node = &graph.tasks[*task];
        node.id == name || node.key == name
    };
    let found: Vec<usize> = (0..graph.tasks.len())
        .filter(|task| scope.contains(task))
        .filter(has_name)
        .collect();
    match found.as_slice() {
        [task] => Ok(*task),
        [] => Err(format!(
            "this dispatch has no task {name}; `descartes-worker tasks` lists them"
        )),
        [first, ..] => Err(format!(
            "several phases have a task {name}: write it with its phase, like {}:{name}",
            graph.tasks[*first].phase
        )),
    }
}
