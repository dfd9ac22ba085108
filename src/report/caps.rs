//! The limits for the texts of one attempt, so that the page of a large dispatch stays small.

/// The size that the texts of all attempts together may have, in bytes.
const TOTAL: usize = 3 * 1024 * 1024;
/// Like [`TOTAL`], for a report with so many attempts that they are not shown in full. Readers open few of them.
const TOTAL_OF_MANY: usize = 3 * 512 * 1024;
/// The least size that the texts of one attempt may have, in bytes.
const MIN_ATTEMPT: usize = 2 * 1024;
/// The largest size that the texts of one attempt may have, in bytes.
const MAX_ATTEMPT: usize = 256 * 1024;
/// An attempt is shown in full if it may have this size, in bytes. That is the case for up to about a hundred attempts.
const MIN_FULL: usize = 32 * 1024;
/// The maximum size of a task's description, in bytes.
const MAX_REQUEST: usize = 8 * 1024;

/// How much detail the page has about each attempt. Many elements make a large page slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Full,
    /// Leaves out the bar of stages, which is also in the chart, colors in patches, and output that is also in the log.
    /// Has lines of text instead of tables.
    Short,
}

/// The maximum sizes of the texts of one attempt, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    attempt: usize,
}

impl Caps {
    /// The caps for a report with these numbers of attempts and tasks. A task has texts without an attempt, too.
    pub fn of(attempts: usize, tasks: usize) -> Self {
        let count = attempts.max(tasks).max(1);
        let share = match TOTAL / count {
            full if full >= MIN_FULL => full,
            _ => TOTAL_OF_MANY / count,
        };
        Self {
            attempt: share.clamp(MIN_ATTEMPT, MAX_ATTEMPT),
        }
    }

    /// How much the page says about each attempt.
    pub fn detail(self) -> Detail {
        if self.attempt < MIN_FULL {
            Detail::Short
        } else {
            Detail::Full
        }
    }

    /// The limit for a patch.
    pub fn patch(self) -> usize {
        self.attempt * 2 / 5
    }

    /// The limit for the worker's log.
    pub fn log(self) -> usize {
        self.attempt / 4
    }

    /// The limit for the output of each of `count` checks.
    pub fn check(self, count: usize) -> usize {
        (self.attempt / 5 / count.max(1)).max(200)
    }

    /// The limit for each of `count` prompts.
    pub fn prompt(self, count: usize) -> usize {
        (self.attempt / 4 / count.max(1)).max(200)
    }

    /// The limit for a message, a note, a summary, or a part of a task's description.
    pub fn message(self) -> usize {
        (self.attempt / 8).min(MAX_REQUEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_attempts_share_the_size_and_one_attempt_does_not_get_all_of_it() {
        assert_eq!(Caps::of(1, 1), Caps::of(0, 0));
        assert_eq!(Caps::of(1, 1).attempt, MAX_ATTEMPT);
        assert_eq!(Caps::of(512, 1).attempt, TOTAL_OF_MANY / 512);
        assert_eq!(Caps::of(1, 512), Caps::of(512, 1));
        assert_eq!(Caps::of(90, 1).detail(), Detail::Full);
        assert_eq!(Caps::of(500, 1).detail(), Detail::Short);
        assert_eq!(Caps::of(1_000_000, 1).attempt, MIN_ATTEMPT);
    }
}
