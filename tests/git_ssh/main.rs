//! Black box tests with real peers: OpenSSH's server on loopback, and SCUD, which reads the merged graph
//! of two workers.
//!
//! Needs `openssh-server` and, on PATH, `scud`; fails if one is missing.

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "all tests share the support, and these tests need only a part of it"
)]
mod support;

mod merge;
mod server;
mod ssh;
