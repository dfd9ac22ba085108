//! The output of this program that is meant for people: log lines, the status line, the timeline of a run.
//!
//! No other module writes to standard error. Nothing here blocks if standard error is not read.

mod clock;
mod format;
mod json_lines;
mod live_area;
mod log_line;
mod markdown;
mod no_spans;
mod output_queue;
mod screen;
mod timeline;

pub use clock::clock_text;
pub use format::Format;
pub use json_lines::{JsonLines, print_object};
pub use output_queue::OutputQueue;
pub use screen::{ColorChoice, LogFormat, LogSettings, Screen, print_error};
pub use timeline::{HeartbeatContent, Signatures, Timeline};
