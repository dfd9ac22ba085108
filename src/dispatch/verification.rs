//! Which merges need the project's checks, and which merge of a batch makes them fail. No I/O.

/// When the project's checks run on merged work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Once for each merged tree that no checks have seen.
    #[default]
    Changed,
    /// For each merge, even if the checks of its run have seen the same tree.
    Always,
    /// Once, when everything is merged.
    End,
    Never,
}

/// The next step of a batch. Merges are named by their position in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Run the checks on the tree of this merge.
    Check { merge: usize },
    /// The tree of this merge is good: move the branch to it. The batch is over.
    AcceptAll,
    /// The branch moves to the merge before this one (if there is one); this merge's task runs again; the
    /// merges after it are made anew without it. The batch is over.
    Blame { merge: usize },
}

/// What the checks said about a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
}

/// Merges that wait for verification: each one is on top of the one before it.
#[derive(Debug, Clone)]
pub struct Batch {
    merges: Vec<Record>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    has_passed: bool,
    failures: u32,
}

impl Batch {
    /// `needs_checks` of each merge, in order: `Candidate::needs_verification`, as the mode has it.
    pub fn new(mode: Mode, needs_verification: &[bool]) -> Self {
        let merges = needs_verification.iter().map(|needs| Record {
            has_passed: match mode {
                Mode::Changed => !needs,
                Mode::Always => false,
                Mode::End | Mode::Never => true,
            },
            failures: 0,
        });
        Self {
            merges: merges.collect(),
        }
    }

    /// What to do next.
    pub fn next(&self) -> Step {
        // The branch may move to this many merges.
        let good = self.merges.iter().rposition(|merge| merge.has_passed);
        let good = good.map_or(0, |at| at + 1);
        let last = self.merges.len().saturating_sub(1);
        if good == self.merges.len() {
            return Step::AcceptAll;
        }
        let failed = (good..self.merges.len()).find(|at| self.merges[*at].failures > 0);
        match failed {
            None => Step::Check { merge: last },
            // One repetition: a check that fails now and then must not blame a task.
            Some(at) if at == good && self.merges[at].failures > 1 => Step::Blame { merge: at },
            Some(at) if at == good => Step::Check { merge: at },
            Some(at) => Step::Check {
                merge: good + (at - good - 1) / 2,
            },
        }
    }

    /// Notes what the checks said about the tree of a merge.
    pub fn record(&mut self, merge: usize, verdict: Verdict) {
        let Some(merge) = self.merges.get_mut(merge) else {
            return;
        };
        match verdict {
            Verdict::Passed => merge.has_passed = true,
            Verdict::Failed => merge.failures += 1,
        }
    }
}
