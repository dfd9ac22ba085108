//! The setting of `receive` alone.

use crate::config::setting::Setting;

pub const LISTEN: Setting = Setting::new(
    "DESCARTES_LISTEN",
    "listen",
    "ADDRESS",
    "The address that the built-in orchestrator listens on",
)
.default("127.0.0.1:8080");
