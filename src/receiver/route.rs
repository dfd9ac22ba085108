//! The routes of the callback protocol.

use std::fmt;

/// A route: the kind of event that a worker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    Started,
    Progress,
    Completed,
    Failed,
}

impl Route {
    const ALL: [Self; 4] = [Self::Started, Self::Progress, Self::Completed, Self::Failed];

    /// The route with this last segment of the URL's path.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.word() == word)
    }

    /// The last segment of the URL's path.
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The `status` of an event on this route.
    pub fn status(self) -> &'static str {
        match self {
            Self::Progress => "running",
            other => other.word(),
        }
    }

    /// Whether an event on this route is the last one of its run.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
