//! Black box against real peers: OpenSSH's server on loopback, and SCUD on what two workers' branches
//! merge to.

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the support is all tests' and these need the least of it"
)]
mod support;

mod merge;
mod ssh;
