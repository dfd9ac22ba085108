//! How long the texts of one attempt may be, so that the page of a large dispatch stays small.

/// The size that the texts of all attempts together may have, in bytes.
const TOTAL: usize = 3 * 1024 * 1024;
/// The same for a report with so many attempts that not all of them are shown in full. People open few of them.
const TOTAL_OF_MANY: usize = 3 * 512 * 1024;
/// The limits for the texts of one attempt, in bytes.
const MIN_ATTEMPT: usize = 2 * 1024;
const MAX_ATTEMPT: usize = 256 * 1024;
/// If an attempt may have this size, it is shown in full, which is so for up to about a hundred attempts.
const MIN_FULL: usize = 32 * 1024;
/// The maximum size of a task's description, in bytes.
const MAX_REQUEST: usize = 8 * 1024;

/// How much the page says about each attempt. Many elements make a large page slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Full,
    /// Without the bar of its stages, which is in the chart, without colours in patches, without output that is in the log,
    /// and with lines of text in place of tables.
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

    pub fn patch(self) -> usize {
        self.attempt * 2 / 5
    }

    /// The worker's log.
    pub fn log(self) -> usize {
        self.attempt / 4
    }

    /// One of `count` checks.
    pub fn check(self, count: usize) -> usize {
        (self.attempt / 5 / count.max(1)).max(200)
    }

    /// One of `count` prompts.
    pub fn prompt(self, count: usize) -> usize {
        (self.attempt / 4 / count.max(1)).max(200)
    }

    /// A message, a note, a summary, or a part of a task's description.
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
