//! What a person sees: log lines, the status line, the timeline of a run.
//!
//! No other module writes to standard error. Nothing here blocks if standard error is not read.

mod clock;
mod outlet;
mod screen;
mod timeline;

pub use clock::clock;
pub use outlet::Outlet;
pub use screen::{Color, Log, LogFormat, Screen, print_error};
pub use timeline::Timeline;

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people, one line for each thing.
    Lines,
    /// For programs, on standard output.
    Json,
}
