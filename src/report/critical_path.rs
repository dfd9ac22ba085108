//! The chain of tasks that took longest.

use std::collections::HashSet;

use super::model::{Attempt, Task};
use crate::clock::Millis;

/// The positions of the tasks on the critical path, in the order of their work. The critical path is the chain of
/// dependent tasks whose attempts together took longest. `order` has every task after those that it needs;
/// `needs` are the edges without cycles.
pub fn critical_path(tasks: &[Task], needs: &[Vec<usize>], order: &[usize]) -> Vec<usize> {
    let mut lengths: Vec<Millis> = vec![0; tasks.len()];
    let mut predecessors: Vec<Option<usize>> = vec![None; tasks.len()];
    for task in order.iter().copied() {
        let longest = needs[task].iter().copied().max_by_key(|needed| {
            // If chains have the same length, the first one is chosen.
            (lengths[*needed], std::cmp::Reverse(*needed))
        });
        predecessors[task] = longest;
        lengths[task] = longest.map_or(0, |needed| lengths[needed]) + time_of(&tasks[task]);
    }
    let last = (0..tasks.len()).max_by_key(|task| (lengths[*task], std::cmp::Reverse(*task)));
    let mut path: Vec<usize> = std::iter::successors(last, |task| predecessors[*task]).collect();
    path.reverse();
    path
}

/// The tasks of a path, for the drawing.
pub fn members(path: &[usize]) -> HashSet<usize> {
    path.iter().copied().collect()
}

/// The time of all attempts with the pauses between them, in milliseconds. A task without attempts counts one
/// millisecond, so that the longest chain of open tasks is found too.
fn time_of(task: &Task) -> Millis {
    let from = task.attempts.iter().filter_map(Attempt::started_at).min();
    let to = task.attempts.iter().filter_map(Attempt::ended_at).max();
    match (from, to) {
        (Some(from), Some(to)) => to - from + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::stage::{Stage, StageInterval};

    fn task(from: Millis, to: Millis) -> Task {
        let interval = StageInterval {
            stage: Stage::Agent,
            from,
            to,
        };
        Task {
            attempts: vec![Attempt {
                stages: vec![interval],
                ..Attempt::default()
            }],
            ..Task::default()
        }
    }

    #[test]
    fn the_chain_that_took_longest_is_found_and_not_the_one_with_most_tasks() {
        // 0 -> 1 -> 2 -> 4 has more tasks; 0 -> 3 -> 4 takes longer.
        let tasks = [
            task(0, 10),
            task(10, 20),
            task(20, 30),
            task(10, 100),
            task(100, 110),
        ];
        let needs = [vec![], vec![0], vec![1], vec![0], vec![2, 3]];
        assert_eq!(critical_path(&tasks, &needs, &[0, 1, 3, 2, 4]), [0, 3, 4]);
    }

    #[test]
    fn without_attempts_the_chain_with_most_tasks_counts() {
        let tasks = [const { None::<()> }; 4].map(|_| Task::default());
        let needs = [vec![], vec![0], vec![1], vec![0]];
        assert_eq!(critical_path(&tasks, &needs, &[0, 1, 3, 2]), [0, 1, 2]);
    }
}
