//! `dispatch` on engines other than processes of this machine, with the real ones: a Docker Engine that the tests
//! start themselves, and OpenSSH's server on loopback.
//!
//! Needs root, and `docker.io` and `openssh-server` installed; fails if one is missing.

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "all tests share the support, and these tests need only a part of it"
)]
mod support;

#[path = "../it/dispatch/sample.rs"]
#[expect(
    dead_code,
    reason = "the sample is shared with the other tests of dispatch"
)]
mod sample;

#[path = "../git_ssh/server.rs"]
mod ssh_server;

mod command;
mod docker;
mod docker_engine;
mod docker_failures;
mod faulty_engine;
mod image;
