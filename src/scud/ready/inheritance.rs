//! Adds the dependencies of its parents to each task.

use std::rc::Rc;

use super::cycles;

/// The maximum number of dependencies that the tasks of a graph inherit in total. The number can grow with the square
/// of the size of the file. A graph of 20,000 tasks reaches it when each task inherits 50 dependencies.
const MAX_INHERITED: usize = 1_000_000;

/// The dependencies of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// The positions of tasks in the graph.
    pub needs: Vec<usize>,
    /// Dependencies that are not in the graph, as the edges name them.
    pub absent: Vec<String>,
}

impl Dependencies {
    fn len(&self) -> usize {
        self.needs.len() + self.absent.len()
    }

    fn add(&mut self, other: &Self) {
        self.needs.extend_from_slice(&other.needs);
        self.absent.extend_from_slice(&other.absent);
    }

    fn remove_duplicates(&mut self) {
        self.needs.sort_unstable();
        self.needs.dedup();
        self.absent.dedup();
    }
}

/// The dependencies of each task and of all its ancestors. If tasks are ancestors of each other, they have the same
/// dependencies.
///
/// # Errors
/// The task with which the tasks inherit more than [`MAX_INHERITED`] dependencies.
pub fn inherit(
    own: Vec<Dependencies>,
    parents: &[Option<usize>],
) -> Result<Vec<Rc<Dependencies>>, usize> {
    let mut all: Vec<Rc<Dependencies>> = own.into_iter().map(Rc::new).collect();
    let mut inherited_count = 0;
    // The parent of a task is in the same component or in an earlier one.
    for component in cycles::components(parents.len(), |task| parents[task].as_slice()) {
        let first = component[0];
        let mut sum = Dependencies::default();
        for task in &component {
            sum.add(&all[*task]);
        }
        let own_count = sum.len();
        if let (1, Some(parent)) = (component.len(), parents[first]) {
            sum.add(&all[parent]);
        }
        // Each member of a component gets the sum.
        inherited_count += sum.len() * component.len() - own_count;
        if inherited_count > MAX_INHERITED {
            return Err(first);
        }
        sum.remove_duplicates();
        let sum = Rc::new(sum);
        for task in component {
            all[task] = Rc::clone(&sum);
        }
    }
    Ok(all)
}
