//! The limits for the texts of one attempt, so that the report of a large dispatch stays small.

/// The approximate maximum of the texts of all attempts together, in bytes.
const MAX_TOTAL_SIZE: usize = 3 * 1024 * 1024;
/// Like [`MAX_TOTAL_SIZE`], for a report with so many attempts that they are not shown in full. Readers open few of
/// them.
const MAX_TOTAL_SIZE_OF_MANY: usize = 3 * 512 * 1024;
/// The minimum size that the texts of one attempt may have, in bytes.
const MIN_ATTEMPT_SIZE: usize = 2 * 1024;
/// The maximum size that the texts of one attempt may have, in bytes.
const MAX_ATTEMPT_SIZE: usize = 256 * 1024;
/// An attempt is shown in full if its texts may have at least this size, in bytes. That is so for up to about a hundred
/// attempts.
const MIN_FULL_SIZE: usize = 32 * 1024;
/// The maximum size of a message, a note, a summary, or a part of a task's description, in bytes.
const MAX_MESSAGE_SIZE: usize = 8 * 1024;

/// How much detail the report has about each attempt. Many elements make a large report slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Full,
    /// Leaves out colors in patches, output that is also in the log, and the bar of stages, which is also in the chart.
    /// Has lines of text instead of tables.
    Short,
}

/// The maximum sizes of the texts of one attempt, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// The size from which the limits follow. Few attempts use all their limits, so the texts of one attempt may together
    /// be a little larger.
    attempt_size: usize,
}

impl TextLimits {
    /// The limits for a report with these numbers of attempts and tasks. A task has texts without an attempt, too.
    pub fn of(attempts: usize, tasks: usize) -> Self {
        let count = attempts.max(tasks).max(1);
        let share = match MAX_TOTAL_SIZE / count {
            full if full >= MIN_FULL_SIZE => full,
            _ => MAX_TOTAL_SIZE_OF_MANY / count,
        };
        Self {
            attempt_size: share.clamp(MIN_ATTEMPT_SIZE, MAX_ATTEMPT_SIZE),
        }
    }

    /// How much the report says about each attempt.
    pub fn detail(self) -> Detail {
        if self.attempt_size < MIN_FULL_SIZE {
            Detail::Short
        } else {
            Detail::Full
        }
    }

    /// The limit for a patch.
    pub fn max_patch(self) -> usize {
        self.attempt_size * 2 / 5
    }

    /// The limit for the worker's log.
    pub fn max_log(self) -> usize {
        self.attempt_size / 4
    }

    /// The limit for the output of each of `count` checks.
    pub fn max_check_output(self, count: usize) -> usize {
        (self.attempt_size / 5 / count.max(1)).max(200)
    }

    /// The limit for each of `count` prompts.
    pub fn max_prompt(self, count: usize) -> usize {
        (self.attempt_size / 4 / count.max(1)).max(200)
    }

    /// The limit for a message, a note, a summary, or a part of a task's description.
    pub fn max_message(self) -> usize {
        (self.attempt_size / 8).min(MAX_MESSAGE_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_attempts_share_the_size_and_one_attempt_does_not_get_all_of_it() {
        assert_eq!(TextLimits::of(1, 1), TextLimits::of(0, 0));
        assert_eq!(TextLimits::of(1, 1).attempt_size, MAX_ATTEMPT_SIZE);
        assert_eq!(
            TextLimits::of(512, 1).attempt_size,
            MAX_TOTAL_SIZE_OF_MANY / 512
        );
        assert_eq!(TextLimits::of(1, 512), TextLimits::of(512, 1));
        assert_eq!(TextLimits::of(90, 1).detail(), Detail::Full);
        assert_eq!(TextLimits::of(500, 1).detail(), Detail::Short);
        assert_eq!(TextLimits::of(1_000_000, 1).attempt_size, MIN_ATTEMPT_SIZE);
    }
}
