//! The settings of the gateway, as the worker has them.

use crate::environment::Variables;

/// The name of the subcommand that the worker starts as the gateway.
pub const COMMAND: &str = "gateway";

/// Whether the worker starts the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The worker starts the gateway if there is a key or a token that only the gateway needs.
    Auto,
    Off,
}

/// The settings of the gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    pub mode: Mode,
    /// The worker's variables that set HTTP proxies.
    pub proxies: Variables,
}
