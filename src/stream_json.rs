//! `stream-json`, the output format of Claude Code and of the built-in agent: one JSON object per line,
//! the last of which is a `result`.
//!
//! A reader and a writer; neither of them starts a process.

mod account;
mod lines;
mod reader;
mod writer;

pub use account::TotalsScope;
pub use lines::{ToolCall, ToolResult};
pub use reader::{Conclusion, Event, Reader, StreamState};
pub use writer::{End, Message, Writer};
