//! For platforms: the exit code shows the outcome, and standard output has only the result line.

use crate::support::{FinishedWorker, Project, Receiver, Reply, Worker};

/// Runs an agent with an orchestrator that gives this reply on one route.
fn run(agent: &str, route: &str, reply: Reply) -> FinishedWorker {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.set_default_reply(route, reply);
    Worker::new(&receiver, &project).agent(agent).run()
}

#[test]
fn exit_0_means_completed_and_reported() {
    let ended = run("true", "completed", Reply::status(204));
    ended.assert_code(0);
    assert_eq!(ended.result_line()["status"], "completed");
}

#[test]
fn exit_1_means_failed_and_reported() {
    let ended = run("false", "failed", Reply::status(204));
    ended.assert_code(1);
    assert_eq!(ended.result_line()["status"], "failed");
}

#[test]
fn exit_2_means_a_rejected_configuration() {
    let receiver = Receiver::start();
    let ended = Worker::new(&receiver, &Project::new())
        .env("DESCARTES_REPAIRS", "many")
        .agent("true")
        .run();
    ended.assert_code(2);
    assert_eq!(ended.stdout, "");
    assert!(receiver.requests().is_empty());
}

#[test]
fn exit_3_means_that_the_outcome_could_not_be_delivered() {
    let ended = run("true", "completed", Reply::status(403));
    ended.assert_code(3);
    assert_eq!(ended.result_line()["status"], "completed");
}

#[test]
fn exit_4_means_that_the_orchestrator_refused_the_claim() {
    let ended = run("true", "started", Reply::status(409));
    ended.assert_code(4);
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_409_or_410_to_the_outcome_counts_as_delivered() {
    for status in [409, 410] {
        run("true", "completed", Reply::status(status)).assert_code(0);
        run("false", "failed", Reply::status(status)).assert_code(1);
    }
}
