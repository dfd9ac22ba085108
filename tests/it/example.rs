//! For new users: the example of the README does what the README says.

use std::fs;
use std::path::Path;

use crate::support::{Project, Receiver, Worker};

const FIRST_COMMAND: &str = "TASK_ID=test-123 PROJECT_ID=proj-456 \
    CALLBACK_URL=http://localhost:8080/api/agents/callback \
    cargo run -p descartes-worker -- --task test-123";

/// A copy of the example project `examples/hello`.
fn hello() -> Project {
    let project = Project::empty();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello");
    for name in [
        "hello.sh",
        "test.sh",
        "agent.sh",
        ".descartes.toml",
        ".scud/config.toml",
        ".scud/tasks/tasks.scg",
    ] {
        project.write(name, fs::read(from.join(name)).expect(name));
    }
    project
}

#[test]
fn the_agent_of_the_example_completes_its_task() {
    let (receiver, project) = (Receiver::start(), hello());
    let ended = Worker::new(&receiver, &project)
        .env("TASK_ID", "test-123")
        .arg("--task")
        .arg("test-123")
        .run();
    ended.assert_code(0);
    assert_eq!(receiver.routes(), ["started", "completed"]);
    let checks = &receiver.only_event("completed")["result"]["checks"];
    assert_eq!(checks[0]["command"], "sh test.sh");
    assert!(
        project
            .graph()
            .contains("test-123 | Say hello to whoever is named | D |")
    );
}

#[test]
fn the_check_of_the_example_fails_before_the_work_is_done() {
    let (receiver, project) = (Receiver::start(), hello());
    let worker = Worker::new(&receiver, &project).env("TASK_ID", "test-123");
    worker.agent("true").run().assert_code(1);
    assert_eq!(
        receiver.only_event("failed")["failure"]["reason"],
        "checks_failed"
    );
}

#[test]
fn the_readme_has_the_first_command() {
    let readme =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
    assert!(
        readme.lines().any(|line| line == FIRST_COMMAND),
        "{FIRST_COMMAND}"
    );
}
