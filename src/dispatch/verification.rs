//! Decides which merges need the project's checks, and finds the merge of a batch that makes them fail. No I/O.

/// When the project's checks run on merged work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyMode {
    /// For each merged tree on which the checks have not passed yet.
    #[default]
    Changed,
    /// For each merge, even if the checks have passed on the same tree.
    Always,
    /// Once, when everything is merged.
    End,
    /// Not at all.
    Never,
}

/// The next step of the verification of a batch. `merge` is the position of a merge in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Run the checks on the tree of this merge.
    Check { merge: usize },
    /// All merges are verified: move the branch to the last one. The batch is finished.
    AcceptAll,
    /// This merge makes the checks fail: move the branch to the merge before it (if there is one), run its task again,
    /// and merge the later ones again without it. The batch is finished.
    Blame { merge: usize },
}

/// The result of the checks on a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
}

/// The verification of a batch of merges, each on top of the one before it.
#[derive(Debug, Clone)]
pub struct BatchVerification {
    merges: Vec<MergeChecks>,
}

/// The results of the checks on one merge.
#[derive(Debug, Clone, Copy, Default)]
struct MergeChecks {
    /// Whether the checks have passed, or are not needed.
    has_passed: bool,
    /// How often the checks have failed.
    failures: u32,
}

impl BatchVerification {
    /// `needs_verification` says for each merge, in order, whether the checks have not passed on its tree yet.
    pub fn new(mode: VerifyMode, needs_verification: &[bool]) -> Self {
        let merges = needs_verification.iter().map(|needs| MergeChecks {
            has_passed: match mode {
                VerifyMode::Changed => !needs,
                VerifyMode::Always => false,
                VerifyMode::End | VerifyMode::Never => true,
            },
            failures: 0,
        });
        Self {
            merges: merges.collect(),
        }
    }

    /// The next step: a binary search for the first merge that makes the checks fail.
    pub fn next(&self) -> Step {
        // A merge contains all merges before it, so a merge that has passed verifies these too.
        let last_passed = self.merges.iter().rposition(|merge| merge.has_passed);
        let verified = last_passed.map_or(0, |position| position + 1);
        let last = self.merges.len().saturating_sub(1);
        if verified == self.merges.len() {
            return Step::AcceptAll;
        }
        let mut unverified = verified..self.merges.len();
        let first_failed = unverified.find(|position| self.merges[*position].failures > 0);
        match first_failed {
            None => Step::Check { merge: last },
            // The checks run twice before a task is blamed, because a check may fail by chance.
            Some(merge) if merge == verified && self.merges[merge].failures > 1 => {
                Step::Blame { merge }
            }
            Some(merge) if merge == verified => Step::Check { merge },
            Some(failed) => Step::Check {
                merge: verified + (failed - verified - 1) / 2,
            },
        }
    }

    /// Records the result of the checks on the tree of a merge.
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

    /// The result of the verification of a batch.
    #[derive(Debug, PartialEq, Eq)]
    struct BatchResult {
        /// How many merges the branch moves forward.
        accepted: usize,
        /// The position of the merge that makes the checks fail.
        blamed: Option<usize>,
        /// How often the checks ran.
        checks: usize,
    }

    /// Verifies a batch. Each call of `passes` is one run of the checks on the tree of a merge, and returns whether
    /// they pass.
    fn verify_batch(
        mode: VerifyMode,
        needs_verification: &[bool],
        mut passes: impl FnMut(usize) -> bool,
    ) -> BatchResult {
        let mut verification = BatchVerification::new(mode, needs_verification);
        let mut checks = 0;
        loop {
            match verification.next() {
                Step::AcceptAll => {
                    return BatchResult {
                        accepted: needs_verification.len(),
                        blamed: None,
                        checks,
                    };
                }
                Step::Blame { merge } => {
                    return BatchResult {
                        accepted: merge,
                        blamed: Some(merge),
                        checks,
                    };
                }
                Step::Check { merge } => {
                    checks += 1;
                    assert!(checks < 1000, "the batch does not end: {verification:?}");
                    let verdict = if passes(merge) {
                        Verdict::Passed
                    } else {
                        Verdict::Failed
                    };
                    verification.record(merge, verdict);
                }
            }
        }
    }

    #[test]
    fn a_tree_on_which_the_checks_have_passed_is_not_checked_again() {
        let must_not_run = |_| panic!("no checks may run");
        assert_eq!(
            verify_batch(VerifyMode::Changed, &[false], must_not_run).accepted,
            1
        );
        // The last tree of a batch contains all merges.
        assert_eq!(
            verify_batch(VerifyMode::Changed, &[true, false], must_not_run).accepted,
            2
        );
        assert_eq!(
            verify_batch(VerifyMode::Never, &[true, true], must_not_run).accepted,
            2
        );
        assert_eq!(
            verify_batch(VerifyMode::End, &[true, true], must_not_run).accepted,
            2
        );
        assert_eq!(
            verify_batch(VerifyMode::Always, &[false], |_| true).checks,
            1
        );
    }

    #[test]
    fn merges_of_a_batch_that_pass_are_checked_once_together() {
        let expected = BatchResult {
            accepted: 5,
            blamed: None,
            checks: 1,
        };
        assert_eq!(
            verify_batch(VerifyMode::Changed, &[true; 5], |merge| merge == 4),
            expected
        );
    }

    #[test]
    fn the_merge_that_breaks_the_checks_is_found_at_any_position() {
        for count in 1..=33 {
            for culprit in 0..count {
                let result = verify_batch(VerifyMode::Changed, &vec![true; count], |merge| {
                    merge < culprit
                });
                assert_eq!(result.blamed, Some(culprit), "of {count}");
                assert_eq!(result.accepted, culprit);
                // One check of the whole batch, a binary search, and one repetition.
                let max_checks = 2 + count.next_power_of_two().ilog2() as usize;
                assert!(result.checks <= max_checks, "{result:?} of {count}");
            }
        }
    }

    #[test]
    fn of_two_merges_that_fail_only_together_the_second_one_is_blamed() {
        for count in 2..=12 {
            for second in 1..count {
                for first in 0..second {
                    // The checks fail on a tree that contains both merges.
                    let has_both = |merge: usize| merge >= first && merge >= second;
                    let result = verify_batch(VerifyMode::Changed, &vec![true; count], |merge| {
                        !has_both(merge)
                    });
                    assert_eq!(result.blamed, Some(second), "{first} of {count}");
                }
            }
        }
    }

    #[test]
    fn a_check_that_fails_only_once_blames_no_merge() {
        for count in 1..=9 {
            let mut is_first = true;
            let result = verify_batch(VerifyMode::Changed, &vec![true; count], |_| {
                !std::mem::take(&mut is_first)
            });
            assert_eq!((result.accepted, result.blamed), (count, None));
        }
    }

    #[test]
    fn a_merge_whose_checks_have_passed_is_never_blamed() {
        let result = verify_batch(VerifyMode::Changed, &[true, false, true, true], |merge| {
            merge < 3
        });
        assert_eq!(result.blamed, Some(3));
    }

    proptest! {
        /// With any results of the checks, the verification ends, accepts only merges that passed, and blames a merge
        /// only after two failures.
        #[test]
        fn the_branch_never_moves_to_a_tree_on_which_the_checks_have_not_passed(
            needs_verification in prop::collection::vec(any::<bool>(), 1..12),
            check_results in prop::collection::vec(any::<bool>(), 200),
        ) {
            let mut checks: Vec<(usize, bool)> = Vec::new();
            let mut check_results = check_results.into_iter();
            let result = verify_batch(VerifyMode::Changed, &needs_verification, |merge| {
                let passes = check_results.next().unwrap_or(true);
                checks.push((merge, passes));
                passes
            });
            if let Some(last) = result.accepted.checked_sub(1) {
                prop_assert!(!needs_verification[last] || checks.contains(&(last, true)), "{checks:?}");
            }
            if let Some(blamed) = result.blamed {
                let failures = checks.iter().filter(|check| **check == (blamed, false)).count();
                prop_assert_eq!(failures, 2);
            }
        }
    }
}
