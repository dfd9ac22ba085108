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
    /// The tree of the last merge is good: the branch moves to it. The batch is over.
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
    /// `needs_verification` says for each merge, in order, whether no checks have seen its tree.
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
        // How many merges the branch may move forward.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What became of a batch.
    #[derive(Debug, PartialEq, Eq)]
    struct Ending {
        /// How many merges the branch moves forward.
        accepted: usize,
        blamed: Option<usize>,
        checks: usize,
    }

    /// Runs a batch; `passes` says for a merge whether the checks pass on its tree, this time.
    fn work(mode: Mode, needs: &[bool], mut passes: impl FnMut(usize) -> bool) -> Ending {
        let mut batch = Batch::new(mode, needs);
        let mut checks = 0;
        loop {
            match batch.next() {
                Step::AcceptAll => {
                    return Ending {
                        accepted: needs.len(),
                        blamed: None,
                        checks,
                    };
                }
                Step::Blame { merge } => {
                    return Ending {
                        accepted: merge,
                        blamed: Some(merge),
                        checks,
                    };
                }
                Step::Check { merge } => {
                    checks += 1;
                    assert!(checks < 1000, "it does not end: {batch:?}");
                    let verdict = if passes(merge) {
                        Verdict::Passed
                    } else {
                        Verdict::Failed
                    };
                    batch.record(merge, verdict);
                }
            }
        }
    }

    #[test]
    fn a_tree_that_checks_have_seen_needs_none() {
        let never = |_| panic!("nothing is to be checked");
        assert_eq!(work(Mode::Changed, &[false], never).accepted, 1);
        // The last tree of a batch stands for all of them.
        assert_eq!(work(Mode::Changed, &[true, false], never).accepted, 2);
        assert_eq!(work(Mode::Never, &[true, true], never).accepted, 2);
        assert_eq!(work(Mode::End, &[true, true], never).accepted, 2);
        assert_eq!(work(Mode::Always, &[false], |_| true).checks, 1);
    }

    #[test]
    fn several_merges_are_checked_once_if_they_are_good() {
        let expected = Ending {
            accepted: 5,
            blamed: None,
            checks: 1,
        };
        assert_eq!(
            work(Mode::Changed, &[true; 5], |merge| merge == 4),
            expected
        );
    }

    #[test]
    fn a_single_culprit_is_found_wherever_it_is() {
        for count in 1..=33 {
            for culprit in 0..count {
                let ending = work(Mode::Changed, &vec![true; count], |merge| merge < culprit);
                assert_eq!(ending.blamed, Some(culprit), "of {count}");
                assert_eq!(ending.accepted, culprit);
                // The whole, the halves, and one repetition.
                let most = 2 + count.next_power_of_two().ilog2() as usize;
                assert!(ending.checks <= most, "{ending:?} of {count}");
            }
        }
    }

    #[test]
    fn of_two_merges_that_fail_only_together_the_second_one_is_blamed() {
        for count in 2..=12 {
            for second in 1..count {
                for first in 0..second {
                    // The tree of a merge is bad if it holds both.
                    let has_both = |merge: usize| merge >= first && merge >= second;
                    let ending = work(Mode::Changed, &vec![true; count], |merge| !has_both(merge));
                    assert_eq!(ending.blamed, Some(second), "{first} of {count}");
                }
            }
        }
    }

    #[test]
    fn a_check_that_fails_only_once_blames_no_merge() {
        for count in 1..=9 {
            let mut first = true;
            let ending = work(Mode::Changed, &vec![true; count], |_| {
                !std::mem::take(&mut first)
            });
            assert_eq!((ending.accepted, ending.blamed), (count, None));
        }
    }

    #[test]
    fn a_merge_that_was_good_before_is_never_blamed() {
        let ending = work(Mode::Changed, &[true, false, true, true], |merge| merge < 3);
        assert_eq!(ending.blamed, Some(3));
    }

    proptest! {
        /// Whatever the checks say: it ends, and nothing red is accepted, and only twice red is blamed.
        #[test]
        fn the_branch_never_moves_to_a_tree_that_has_not_passed(
            needs in prop::collection::vec(any::<bool>(), 1..12),
            answers in prop::collection::vec(any::<bool>(), 200),
        ) {
            let mut said: Vec<(usize, bool)> = Vec::new();
            let mut answers = answers.into_iter();
            let ending = work(Mode::Changed, &needs, |merge| {
                let answer = answers.next().unwrap_or(true);
                said.push((merge, answer));
                answer
            });
            if let Some(last) = ending.accepted.checked_sub(1) {
                prop_assert!(!needs[last] || said.contains(&(last, true)), "{said:?}");
            }
            if let Some(blamed) = ending.blamed {
                let reds = said.iter().filter(|said| **said == (blamed, false)).count();
                prop_assert_eq!(reds, 2);
            }
        }
    }
}
