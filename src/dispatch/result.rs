//! The result of a dispatch.

/// The result of a dispatch, which decides its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DispatchResult {
    /// All tasks of the dispatch are done.
    AllDone,
    /// Tasks are left that cannot run.
    Blocked,
    /// The user has stopped the dispatch, and no run is live. The same command continues the dispatch.
    Stopped,
    /// The dispatcher has ended before its work was complete, and runs may go on without a dispatcher. The same command
    /// takes them over.
    StoppedWithRuns,
}

impl DispatchResult {
    /// The word in the journal and in the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::AllDone => "done",
            Self::Blocked => "blocked",
            Self::Stopped | Self::StoppedWithRuns => "stopped",
        }
    }
}
