//! The task graph: finding a task, changing its letter, unifying the letters of three versions.

use std::fs;

use super::{block_on, project};
use crate::scud::{FinishedTasks, TaskQuery, unify_status_letters};
use crate::task::Status;

/// References to tasks, in all spellings.
const REFERENCES: [&str; 4] = ["1", "a:1", "1.1", "b:2"];

/// Changes the status of each task that is found: exactly one letter of the file changes, and the task has the new status.
pub fn graph(data: &[u8]) {
    let (dir, project) = project();
    let path = dir.join(".scud/tasks/tasks.scg");
    fs::write(&path, data).expect("the graph is written");
    for reference in REFERENCES {
        let query = TaskQuery {
            reference,
            tag: None,
            finished_tasks: FinishedTasks::Allow,
        };
        let task = match block_on(project.find(&query)) {
            Ok(task) => task,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        assert!(task.unmet_dependencies().count() <= task.dependencies.len());
        let before = fs::read(&path).expect("the graph");
        let status = if task.status == Status::Done {
            Status::Pending
        } else {
            Status::Done
        };
        block_on(project.set_status(&task, status)).expect("a found task can be changed");
        let after = fs::read(&path).expect("the graph");
        assert_eq!(before.len(), after.len());
        let changed = before.iter().zip(&after).filter(|(one, two)| one != two);
        assert_eq!(changed.count(), 1);
        let found = block_on(project.find(&query)).expect("the task is still there");
        assert_eq!(found.status, status);
        assert_eq!((found.id, found.title), (task.id, task.title));
        assert_eq!(found.details, task.details);
    }
}

/// Unifies the letters of three versions, which bytes of zero separate: only letters change, and the result stays the same if
/// they are unified again.
pub fn graph_merge(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0).map(<[u8]>::to_vec);
    let mut next = || parts.next().unwrap_or_default();
    let versions = [next(), next(), next()];
    let mut unified = versions.clone();
    let [base, ours, theirs] = &mut unified;
    unify_status_letters(base, ours, theirs);
    let is_letter = |byte: u8| Status::from_letter(byte).is_some();
    for (old, new) in versions.iter().zip(&unified) {
        assert_eq!(old.len(), new.len());
        for (old, new) in old.iter().zip(new) {
            assert!(old == new || is_letter(*old) && is_letter(*new));
        }
    }
    let mut unified_twice = unified.clone();
    let [base, ours, theirs] = &mut unified_twice;
    unify_status_letters(base, ours, theirs);
    assert_eq!(unified, unified_twice, "the letters are unified already");
}
