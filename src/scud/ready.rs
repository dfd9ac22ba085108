//! All tasks of a graph with the tasks that each one needs. Finds out which tasks are ready, and why others are
//! blocked.
//!
//! A task needs its own dependencies and those of its parents; an expanded task needs its subtasks, and is
//! done when all of them are (in SCUD, it never is). A task whose dependency failed, was cancelled or does
//! not exist is blocked. No I/O: the caller has read the text.

mod cycles;
mod inheritance;
mod node;
mod read;

use std::collections::HashSet;
use std::sync::Arc;

use super::lexer::SyntaxError;
use crate::excerpt::first_chars;
use crate::task::{Priority, Status};
pub use node::{Obstacle, Standing, TaskNode};

/// All tasks of a graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskGraph {
    pub tasks: Vec<TaskNode>,
    /// The tags of the phases, in the order of the file.
    pub phases: Vec<String>,
    /// The positions of all tasks. A task comes after all tasks that it needs, except in a cycle.
    pub order: Vec<usize>,
}

impl TaskGraph {
    /// Reads the text of a graph.
    ///
    /// # Errors
    /// The line and the reason, if SCUD could not read the graph either, or if it could mean several things.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let (tasks, phases) = read::read(text)?;
        let order = Vec::new();
        let mut graph = Self {
            tasks,
            phases,
            order,
        };
        graph.compute_derived_fields();
        Ok(graph)
    }

    /// The position of a task.
    pub fn position(&self, phase: &str, id: &str) -> Option<usize> {
        let is_requested = |task: &TaskNode| task.phase == phase && task.id == id;
        self.tasks.iter().position(is_requested)
    }

    /// The positions of the tasks that are ready, the most important first: by priority, then by the length
    /// of the chain that waits for the task, then in the order of the file.
    pub fn ready(&self) -> Vec<usize> {
        let mut ready = self.tasks_with_standing(|standing| *standing == Standing::Ready);
        ready.sort_by_key(|task| self.rank(*task));
        ready
    }

    /// The key to sort tasks by, the more important one first.
    pub fn rank(&self, task: usize) -> (u8, std::cmp::Reverse<usize>, usize) {
        let node = &self.tasks[task];
        let priority = match node.priority {
            Priority::Critical => 0,
            Priority::High => 1,
            Priority::Medium => 2,
            Priority::Low => 3,
        };
        (priority, std::cmp::Reverse(node.chain_length), task)
    }

    /// The longest chain of unfinished tasks, from its beginning.
    pub fn critical_path(&self) -> Vec<usize> {
        let dependents = self.dependents();
        let is_unfinished = |task: &usize| self.is_unfinished(*task);
        let all: Vec<usize> = (0..self.tasks.len()).filter(is_unfinished).collect();
        let longest = |tasks: &[usize]| {
            let chains = tasks.iter().copied().filter(is_unfinished);
            // If chains have the same length, the first one is chosen.
            chains
                .rev()
                .max_by_key(|task| self.tasks[*task].chain_length)
        };
        let (mut path, mut seen) = (Vec::new(), HashSet::new());
        let mut next = longest(&all);
        while let Some(task) = next.filter(|task| seen.insert(*task)) {
            path.push(task);
            next = longest(&dependents[task]);
        }
        path.retain(|task| self.tasks[*task].status != Status::Expanded);
        path
    }

    /// The name of a task in messages. It contains the phase only if the graph has several phases.
    pub fn name(&self, task: usize) -> String {
        let node = &self.tasks[task];
        if self.phases.len() > 1 {
            format!("{}:{}", node.phase, node.id)
        } else {
            node.id.clone()
        }
    }

    /// The end of a sentence about a blocked task: why it is blocked.
    pub fn describe(&self, obstacle: &Obstacle) -> String {
        match obstacle {
            Obstacle::Absent(id) => format!("depends on {id}, which is not in the graph"),
            Obstacle::Cycle(members) => format!("is in a cycle: {}", self.describe_cycle(members)),
            Obstacle::Closed(task) => {
                let status = match self.tasks[*task].status {
                    Status::Expanded => "split, but has no subtasks".to_owned(),
                    status => status.to_string(),
                };
                format!("needs {}, which is {status}", self.name(*task))
            }
            Obstacle::BlockedTask(task) => format!("needs {}, which is blocked", self.name(*task)),
        }
    }

    /// The names of the members of a cycle. A long cycle is shortened, because the text is repeated for each member.
    fn describe_cycle(&self, members: &[usize]) -> String {
        const MAX_SHOWN: usize = 12;
        /// Longer than any id that SCUD accepts.
        const MAX_NAME_CHARS: usize = 128;
        let name = |task: &usize| first_chars(&self.name(*task), MAX_NAME_CHARS);
        let mut names: Vec<String> = members.iter().take(MAX_SHOWN).map(name).collect();
        match members.len().saturating_sub(MAX_SHOWN) {
            0 => names.extend(names.first().cloned()),
            omitted => names.push(format!("… and {omitted} more")),
        }
        names.join(" → ")
    }

    /// For each task, the tasks that directly need it.
    pub fn dependents(&self) -> Vec<Vec<usize>> {
        let mut dependents = vec![Vec::new(); self.tasks.len()];
        for (task, node) in self.tasks.iter().enumerate() {
            for needed in &node.needs {
                dependents[*needed].push(task);
            }
        }
        dependents
    }

    /// The positions of the tasks whose standing `is_selected` selects.
    fn tasks_with_standing(&self, is_selected: impl Fn(&Standing) -> bool) -> Vec<usize> {
        let tasks = self.tasks.iter().enumerate();
        let selected = tasks.filter(|(_, task)| is_selected(&task.standing));
        selected.map(|(task, _)| task).collect()
    }

    /// Whether a task still has to be done, by a run or by its subtasks.
    fn is_unfinished(&self, task: usize) -> bool {
        let node = &self.tasks[task];
        !node.is_done && matches!(node.status, Status::Pending | Status::Expanded)
    }

    /// Computes from the statuses of all tasks: whether each task is done, its standing, its chain, and the order.
    fn compute_derived_fields(&mut self) {
        let components =
            cycles::components(self.tasks.len(), |task| self.tasks[task].needs.as_slice());
        for component in &components {
            self.mark_done(component);
        }
        // Dependencies come first, so their standing is already known.
        let mut component_of = vec![0; self.tasks.len()];
        for (number, component) in components.iter().enumerate() {
            let is_cycle =
                component.len() > 1 || self.tasks[component[0]].needs.contains(&component[0]);
            let cycle = is_cycle.then(|| Arc::from(cycles::cycle_members(&self.tasks, component)));
            for task in component {
                component_of[*task] = number;
            }
            for task in component {
                self.tasks[*task].standing = self.standing_of(*task, cycle.as_ref(), &component_of);
            }
        }
        self.order = components.iter().flatten().copied().collect();
        let dependents = self.dependents();
        for component in components.iter().rev() {
            for task in component {
                let chains = dependents[*task]
                    .iter()
                    .map(|next| self.tasks[*next].chain_length);
                let longest_after = chains.max().unwrap_or_default();
                let task_length = usize::from(
                    self.is_unfinished(*task) && self.tasks[*task].status != Status::Expanded,
                );
                self.tasks[*task].chain_length = longest_after + task_length;
            }
        }
    }

    /// Sets whether the tasks of a component are done.
    fn mark_done(&mut self, component: &[usize]) {
        for task in component {
            let node = &self.tasks[*task];
            let subtasks_are_done = node.status == Status::Expanded
                && !node.subtasks.is_empty()
                && node
                    .subtasks
                    .iter()
                    .all(|subtask| self.tasks[*subtask].is_done);
            self.tasks[*task].is_done = node.status == Status::Done || subtasks_are_done;
        }
    }

    /// The standing of a task. `cycle` is the cycle in the task's component, if there is one. `component_of` has the
    /// component of each task whose component is this one or an earlier one.
    fn standing_of(
        &self,
        task: usize,
        cycle: Option<&Arc<[usize]>>,
        component_of: &[usize],
    ) -> Standing {
        let node = &self.tasks[task];
        if node.is_done {
            return Standing::Done;
        }
        if !matches!(node.status, Status::Pending | Status::Expanded) {
            return Standing::Closed;
        }
        let mut obstacles: Vec<Obstacle> = node
            .absent_dependencies
            .iter()
            .cloned()
            .map(Obstacle::Absent)
            .collect();
        obstacles.extend(cycle.cloned().map(Obstacle::Cycle));
        if node.status == Status::Expanded && node.subtasks.is_empty() {
            obstacles.push(Obstacle::Closed(task));
        }
        let mut waits_for = Vec::new();
        for needed in node.needs.iter().copied() {
            // All tasks of a component with a cycle are blocked by that cycle.
            let is_in_same_component = component_of[needed] == component_of[task];
            match &self.tasks[needed].standing {
                Standing::Done => {}
                _ if is_in_same_component => {}
                Standing::Closed => obstacles.push(Obstacle::Closed(needed)),
                Standing::Blocked(_) => obstacles.push(Obstacle::BlockedTask(needed)),
                Standing::Ready | Standing::Waiting(_) | Standing::Split => waits_for.push(needed),
            }
        }
        match (obstacles.is_empty(), node.status) {
            (false, _) => Standing::Blocked(obstacles),
            (true, Status::Expanded) => Standing::Split,
            (true, _) if waits_for.is_empty() => Standing::Ready,
            (true, _) => Standing::Waiting(waits_for),
        }
    }
}

#[cfg(test)]
mod tests;
