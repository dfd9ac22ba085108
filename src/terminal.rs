//! What a person sees: log lines, the status line, the timeline of a run.
//!
//! Standard error is written here and nowhere else. Nothing here waits for a reader.

mod clock;
mod outlet;
mod screen;
mod timeline;

pub use outlet::Outlet;
pub use screen::{Log, LogFormat, Screen, complain};
pub use timeline::Timeline;
