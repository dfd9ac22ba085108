//! Strongly connected components of the graph of needs, dependencies first (Tarjan, without recursion,
//! because a chain can have thousands of tasks).

use std::collections::{HashMap, HashSet};

use super::node::TaskNode;

/// A task on the current path.
struct Step {
    task: usize,
    /// The index of the need to visit next.
    next_need: usize,
}

/// The tasks from 0 to `task_count` - 1, grouped in components. `needs` returns what a task needs. A component with several
/// members is a cycle. Every component comes after the components that it needs.
pub fn components<'a>(task_count: usize, needs: impl Fn(usize) -> &'a [usize]) -> Vec<Vec<usize>> {
    let mut finder = Finder {
        needs,
        visit_number: vec![None; task_count],
        low_link: vec![0; task_count],
        is_on_stack: vec![false; task_count],
        stack: Vec::new(),
        count: 0,
        components: Vec::new(),
    };
    for task in 0..task_count {
        if finder.visit_number[task].is_none() {
            finder.visit(task);
        }
    }
    finder.components
}

/// The state of Tarjan's algorithm.
struct Finder<N> {
    needs: N,
    /// How many tasks were visited before each task; `None` if it was not visited.
    visit_number: Vec<Option<usize>>,
    /// The lowest `visit_number` of the tasks on the stack that can be reached from each task.
    low_link: Vec<usize>,
    /// Whether each task is on the stack.
    is_on_stack: Vec<bool>,
    /// The tasks whose component is not complete.
    stack: Vec<usize>,
    /// The number of visited tasks.
    count: usize,
    /// The complete components.
    components: Vec<Vec<usize>>,
}

impl<'a, N: Fn(usize) -> &'a [usize]> Finder<N> {
    /// Visits a task and all tasks that it needs.
    fn visit(&mut self, first: usize) {
        let mut path = vec![self.enter(first)];
        while let Some(step) = path.last_mut() {
            let task = step.task;
            let needed = (self.needs)(task).get(step.next_need).copied();
            step.next_need += 1;
            if let Some(needed) = needed {
                match self.visit_number[needed] {
                    None => path.push(self.enter(needed)),
                    Some(visit_number) if self.is_on_stack[needed] => {
                        self.low_link[task] = self.low_link[task].min(visit_number);
                    }
                    Some(_) => {}
                }
                continue;
            }
            path.pop();
            if let Some(previous) = path.last() {
                let low_link = self.low_link[task].min(self.low_link[previous.task]);
                self.low_link[previous.task] = low_link;
            }
            self.close_component(task);
        }
    }

    /// Registers the first visit of a task.
    fn enter(&mut self, task: usize) -> Step {
        self.visit_number[task] = Some(self.count);
        self.low_link[task] = self.count;
        self.count += 1;
        self.stack.push(task);
        self.is_on_stack[task] = true;
        Step { task, next_need: 0 }
    }

    /// Closes the component of a task if the task is its first one.
    fn close_component(&mut self, task: usize) {
        if self.visit_number[task] != Some(self.low_link[task]) {
            return;
        }
        let begin = self.stack.iter().rposition(|member| *member == task);
        let component = self.stack.split_off(begin.unwrap_or_default());
        for member in &component {
            self.is_on_stack[*member] = false;
        }
        self.components.push(component);
    }
}

/// The members of one cycle of a component, each of which needs the next one. The component may have more members.
pub fn cycle_members(tasks: &[TaskNode], component: &[usize]) -> Vec<usize> {
    let members: HashSet<usize> = component.iter().copied().collect();
    let mut task = component.iter().copied().min().unwrap_or_default();
    let mut path = Vec::new();
    let mut positions = HashMap::new();
    loop {
        if let Some(begin) = positions.insert(task, path.len()) {
            return path.split_off(begin);
        }
        path.push(task);
        let mut needs = tasks[task].needs.iter().copied();
        match needs.find(|needed| members.contains(needed)) {
            Some(next) => task = next,
            None => return path,
        }
    }
}
