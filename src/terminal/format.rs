//! Text for people, or JSON for programs.

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people, one line for each thing.
    Lines,
    /// For programs, on standard output.
    Json,
}
