//! The engine `docker` when the engine, its answers or the network go wrong. Nothing runs twice, and nothing finished is lost.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::docker::dispatch;
use crate::docker_engine::DockerEngine;
use crate::faulty_engine::{Fault, FaultyEngine};
use crate::sample::{Graph, independent_tasks, kill_and_adopt, number_from_environment};
use crate::support::{Hold, Worker, wait_until};

/// A Docker Engine behind a proxy, and a graph whose agents wait until the test opens the gate.
struct Setup {
    engine: DockerEngine,
    proxy: FaultyEngine,
    graph: Graph,
    /// The directory of the gate. Containers can only use directories of the repository, so it is in there.
    gate: PathBuf,
}

/// An agent that creates a file `begun-…` in the gate, waits, and writes a file that is named after the task.
const AGENT: &str = "touch $GATE/begun-${TASK_ID##*:}-$(cat /proc/sys/kernel/random/uuid)
pauses=0
while [ ! -e $GATE/open ]; do
    pauses=$((pauses + 1))
    if [ $pauses -lt 100 ]; then sleep 0.05; else sleep 0.5; fi
done
echo done > done-${TASK_ID##*:}";

impl Setup {
    fn new(nodes: &str) -> Self {
        let engine = DockerEngine::start();
        let graph = Graph::new(nodes);
        let setup = Self {
            proxy: FaultyEngine::in_front_of(engine.socket()),
            gate: graph.state_dir().join("integration.git/gate"),
            engine,
            graph,
        };
        // `--plan` makes the repository.
        setup.dispatch().arg("--plan").run().assert_code(0);
        fs::create_dir_all(&setup.gate).expect("a directory");
        setup
    }

    fn dispatch(&self) -> Worker {
        dispatch(&self.graph, &self.engine, AGENT)
            .env("DOCKER_HOST", self.proxy.host())
            .env("GATE", &self.gate)
            .env("DESCARTES_AGENT_ENV", "GATE")
    }

    fn open_gate(&self) {
        fs::write(self.gate.join("open"), "").expect("a file");
    }

    /// How many agents have begun.
    fn count_begun_agents(&self) -> usize {
        let entries = fs::read_dir(&self.gate).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("begun-"))
            .count()
    }

    fn wait_for_agents(&self, count: usize) {
        wait_until("agents to begin", || self.count_begun_agents() == count);
    }

    /// Asserts that each task was done by one agent and merged, and that the engine has nothing left.
    fn assert_done_once(&self, tasks: &[&str]) {
        for task in tasks {
            let file = format!("done-{task}");
            assert_eq!(self.graph.show("descartes/house", &file), "done\n");
            assert_eq!(self.graph.merges_of("descartes/house", task), 1);
        }
        assert_eq!(self.count_begun_agents(), tasks.len());
        assert_eq!(self.graph.entries("intent").len(), tasks.len());
        assert_eq!(self.engine.containers(), [""; 0]);
    }
}

/// A rule that gives the fault only to the first request whose line contains the words.
fn fault_of_first_request(
    words: &'static str,
    fault: Fault,
) -> impl Fn(&str) -> Option<Fault> + Send + Sync {
    let seen = AtomicUsize::new(0);
    move |line| {
        let is_first = line.contains(words) && seen.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| fault.clone())
    }
}

/// The nodes of a graph with one task.
const ONE_TASK: &str = "1 | Only | P | 1 | H\n";

#[test]
fn after_a_refusal_of_the_engine_no_run_starts_and_running_work_is_merged() {
    let setup = Setup::new("1 | First | P | 1 | H\n2 | After | P | 1 | H\n\n@edges\n2 -> 1\n");
    let running = setup.dispatch().start();
    setup.wait_for_agents(1);
    setup.proxy.set_rule(|line| {
        line.contains("containers/create")
            .then_some(Fault::Refuse(403, "no more containers for you"))
    });
    setup.open_gate();
    let ended = running.wait();
    ended.assert_code(1);
    let words = "no more containers for you";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    assert_eq!(setup.graph.show("descartes/house", "done-1"), "done\n");
    setup.proxy.set_rule(|_| None);
    setup.dispatch().run().assert_code(0);
    assert_eq!(setup.graph.show("descartes/house", "done-2"), "done\n");
    assert_eq!(setup.count_begun_agents(), 2);
    assert_eq!(setup.engine.containers(), [""; 0]);
}

#[test]
fn a_container_whose_creation_or_start_had_no_clear_answer_runs_once() {
    for request in ["containers/create", "/start "] {
        let setup = Setup::new(ONE_TASK);
        setup
            .proxy
            .set_rule(fault_of_first_request(request, Fault::LoseAnswer));
        setup.open_gate();
        setup.dispatch().run().assert_code(0);
        setup.assert_done_once(&["1"]);
    }
}

#[test]
fn a_container_that_starts_long_after_the_request_runs_once() {
    let setup = Setup::new(ONE_TASK);
    let hold = Hold::default();
    let fault = Fault::DeliverLateWithoutAnswer(hold.clone());
    setup
        .proxy
        .set_rule(fault_of_first_request("/start ", fault));
    let running = setup.dispatch().start();
    setup.wait_for_agents(1);
    // Only now does the first request for its start arrive.
    hold.release();
    setup.open_gate();
    running.wait().assert_code(0);
    setup.assert_done_once(&["1"]);
}

#[test]
fn workers_can_report_while_their_engine_hangs() {
    let setup = Setup::new(ONE_TASK);
    let running = setup.dispatch().start();
    setup.wait_for_agents(1);
    let hold = Hold::default();
    let fault = Fault::NeverAnswer(hold.clone());
    setup.proxy.set_rule(move |_| Some(fault.clone()));
    setup.open_gate();
    // The work is merged although the engine says nothing.
    wait_until("the merge", || setup.graph.entries("merged").len() == 1);
    setup.proxy.set_rule(|_| None);
    hold.release();
    running.wait().assert_code(0);
    setup.assert_done_once(&["1"]);
}

#[test]
fn a_wrong_exit_code_changes_nothing_about_a_run_that_has_reported() {
    let setup = Setup::new(ONE_TASK);
    setup
        .proxy
        .set_rule(|_| Some(Fault::ReplaceInAnswer("\"ExitCode\":0", "\"ExitCode\":9")));
    setup.open_gate();
    setup.dispatch().run().assert_code(0);
    setup.assert_done_once(&["1"]);
}

#[test]
fn a_worker_that_was_killed_is_tried_again_although_the_engine_says_that_it_succeeded() {
    let setup = Setup::new(ONE_TASK);
    setup.proxy.set_rule(|_| {
        Some(Fault::ReplaceInAnswer(
            "\"ExitCode\":137",
            "\"ExitCode\":0  ",
        ))
    });
    let running = setup.dispatch().start();
    setup.wait_for_agents(1);
    let names = setup.engine.containers();
    setup
        .engine
        .docker(&["kill", "--signal", "KILL", &names[0]]);
    setup.open_gate();
    running.wait().assert_code(0);
    assert_eq!(setup.count_begun_agents(), 2);
    assert_eq!(setup.graph.merges_of("descartes/house", "1"), 1);
    assert_eq!(setup.engine.containers(), [""; 0]);
}

#[test]
fn the_graph_is_finished_although_the_engine_cannot_return_the_output_of_its_containers() {
    let setup = Setup::new(ONE_TASK);
    setup.proxy.set_rule(|line| {
        let why = "the logging driver cannot be read";
        line.contains("/logs?").then_some(Fault::Refuse(501, why))
    });
    setup.open_gate();
    setup.dispatch().run().assert_code(0);
    let run = setup.graph.entries("intent")[0]["run"].clone();
    let dir = setup.graph.state_dir().join("runs");
    let log = fs::read_to_string(dir.join(run.as_str().expect("a run")).join("log"));
    let log = log.expect("a log");
    for words in [
        "docker: its output could not be read: ",
        "the logging driver cannot be read (501)",
    ] {
        assert!(log.contains(words), "{log}");
    }
    setup.assert_done_once(&["1"]);
}

#[test]
fn a_broken_network_between_container_and_dispatcher_delays_the_report_and_loses_nothing() {
    let setup = Setup::new(ONE_TASK);
    let proxy = setup.graph.proxy_of_the_dispatcher();
    let url = format!("http://{}/api/agents/callback", proxy.address());
    let running = setup
        .dispatch()
        .args(["--attempts", "1"])
        .env("DESCARTES_DISPATCH_URL", url)
        .env("DESCARTES_HEARTBEAT", "100ms")
        .start();
    setup.wait_for_agents(1);
    proxy.close();
    setup.open_gate();
    let branches = Path::new("integration.git");
    let branches = setup.graph.state_dir().join(branches);
    let pushed = || {
        setup
            .graph
            .git(&["ls-remote", branches.to_str().expect("UTF-8")])
    };
    wait_until("the push of the work", || pushed().contains("/work"));
    proxy.reopen();
    running.wait().assert_code(0);
    setup.assert_done_once(&["1"]);
}

#[test]
fn a_dispatcher_whose_state_directory_was_moved_adopts_its_containers() {
    let mut setup = Setup::new(ONE_TASK);
    let running = setup.dispatch().start();
    setup.wait_for_agents(1);
    running.signal(Signal::KILL);
    running.wait();
    let moved = setup.graph.state_dir().with_file_name("moved");
    fs::rename(setup.graph.state_dir(), &moved).expect("the same disk");
    setup.gate = moved.join("integration.git/gate");
    let running = setup
        .dispatch()
        .env("DESCARTES_DISPATCH_STATE", &moved)
        .start();
    running.wait_for_log("tasks, ");
    setup.open_gate();
    running.wait().assert_code(0);
    assert_eq!(setup.graph.show("descartes/house", "done-1"), "done\n");
    assert_eq!(setup.count_begun_agents(), 1);
    assert_eq!(setup.engine.containers(), [""; 0]);
}

/// `DISPATCH_CONTAINERS` sets the number of containers. Prints how long each part took, and the number of requests.
#[test]
fn many_containers_are_adopted_by_the_next_dispatcher_and_end_as_one_branch() {
    let count = number_from_environment("DISPATCH_CONTAINERS").unwrap_or(6);
    let setup = Setup::new(&independent_tasks(count));
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    setup.proxy.set_rule(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        None
    });
    let jobs = count.to_string();
    let agents = usize::try_from(count).expect("a small number");
    let dispatch = || setup.dispatch().args(["--jobs", &jobs]);
    let (ended, times) = kill_and_adopt(
        dispatch,
        || setup.wait_for_agents(agents),
        || setup.open_gate(),
    );
    let _ = writeln!(
        std::io::stderr(),
        "{count} containers: {times}; {} requests",
        requests.load(Ordering::SeqCst),
    );
    assert_eq!(setup.count_begun_agents(), agents, "{ended:#?}");
    assert_eq!(setup.engine.containers(), [""; 0]);
}

#[test]
fn cancel_removes_the_containers_of_a_dispatcher_that_was_killed() {
    let setup = Setup::new("1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n");
    let running = setup.dispatch().start();
    setup.wait_for_agents(2);
    running.signal(Signal::KILL);
    running.wait();
    assert_eq!(setup.engine.containers().len(), 2);
    setup.dispatch().arg("cancel").run().assert_code(0);
    assert_eq!(setup.engine.containers(), [""; 0]);
}
