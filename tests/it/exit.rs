//! For platforms: the exit code says what became of the task, and standard output says no more than the result.

use crate::support::{Ended, Project, Receiver, Reply, Worker};

/// Runs an agent under an orchestrator that answers a route so.
fn run(agent: &str, route: &str, reply: Reply) -> Ended {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.always(route, reply);
    Worker::new(&receiver, &project).agent(agent).run()
}

#[test]
fn exit_0_is_completed_and_reported() {
    let ended = run("true", "completed", Reply::status(204));
    ended.assert_code(0);
    assert_eq!(ended.result_line()["status"], "completed");
}

#[test]
fn exit_1_is_failed_and_reported() {
    let ended = run("false", "failed", Reply::status(204));
    ended.assert_code(1);
    assert_eq!(ended.result_line()["status"], "failed");
}

#[test]
fn exit_2_is_a_rejected_configuration() {
    let receiver = Receiver::start();
    let ended = Worker::new(&receiver, &Project::new())
        .env("DESCARTES_REPAIRS", "many")
        .agent("true")
        .run();
    ended.assert_code(2);
    assert_eq!(ended.stdout, "");
    assert!(receiver.said().is_empty());
}

#[test]
fn exit_3_is_an_outcome_that_could_not_be_delivered() {
    let ended = run("true", "completed", Reply::status(403));
    ended.assert_code(3);
    assert_eq!(ended.result_line()["status"], "completed");
}

#[test]
fn exit_4_is_a_refusal_by_the_orchestrator() {
    let ended = run("true", "started", Reply::status(409));
    ended.assert_code(4);
    assert_eq!(ended.stdout, "");
}

#[test]
fn an_orchestrator_that_knows_the_outcome_already_has_been_told() {
    for status in [409, 410] {
        run("true", "completed", Reply::status(status)).assert_code(0);
        run("false", "failed", Reply::status(status)).assert_code(1);
    }
}
