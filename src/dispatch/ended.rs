//! How a dispatch has ended.

/// How a dispatch has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    AllDone,
    Blocked,
    /// The user has stopped it. The same command continues it.
    Stopped,
}

impl Ended {
    /// The word in the journal and in the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::AllDone => "done",
            Self::Blocked => "blocked",
            Self::Stopped => "stopped",
        }
    }
}
