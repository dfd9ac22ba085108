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
