//! Strongly connected components of the graph of needs, dependencies first (Tarjan, without recursion,
//! because a chain can have thousands of tasks).

use super::node::TaskNode;

/// A task on the current path, and which of its needs is visited next.
struct Step {
    task: usize,
    next: usize,
}

/// All tasks, grouped in components. A component with several members is a cycle. Every component comes after the
/// components that it needs.
pub fn components(tasks: &[TaskNode]) -> Vec<Vec<usize>> {
    let mut finder = Finder {
        tasks,
        order: vec![None; tasks.len()],
        lowest: vec![0; tasks.len()],
        is_open: vec![false; tasks.len()],
        open: Vec::new(),
        count: 0,
        found: Vec::new(),
    };
    for task in 0..tasks.len() {
        if finder.order[task].is_none() {
            finder.visit(task);
        }
    }
    finder.found
}

/// The state of Tarjan's algorithm.
struct Finder<'a> {
    tasks: &'a [TaskNode],
    /// When each task was first seen.
    order: Vec<Option<usize>>,
    /// The earliest task that can be reached from each one.
    lowest: Vec<usize>,
    /// Whether the task is in `open`.
    is_open: Vec<bool>,
    /// Tasks whose component is not complete.
    open: Vec<usize>,
    count: usize,
    found: Vec<Vec<usize>>,
}

impl Finder<'_> {
    /// Visits a task and all tasks that it needs.
    fn visit(&mut self, first: usize) {
        let mut path = vec![self.enter(first)];
        while let Some(step) = path.last_mut() {
            let task = step.task;
            let needed = self.tasks[task].needs.get(step.next).copied();
            step.next += 1;
            if let Some(needed) = needed {
                match self.order[needed] {
                    None => path.push(self.enter(needed)),
                    Some(order) if self.is_open[needed] => {
                        self.lowest[task] = self.lowest[task].min(order);
                    }
                    Some(_) => {}
                }
                continue;
            }
            path.pop();
            if let Some(before) = path.last() {
                let lowest = self.lowest[task].min(self.lowest[before.task]);
                self.lowest[before.task] = lowest;
            }
            self.close_component(task);
        }
    }

    fn enter(&mut self, task: usize) -> Step {
        self.order[task] = Some(self.count);
        self.lowest[task] = self.count;
        self.count += 1;
        self.open.push(task);
        self.is_open[task] = true;
        Step { task, next: 0 }
    }

    /// Closes the component of a task if the task is its first one.
    fn close_component(&mut self, task: usize) {
        if self.order[task] != Some(self.lowest[task]) {
            return;
        }
        let begin = self.open.iter().rposition(|open| *open == task);
        let component = self.open.split_off(begin.unwrap_or_default());
        for member in &component {
            self.is_open[*member] = false;
        }
        self.found.push(component);
    }
}

/// Members of a cycle, each of which needs the next one. Some members of the component may be missing.
pub fn cycle_members(tasks: &[TaskNode], component: &[usize]) -> Vec<usize> {
    let mut at = component.iter().copied().min().unwrap_or_default();
    let mut seen = Vec::new();
    while !seen.contains(&at) {
        seen.push(at);
        let mut needs = tasks[at].needs.iter().copied();
        let Some(next) = needs.find(|needed| component.contains(needed)) else {
            break;
        };
        at = next;
    }
    let begin = seen.iter().position(|task| *task == at).unwrap_or_default();
    seen.split_off(begin)
}
