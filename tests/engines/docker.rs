//! The engine `docker`: containers of a real Docker Engine, with the network of the machine.

use std::fs;

use rustix::process::Signal;

use crate::docker_engine::{DockerEngine, IMAGE};
use crate::sample::{AGENT_THAT_LISTS_FILES, DIAMOND, Graph};
use crate::support::{Worker, wait_until};

/// `dispatch` on the engine `docker`.
pub fn dispatch(graph: &Graph, engine: &DockerEngine, agent: &str) -> Worker {
    graph
        .dispatch(agent)
        .args(["--engine", "docker"])
        .env("DOCKER_HOST", engine.host())
        .env("DESCARTES_DISPATCH_IMAGE", IMAGE)
        .env("DESCARTES_DISPATCH_NETWORK", "host")
}

#[test]
fn a_diamond_runs_in_containers_and_ends_as_one_branch_with_nothing_left_in_the_engine() {
    let engine = DockerEngine::start();
    let graph = Graph::new(DIAMOND);
    let ended = dispatch(&graph, &engine, AGENT_THAT_LISTS_FILES).run();
    ended.assert_code(0);
    let bottom = graph.show("descartes/house", "done-4");
    assert_eq!(bottom, "done-1\ndone-2\ndone-3\n");
    let handles = graph.journal();
    let handles = handles.iter().filter(|entry| entry["entry"] == "handle");
    for entry in handles {
        assert_eq!(entry["handle"]["engine"], "docker", "{entry}");
        let run = entry["run"].as_str().expect("a run");
        let log = fs::read_to_string(graph.state_dir().join("runs").join(run).join("log"));
        assert!(log.expect("a log").contains("completed"), "{run}");
        let stdout = fs::read_to_string(graph.state_dir().join("runs").join(run).join("stdout"));
        assert!(stdout.expect("the output").starts_with("descartes-result "));
    }
    assert_eq!(engine.containers(), [""; 0]);
}

#[test]
fn a_container_that_runs_out_of_memory_is_a_failure_that_says_so() {
    let engine = DockerEngine::start();
    let graph = Graph::new("1 | Greedy | P | 1 | H\n");
    let ended = dispatch(&graph, &engine, "tail /dev/zero")
        .args(["--attempts", "1"])
        .env("DESCARTES_DISPATCH_MEMORY", "64MiB")
        .run();
    ended.assert_code(1);
    assert!(ended.stderr.contains("out_of_memory"), "{ended:#?}");
    let run = graph.journal()[2]["run"]
        .as_str()
        .expect("a run")
        .to_owned();
    let log = fs::read_to_string(graph.state_dir().join("runs").join(run).join("log"));
    let log = log.expect("a log");
    assert!(
        log.contains("the container ran out of memory; its limit is 64 MiB"),
        "{log}"
    );
    assert_eq!(engine.containers(), [""; 0]);
}

#[test]
fn a_container_that_another_program_removed_is_a_lost_run_and_the_next_attempt_succeeds() {
    let engine = DockerEngine::start();
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    // The first attempt waits to be removed.
    let agent = "case $(cat \"$DESCARTES_PROMPT_FILE\") in *'was lost'*) echo again > again;; *) sleep 1000;; esac";
    let running = dispatch(&graph, &engine, agent).start();
    running.wait_for_log(" works");
    let names = engine.containers();
    assert_eq!(names.len(), 1, "{names:?}");
    engine.docker(&["rm", "--force", &names[0]]);
    let ended = running.wait();
    ended.assert_code(0);
    assert_eq!(graph.show("descartes/house", "again"), "again\n");
    assert_eq!(engine.containers(), [""; 0]);
}

#[test]
fn a_restart_of_the_engine_during_a_run_costs_an_attempt_and_no_result() {
    let mut engine = DockerEngine::start();
    let graph = Graph::new("1 | Only | P | 1 | H\n2 | After | P | 1 | H\n\n@edges\n2 -> 1\n");
    let agent = "case $(cat \"$DESCARTES_PROMPT_FILE\") in *'earlier attempt'*|*After*) echo done > done-${TASK_ID##*:};; *) sleep 1000;; esac";
    let running = dispatch(&graph, &engine, agent).start();
    running.wait_for_log(" works");
    // The worker may report before the engine answers to its start.
    wait_until("the handle", || graph.entries("handle").len() == 1);
    engine.end(Signal::KILL);
    running.wait_for_log("is unknown until it answers");
    engine.run();
    let ended = running.wait();
    ended.assert_code(0);
    assert!(
        ended.stderr.contains("the engine docker answers again"),
        "{ended:#?}"
    );
    assert_eq!(graph.show("descartes/house", "done-2"), "done\n");
    assert_eq!(engine.containers(), [""; 0]);
}

#[test]
fn a_dispatcher_that_was_killed_adopts_its_containers_and_starts_none_again() {
    let engine = DockerEngine::start();
    let graph = Graph::new("1 | Slow | P | 1 | H\n");
    let agent =
        "touch $GATE/begun-$$; while [ ! -e $GATE/open ]; do sleep 0.05; done; echo done > done";
    // Containers can only use directories of the repository, so the gate is in there.
    let gate = graph.state_dir().join("integration.git/gate");
    let dispatch = || {
        dispatch(&graph, &engine, agent)
            .env("GATE", &gate)
            .env("DESCARTES_AGENT_ENV", "GATE")
    };
    // `--plan` makes the repository.
    dispatch().arg("--plan").run().assert_code(0);
    fs::create_dir_all(&gate).expect("a directory");
    let count_begun_agents = || fs::read_dir(&gate).expect("a directory").count();
    let running = dispatch().start();
    wait_until("the agent to begin", || count_begun_agents() > 0);
    running.signal(Signal::KILL);
    running.wait();
    let running = dispatch().start();
    running.wait_for_log("tasks, ");
    fs::write(gate.join("open"), "").expect("a file");
    running.wait().assert_code(0);
    assert_eq!(graph.show("descartes/house", "done"), "done\n");
    let intents = graph.journal();
    let intents = intents.iter().filter(|entry| entry["entry"] == "intent");
    assert_eq!(intents.count(), 1);
    assert_eq!(engine.containers(), [""; 0]);
}

#[test]
fn cancel_ends_the_containers_and_removes_them() {
    let engine = DockerEngine::start();
    let graph = Graph::new("1 | Endless | P | 1 | H\n2 | Endless too | P | 1 | H\n");
    let running = dispatch(&graph, &engine, "sleep 1000").start();
    wait_until("two containers", || engine.containers().len() == 2);
    running.wait_for_log(" works");
    graph.command(&["cancel"]).run().assert_code(0);
    running.wait().assert_code(3);
    assert_eq!(engine.containers(), [""; 0]);
}

#[test]
fn an_image_that_does_not_exist_is_reported_before_anything_starts() {
    let engine = DockerEngine::start();
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let ended = dispatch(&graph, &engine, AGENT_THAT_LISTS_FILES)
        .env("DESCARTES_DISPATCH_IMAGE", "127.0.0.1:9/no-such-image:1")
        .run();
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .contains("the image 127.0.0.1:9/no-such-image:1 cannot be pulled"),
        "{ended:#?}"
    );
    assert_eq!(graph.entries("intent").len(), 0);
}

#[test]
fn an_engine_that_does_not_answer_is_reported_before_anything_starts() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let ended = graph
        .dispatch(AGENT_THAT_LISTS_FILES)
        .args(["--engine", "docker"])
        .env("DOCKER_HOST", "unix:///no/such/socket")
        .env("DESCARTES_DISPATCH_IMAGE", IMAGE)
        .run();
    ended.assert_code(2);
    let words = "the Docker Engine at unix:///no/such/socket: ";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    assert!(
        ended.stderr.contains("DOCKER_HOST names another one"),
        "{ended:#?}"
    );
}
