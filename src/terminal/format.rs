//! The format of a command's output: text for people, or JSON for programs.

/// The format in which a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: one line for each task, problem or event.
    Lines,
    /// For programs: JSON on standard output.
    Json,
}
