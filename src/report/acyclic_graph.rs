//! The graph of the tasks' needs without cycles and without redundant edges, for the drawing.

/// A graph without cycles.
#[derive(Debug, Clone, Default)]
pub struct AcyclicGraph {
    pub needs: Vec<Vec<usize>>,
    /// All tasks, each one after those that it needs.
    pub order: Vec<usize>,
}

impl AcyclicGraph {
    /// Leaves out the edges that close cycles, and those that name no task.
    pub fn of(needs: &[Vec<usize>]) -> Self {
        let count = needs.len();
        let mut dependents = vec![Vec::new(); count];
        let mut open_needs = vec![0_usize; count];
        let mut valid_needs = vec![Vec::new(); count];
        for (task, needed) in needs.iter().enumerate() {
            let mut needed: Vec<usize> = needed
                .iter()
                .copied()
                .filter(|at| *at < count && *at != task)
                .collect();
            needed.sort_unstable();
            needed.dedup();
            open_needs[task] = needed.len();
            for at in &needed {
                dependents[*at].push(task);
            }
            valid_needs[task] = needed;
        }
        let mut ready: std::collections::BTreeSet<usize> =
            (0..count).filter(|task| open_needs[*task] == 0).collect();
        let mut is_placed = vec![false; count];
        let mut order = Vec::with_capacity(count);
        let mut first_open = 0;
        while order.len() < count {
            let task = ready.pop_first().unwrap_or_else(|| {
                // Only cycles are left: their first task comes next, without the edges that it still needs.
                while is_placed[first_open] {
                    first_open += 1;
                }
                valid_needs[first_open].retain(|needed| is_placed[*needed]);
                first_open
            });
            if std::mem::replace(&mut is_placed[task], true) {
                continue;
            }
            order.push(task);
            for next in &dependents[task] {
                open_needs[*next] = open_needs[*next].saturating_sub(1);
                if open_needs[*next] == 0 && !is_placed[*next] {
                    ready.insert(*next);
                }
            }
        }
        Self {
            needs: valid_needs,
            order,
        }
    }

    /// Leaves out the edges that follow from other edges: if c needs b and b needs a, the edge from c to a is
    /// redundant.
    pub fn without_redundant_edges(&self) -> Self {
        let count = self.needs.len();
        let words = count.div_ceil(64);
        // For each task, one bit for each task that it needs, directly or indirectly.
        let mut all_needs = vec![vec![0_u64; words]; count];
        let mut needs = vec![Vec::new(); count];
        let mut position = vec![0; count];
        for (at, task) in self.order.iter().enumerate() {
            position[*task] = at;
        }
        for task in self.order.iter().copied() {
            let mut needs_of_this_task = vec![0_u64; words];
            let mut nearest_first = self.needs[task].clone();
            nearest_first.sort_by_key(|needed| std::cmp::Reverse(position[*needed]));
            for needed in nearest_first {
                if needs_of_this_task[needed / 64] >> (needed % 64) & 1 == 0 {
                    needs[task].push(needed);
                    needs_of_this_task[needed / 64] |= 1 << (needed % 64);
                    for (word, more) in needs_of_this_task.iter_mut().zip(&all_needs[needed]) {
                        *word |= more;
                    }
                }
            }
            needs[task].sort_unstable();
            all_needs[task] = needs_of_this_task;
        }
        Self {
            needs,
            order: self.order.clone(),
        }
    }
}
