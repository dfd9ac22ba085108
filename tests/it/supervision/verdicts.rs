//! The failure reason says how the agent ended.

use super::{assert_completed, assert_failed};
use crate::support::{Project, Receiver, Worker};

#[test]
fn each_way_in_which_an_agent_ends_has_a_separate_reason_and_message() {
    let cases = [
        (
            "exit 7",
            "agent_failed",
            "the agent's command failed with exit code 7",
        ),
        (
            "kill -SEGV $$",
            "agent_killed",
            "the agent was killed by SIGSEGV",
        ),
        (
            "kill -KILL $$",
            "agent_killed",
            "the agent was killed by SIGKILL",
        ),
        (
            "kill -ABRT $$",
            "agent_killed",
            "the agent was killed by SIGABRT",
        ),
        (
            "sh -c 'kill -KILL $$'; exit $?",
            "agent_killed",
            "the agent's command ended with exit code 137: SIGKILL killed it",
        ),
        (
            "no-such-program",
            "agent_not_found",
            "the agent's command ended with exit code 127: a program is not found",
        ),
        (
            "./notes.txt",
            "agent_not_found",
            "the agent's command ended with exit code 126: a program is not executable",
        ),
    ];
    for (agent, reason, message) in cases {
        let (receiver, project) = (Receiver::start(), Project::new());
        project.write("notes.txt", "no program");
        Worker::new(&receiver, &project)
            .agent(agent)
            .run()
            .assert_code(1);
        assert_failed(&receiver, reason, message);
    }
}

#[test]
fn the_kernel_kills_the_agent_before_the_worker_when_memory_runs_out() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let usual_score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let usual_score = usual_score.trim();
    // The worker has the agent's score while it starts the agent, so the agent waits until that is over.
    let agent = format!(
        "until [ $(cat /proc/$PPID/oom_score_adj) = {usual_score} ]; do sleep 0.01; done
         cat /proc/self/oom_score_adj"
    );
    Worker::new(&receiver, &project)
        .without_isolation()
        .agent(agent)
        .run()
        .assert_code(0);
    assert_eq!(assert_completed(&receiver), "500\n");
}

#[test]
fn a_broken_pipe_kills_the_programs_of_the_agent_as_in_any_shell() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = "(yes; echo \"yes ended with $?\" >&2) | head -n 1; trap";
    Worker::new(&receiver, &project)
        .agent(agent)
        .run()
        .assert_code(0);
    let mut lines: Vec<String> = assert_completed(&receiver)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["y", "yes ended with 141"]);
}
