//! For writers of orchestrators: what is said when, and what the answers to a claim mean.

use serde_json::{Value, json};

use crate::support::{Project, Receiver, Reply, Worker};

#[test]
fn a_task_is_claimed_then_done_then_reported() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("echo all done")
        .run();
    ended.assert_code(0);
    assert_eq!(receiver.story(), ["started", "completed"]);
}
