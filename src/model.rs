//! The model's service in the words that everything shares: how it is reached, what may be spent,
//! what was spent and what that costs.
//!
//! Sends nothing. The built-in agent sends requests, and so do the agents that people install.

mod access;
mod cost;
mod limits;
mod prices;
mod statuses;
mod usage;

pub use access::{Access, anthropic};
pub use cost::{CostLimit, CostMeter};
pub use limits::{Limits, UsedUp};
pub use prices::{Price, as_of, full_name};
pub use statuses::may_pass;
pub use usage::{Spent, Usage};

/// The model if the settings name none: the best one that is affordable for a fleet.
pub const DEFAULT_MODEL: &str = "claude-sonnet-5-5";
