//! A task of a graph, the tasks that it needs, and its standing: whether it can run now.

use crate::task::{Priority, Status};

/// One task. Other tasks are named by their positions in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskNode {
    pub phase: String,
    /// Without the name of the phase.
    pub id: String,
    pub title: String,
    pub status: Status,
    /// 0 if unknown.
    pub complexity: u32,
    pub priority: Priority,
    /// The tasks that must be done before this one: its own dependencies and its parents'; of an expanded
    /// task, its subtasks.
    pub needs: Vec<usize>,
    pub subtasks: Vec<usize>,
    /// Dependencies that are not in the graph, as the edges name them.
    pub absent: Vec<String>,
    /// Whether the graph says that it is done, or split into subtasks that are all done.
    pub is_done: bool,
    /// How many unfinished tasks the longest chain that begins with this one has.
    pub chain: usize,
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
    /// A person has set a status with which a task is not run.
    Closed,
}

/// Why a task cannot become ready unless the graph changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It depends on a task that is not in the graph.
    Absent(String),
    /// It is a member of a cycle: the members in the order of their dependencies.
    Cycle(Vec<usize>),
    /// It needs a task that is neither done nor pending.
    Closed(usize),
    /// It needs a task that is blocked.
    BlockedTask(usize),
}
