//! How a dispatch has ended.

/// How a dispatch has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    AllDone,
    Blocked,
    /// The user has stopped it, and no run is left. The same command continues it.
    Stopped,
    /// Like `Stopped`, but runs go on without a dispatcher.
    StoppedWithRuns,
}

impl Ended {
    /// The word in the journal and in the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::AllDone => "done",
            Self::Blocked => "blocked",
            Self::Stopped | Self::StoppedWithRuns => "stopped",
        }
    }
}
