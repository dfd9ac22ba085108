//! Black box tests with real peers: OpenSSH's server on loopback, and SCUD, which reads the merged graph
//! of two workers.
//!
//! Needs `openssh-server` and, on PATH, `scud`; fails if one is missing.

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the support is all tests' and these need the least of it"
)]
mod support;

mod merge;
mod server;
mod ssh;
