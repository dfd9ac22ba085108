//! The settings that only this program sets, for the workers that it starts itself. They have no flags.

use crate::config::setting::Setting;

/// Set by `local`.
pub const STOP_AT_END_OF_STDIN: Setting = Setting::unflagged(
    "DESCARTES_STOP_AT_END_OF_STDIN",
    "Whether to stop when standard input, a pipe, ends",
)
.default("false");
/// Set by `local`.
pub const TASK_LOCK: Setting = Setting::unflagged(
    "DESCARTES_TASK_LOCK",
    "A file to keep locked until the worker has ended",
);

/// Set by `dispatch`.
pub const NEW_SESSION: Setting = Setting::unflagged(
    "DESCARTES_NEW_SESSION",
    "Whether the worker starts a new session, so that it outlives the process that started it",
)
.default("false");
