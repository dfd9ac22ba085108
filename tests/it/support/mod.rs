//! What the tests stand on: a receiver, a project, a worker.

pub mod project;
pub mod receiver;
pub mod worker;

pub use project::Project;
pub use receiver::{Hold, Receiver, Reply};
pub use worker::{Ended, Running, Worker, path};
