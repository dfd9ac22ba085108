//! How long the texts of one attempt may be, so that the page of a large dispatch stays small.

/// The size that the texts of all attempts together may have, in bytes.
const TOTAL: usize = 3 * 1024 * 1024;
/// The limits for the texts of one attempt, in bytes.
const MIN_ATTEMPT: usize = 2 * 1024;
const MAX_ATTEMPT: usize = 256 * 1024;
/// Patches are coloured if an attempt may have this size, which is so for about a hundred attempts.
const MIN_COLOURED: usize = 32 * 1024;
/// The maximum size of a task's description, in bytes.
const MAX_REQUEST: usize = 8 * 1024;

/// The maximum sizes of the texts of one attempt, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    attempt: usize,
}

impl Caps {
    /// The caps for a report with this number of attempts.
    pub fn for_attempts(count: usize) -> Self {
        let share = TOTAL / count.max(1);
        Self {
            attempt: share.clamp(MIN_ATTEMPT, MAX_ATTEMPT),
        }
    }

    /// Whether the lines of patches are coloured. The elements that this needs would make a large page slow.
    pub fn has_colours(self) -> bool {
        self.attempt >= MIN_COLOURED
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
        assert_eq!(Caps::for_attempts(1), Caps::for_attempts(0));
        assert_eq!(Caps::for_attempts(1).attempt, MAX_ATTEMPT);
        assert_eq!(Caps::for_attempts(512).attempt, TOTAL / 512);
        assert_eq!(Caps::for_attempts(1_000_000).attempt, MIN_ATTEMPT);
    }
}
