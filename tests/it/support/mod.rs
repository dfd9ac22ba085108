//! Shared by the tests: fake servers, projects, repositories, and the worker as a process.

pub mod emulator;
pub mod forge;
pub mod lfs;
pub mod model;
pub mod nobody;
pub mod origin;
pub mod output_stream;
pub mod patience;
pub mod processes;
pub mod project;
pub mod project_processes;
pub mod receiver;
pub mod reply;
pub mod schema;
pub mod server;
pub mod terminal;
pub mod worker;

pub use emulator::Emulator;
pub use forge::{Forge, ServerBehavior};
pub use model::Model;
pub use origin::Origin;
pub use patience::{
    assert_within, duration_setting, duration_text, is_under_load, with_enough_time,
};
pub use project::Project;
pub use project_processes::{assert_no_process_in, describe_processes_in};
pub use receiver::{Hold, Receiver, Reply};
pub use server::Server;
pub use terminal::Terminal;
pub use worker::{FinishedWorker, RunningWorker, Worker, path, path_without};

/// A path or a text as one word for a shell: the path of a temporary directory may contain any character.
pub fn quoted(text: impl AsRef<std::ffi::OsStr>) -> String {
    let text = text.as_ref().to_str().expect("UTF-8");
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Runs the test for all cases at the same time, each in a thread.
pub fn each<T: Clone + Send>(cases: &[T], test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let (case, test) = (case.clone(), &test);
            scope.spawn(move || test(case));
        }
    });
}

/// Waits until the condition `holds`; fails if that takes too long. `what` names the condition in the failure message.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = patience::Deadline::start();
    while !holds() {
        assert!(!deadline.left().is_zero(), "waited too long for {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "a file does not notify a test when it changes"
        )]
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Asserts that the text contains the parts in this order.
#[track_caller]
pub fn assert_in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| {
            panic!("{part:?} is missing, or is not after the parts before it:\n{text}")
        });
        rest = &rest[at + part.len()..];
    }
}
