//! What the tests stand on: a receiver, a project, a worker.

pub mod project;
pub mod receiver;
pub mod reply;
pub mod schema;
pub mod worker;

pub use project::Project;
pub use receiver::{Hold, Receiver, Reply};
pub use worker::{Ended, Running, Worker, path};

/// Tries every case at the same time as the others.
pub fn each<T: Clone + Send>(cases: &[T], test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let (case, test) = (case.clone(), &test);
            scope.spawn(move || test(case));
        }
    });
}
