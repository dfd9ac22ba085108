//! The models' services: their addresses and credentials, the limits for agents, and the cost of an agent's requests.
//!
//! Sends no requests: agents and the model gateway do.

mod access;
mod cost;
mod limits;
mod prices;
mod provider;
mod statuses;
mod usage;

pub use access::{Access, ServiceAccess, service_url};
pub use cost::{CostLimitState, CostMeter, UpperBound};
pub use limits::{LimitReached, Limits};
pub use prices::{Price, full_name, price_date};
pub use provider::{ANTHROPIC, Api, KeyHeader, OPENAI, Provider, RoutePrice, VersionSegment};
pub use statuses::is_temporary;
pub use usage::{Usage, UsageAndCost, token_count};

/// The model to use if the settings name none.
pub const DEFAULT_MODEL: &str = "claude-sonnet-5-5";
