//! A task of a graph, the tasks that it needs, and its standing: whether it can run now.

use std::sync::Arc;

use crate::task::{Priority, Status};

/// One task of a graph. A number stands for the task at that position of [`super::TaskGraph::tasks`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskNode {
    pub phase: String,
    /// Without the name of the phase.
    pub id: String,
    /// `phase:id`: the name of the task in the journal of a dispatch.
    pub key: String,
    pub title: String,
    pub status: Status,
    /// 0 if unknown.
    pub complexity: u32,
    pub priority: Priority,
    /// The tasks that must be done before this one: its dependencies and those of its parents. For an expanded task,
    /// its subtasks.
    pub needs: Vec<usize>,
    pub subtasks: Vec<usize>,
    /// Dependencies that are not in the graph, as the edges name them.
    pub absent_dependencies: Vec<String>,
    /// Whether the task is marked as done, or split into subtasks that are all done.
    pub is_done: bool,
    /// The number of unfinished tasks in the longest chain of dependents that begins with this task.
    pub chain_length: usize,
    pub standing: Standing,
}

/// Whether a task can run now, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Done,
    Ready,
    /// It waits for these tasks, none of which is blocked.
    Waiting(Vec<usize>),
    Blocked(Vec<Obstacle>),
    /// Split into subtasks that are not all done.
    Split,
    /// The task has a status with which it is not run, such as cancelled.
    Closed,
}

/// Why a task cannot become ready unless the graph changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It depends on a task that is not in the graph.
    Absent(String),
    /// It is a member of a cycle: the members in the order of their dependencies. All members share the list.
    Cycle(Arc<[usize]>),
    /// It needs a task that is neither done nor pending, or it is itself split but has no subtasks.
    Closed(usize),
    /// It needs a task that is blocked.
    BlockedTask(usize),
}
