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

#[test]
fn the_image_says_which_revision_the_worker_is_and_a_checkout_does_not() {
    for (revision, told) in [("9ee0496", json!("9ee0496")), ("", Value::Null)] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_REVISION", revision)
            .agent("true")
            .run();
        ended.assert_code(0);
        assert_eq!(receiver.only("started")["worker"]["revision"], told);
        assert!(!ended.stderr.contains("no setting"), "{}", ended.stderr);
    }
}
