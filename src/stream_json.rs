//! `stream-json`: one JSON object per line, and at last a `result`. Claude Code prints it, and so
//! does the built-in agent.
//!
//! Reader and writer of the format stand next to each other here, and neither starts anything.

mod account;
mod lines;
mod reader;
mod writer;

pub use account::Totals;
pub use reader::{Conclusion, Event, Progress, Reader};
pub use writer::{End, Message, Writer};
