//! Strongly connected components of the graph of needs, dependencies first (Tarjan, without recursion,
//! because a chain can have thousands of tasks).

use super::node::TaskNode;

/// A task on the current path.
struct Step {
    task: usize,
    /// The index of the need to visit next.
    next_need: usize,
}

/// All tasks, grouped in components. A component with several members is a cycle. Every component comes after the
/// components that it needs.
pub fn components(tasks: &[TaskNode]) -> Vec<Vec<usize>> {
    let mut finder = Finder {
        tasks,
        visited_at: vec![None; tasks.len()],
        lowest: vec![0; tasks.len()],
        is_open: vec![false; tasks.len()],
        open: Vec::new(),
        count: 0,
        components: Vec::new(),
    };
    for task in 0..tasks.len() {
        if finder.visited_at[task].is_none() {
            finder.visit(task);
        }
    }
    finder.components
}

/// The state of Tarjan's algorithm.
struct Finder<'a> {
    tasks: &'a [TaskNode],
    /// When each task was first visited, as a number that counts visits.
    visited_at: Vec<Option<usize>>,
    /// The lowest `visited_at` of the open tasks that can be reached from each task.
    lowest: Vec<usize>,
    /// Whether the task is in `open`.
    is_open: Vec<bool>,
    /// Tasks whose component is not complete.
    open: Vec<usize>,
    /// The number of visited tasks.
    count: usize,
    /// The complete components.
    components: Vec<Vec<usize>>,
}

impl Finder<'_> {
    /// Visits a task and all tasks that it needs.
    fn visit(&mut self, first: usize) {
        let mut path = vec![self.enter(first)];
        while let Some(step) = path.last_mut() {
            let task = step.task;
            let needed = self.tasks[task].needs.get(step.next_need).copied();
            step.next_need += 1;
            if let Some(needed) = needed {
                match self.visited_at[needed] {
                    None => path.push(self.enter(needed)),
                    Some(visited_at) if self.is_open[needed] => {
                        self.lowest[task] = self.lowest[task].min(visited_at);
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

    /// Registers the first visit of a task.
    fn enter(&mut self, task: usize) -> Step {
        self.visited_at[task] = Some(self.count);
        self.lowest[task] = self.count;
        self.count += 1;
        self.open.push(task);
        self.is_open[task] = true;
        Step { task, next_need: 0 }
    }

    /// Closes the component of a task if the task is its first one.
    fn close_component(&mut self, task: usize) {
        if self.visited_at[task] != Some(self.lowest[task]) {
            return;
        }
        let begin = self.open.iter().rposition(|open| *open == task);
        let component = self.open.split_off(begin.unwrap_or_default());
        for member in &component {
            self.is_open[*member] = false;
        }
        self.components.push(component);
    }
}

/// The members of one cycle of a component, each of which needs the next one. The component may have more members.
pub fn cycle_members(tasks: &[TaskNode], component: &[usize]) -> Vec<usize> {
    let mut task = component.iter().copied().min().unwrap_or_default();
    let mut seen = Vec::new();
    while !seen.contains(&task) {
        seen.push(task);
        let mut needs = tasks[task].needs.iter().copied();
        let Some(next) = needs.find(|needed| component.contains(needed)) else {
            break;
        };
        task = next;
    }
    let begin = seen
        .iter()
        .position(|member| *member == task)
        .unwrap_or_default();
    seen.split_off(begin)
}
