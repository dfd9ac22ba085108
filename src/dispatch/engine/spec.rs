//! What an engine is told about a run.

use std::ffi::OsString;

/// What a run needs.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The settings of its worker, in addition to this process's environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Variables of this process that the worker must not have.
    pub removed: Vec<&'static str>,
    /// The memory that the run may use, in bytes, for engines that can limit it.
    pub memory: Option<u64>,
}
