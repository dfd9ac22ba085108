//! Finds the tasks that a dispatch works on.

use std::collections::{BTreeSet, HashSet};

use crate::scud::TaskGraph;

/// The positions of the tasks in some phases. If `only` names tasks, other tasks are left out.
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
    let mut found = HashSet::new();
    for name in only {
        let task = find_task(graph, &in_phases, name)?;
        found.insert(task);
        // An expanded task stands for its subtasks.
        let mut left = graph.tasks[task].subtasks.clone();
        while let Some(subtask) = left.pop() {
            if found.insert(subtask) {
                left.extend_from_slice(&graph.tasks[subtask].subtasks);
            }
        }
    }
    Ok(found)
}

/// The task with an id, written with or without its phase.
pub fn find_task(graph: &TaskGraph, scope: &HashSet<usize>, name: &str) -> Result<usize, String> {
    let fits = |task: &usize| {
        let node = &graph.tasks[*task];
        node.id == name || format!("{}:{}", node.phase, node.id) == name
    };
    let found: Vec<usize> = (0..graph.tasks.len())
        .filter(|task| scope.contains(task))
        .filter(fits)
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
