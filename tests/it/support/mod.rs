//! What the tests stand on: a receiver, a project, a worker.

pub mod forge;
pub mod origin;
pub mod project;
pub mod receiver;
pub mod worker;

pub use forge::{Forge, Mood};
pub use origin::Origin;
pub use project::Project;
pub use receiver::{Receiver, Reply};
pub use worker::Worker;

/// Waits until something holds; a test that waits for a minute has failed.
#[track_caller]
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed().as_secs() < 60, "waited too long for {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "files and journals tell nobody when they change"
        )]
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
