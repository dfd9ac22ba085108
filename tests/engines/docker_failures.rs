//! The engine `docker` when the engine, its answers or the network go wrong. Nothing runs twice, and nothing finished is lost.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::docker::dispatch;
use crate::faulty_engine::{Fault, FaultyEngine};
use crate::sample::{Graph, independent_tasks, kill_and_adopt, number_from_environment};
use crate::support::{Hold, Worker, wait_until};

/// A graph whose agents wait until the test lets them go on.
struct Stage {
    daemon: Daemon,
    engine: FaultyEngine,
    graph: Graph,
    /// Containers see the repository's directories only, so the gate is in there.
    gate: PathBuf,
}

/// Counts its starts, waits, and writes a file that is called like the task.
const AGENT: &str = "touch $GATE/begun-${TASK_ID##*:}-$(cat /proc/sys/kernel/random/uuid)
pauses=0
while [ ! -e $GATE/open ]; do
    pauses=$((pauses + 1))
    if [ $pauses -lt 100 ]; then sleep 0.05; else sleep 0.5; fi
done
echo done > done-${TASK_ID##*:}";

impl Stage {
    fn new(nodes: &str) -> Self {
        let daemon = Daemon::start();
        let graph = Graph::new(nodes);
        let stage = Self {
            engine: FaultyEngine::of(daemon.socket()),
            gate: graph.state_dir().join("integration.git/gate"),
            daemon,
            graph,
        };
        // The repository exists after a first look at the plan.
        stage.dispatch().arg("--plan").run().assert_code(0);
        fs::create_dir_all(&stage.gate).expect("a directory");
        stage
    }

    fn dispatch(&self) -> Worker {
        dispatch(&self.graph, &self.daemon, AGENT)
            .env("DOCKER_HOST", self.engine.host())
            .env("GATE", &self.gate)
            .env("DESCARTES_AGENT_ENV", "GATE")
    }

    fn open(&self) {
        fs::write(self.gate.join("open"), "").expect("a file");
    }

    /// How many agents have begun.
    fn begun(&self) -> usize {
        let entries = fs::read_dir(&self.gate).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("begun-"))
            .count()
    }

    fn wait_for_agents(&self, count: usize) {
        wait_until("agents to begin", || self.begun() == count);
    }

    /// Asserts that each task was done by one agent and merged, and that the engine has nothing left.
    fn assert_done_once(&self, tasks: &[&str]) {
        for task in tasks {
            let file = format!("done-{task}");
            assert_eq!(self.graph.show("descartes/house", &file), "done\n");
            assert_eq!(self.graph.merges_of("descartes/house", task), 1);
        }
        assert_eq!(self.begun(), tasks.len());
        assert_eq!(self.graph.entries("intent").len(), tasks.len());
        assert_eq!(self.daemon.containers(), [""; 0]);
    }
}

/// A rule: the first request whose line contains the words has the fault.
fn first(words: &'static str, fault: Fault) -> impl Fn(&str) -> Option<Fault> + Send + Sync {
    let seen = AtomicUsize::new(0);
    move |line| {
        let is_first = line.contains(words) && seen.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| fault.clone())
    }
}

const ONE: &str = "1 | Only | P | 1 | H\n";

#[test]
fn an_engine_that_refuses_in_the_middle_lets_nothing_new_start_and_what_runs_is_merged() {
    let stage = Stage::new("1 | First | P | 1 | H\n2 | After | P | 1 | H\n\n@edges\n2 -> 1\n");
    let running = stage.dispatch().start();
    stage.wait_for_agents(1);
    stage.engine.set_rule(|line| {
        line.contains("containers/create")
            .then_some(Fault::Refused(403, "no more containers for you"))
    });
    stage.open();
    let ended = running.wait();
    ended.assert_code(1);
    let words = "no more containers for you";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    assert_eq!(stage.graph.show("descartes/house", "done-1"), "done\n");
    stage.engine.set_rule(|_| None);
    stage.dispatch().run().assert_code(0);
    assert_eq!(stage.graph.show("descartes/house", "done-2"), "done\n");
    assert_eq!(stage.begun(), 2);
    assert_eq!(stage.daemon.containers(), [""; 0]);
}

#[test]
fn a_container_whose_creation_or_start_had_no_clear_answer_runs_once() {
    for request in ["containers/create", "/start "] {
        let stage = Stage::new(ONE);
        stage.engine.set_rule(first(request, Fault::LostAnswer));
        stage.open();
        stage.dispatch().run().assert_code(0);
        stage.assert_done_once(&["1"]);
    }
}

#[test]
fn a_container_that_starts_long_after_the_request_runs_once() {
    let stage = Stage::new(ONE);
    let hold = Hold::default();
    let fault = Fault::LateWithoutAnswer(hold.clone());
    stage.engine.set_rule(first("/start ", fault));
    let running = stage.dispatch().start();
    stage.wait_for_agents(1);
    // The first request to start it arrives only now.
    hold.release();
    stage.open();
    running.wait().assert_code(0);
    stage.assert_done_once(&["1"]);
}

#[test]
fn an_engine_that_hangs_does_not_keep_what_its_workers_report() {
    let stage = Stage::new(ONE);
    let running = stage.dispatch().start();
    stage.wait_for_agents(1);
    let hold = Hold::default();
    let silence = Fault::Silence(hold.clone());
    stage.engine.set_rule(move |_| Some(silence.clone()));
    stage.open();
    // The work is merged although the engine says nothing.
    wait_until("the merge", || stage.graph.entries("merged").len() == 1);
    stage.engine.set_rule(|_| None);
    hold.release();
    running.wait().assert_code(0);
    stage.assert_done_once(&["1"]);
}

#[test]
fn a_wrong_exit_code_changes_nothing_about_a_run_that_has_reported() {
    let stage = Stage::new(ONE);
    stage
        .engine
        .set_rule(|_| Some(Fault::Changed("\"ExitCode\":0", "\"ExitCode\":9")));
    stage.open();
    stage.dispatch().run().assert_code(0);
    stage.assert_done_once(&["1"]);
}

#[test]
fn a_worker_that_was_killed_is_tried_again_although_the_engine_says_that_it_succeeded() {
    let stage = Stage::new(ONE);
    stage
        .engine
        .set_rule(|_| Some(Fault::Changed("\"ExitCode\":137", "\"ExitCode\":0  ")));
    let running = stage.dispatch().start();
    stage.wait_for_agents(1);
    let names = stage.daemon.containers();
    stage
        .daemon
        .docker(&["kill", "--signal", "KILL", &names[0]]);
    stage.open();
    running.wait().assert_code(0);
    assert_eq!(stage.begun(), 2);
    assert_eq!(stage.graph.merges_of("descartes/house", "1"), 1);
    assert_eq!(stage.daemon.containers(), [""; 0]);
}

#[test]
fn an_engine_that_keeps_no_output_ends_the_graph_without_it() {
    let stage = Stage::new(ONE);
    stage.engine.set_rule(|line| {
        let why = "the logging driver cannot be read";
        line.contains("/logs?").then_some(Fault::Refused(501, why))
    });
    stage.open();
    stage.dispatch().run().assert_code(0);
    let run = stage.graph.entries("intent")[0]["run"].clone();
    let dir = stage.graph.state_dir().join("runs");
    let log = fs::read_to_string(dir.join(run.as_str().expect("a run")).join("log"));
    let log = log.expect("a log");
    for words in [
        "docker: its output could not be read: ",
        "the logging driver cannot be read (501)",
    ] {
        assert!(log.contains(words), "{log}");
    }
    stage.assert_done_once(&["1"]);
}

#[test]
fn a_broken_network_between_container_and_dispatcher_delays_the_report_and_loses_nothing() {
    let stage = Stage::new(ONE);
    let proxy = stage.graph.proxy_of_the_dispatcher();
    let url = format!("http://{}/api/agents/callback", proxy.address());
    let running = stage
        .dispatch()
        .args(["--attempts", "1"])
        .env("DESCARTES_DISPATCH_URL", url)
        .env("DESCARTES_HEARTBEAT", "100ms")
        .start();
    stage.wait_for_agents(1);
    proxy.close();
    stage.open();
    let branches = Path::new("integration.git");
    let branches = stage.graph.state_dir().join(branches);
    let pushed = || {
        stage
            .graph
            .git(&["ls-remote", branches.to_str().expect("UTF-8")])
    };
    wait_until("the push of the work", || pushed().contains("/work"));
    proxy.reopen();
    running.wait().assert_code(0);
    stage.assert_done_once(&["1"]);
}

#[test]
fn a_dispatcher_whose_state_directory_was_moved_adopts_its_containers() {
    let mut stage = Stage::new(ONE);
    let running = stage.dispatch().start();
    stage.wait_for_agents(1);
    running.signal(Signal::KILL);
    running.wait();
    let moved = stage.graph.state_dir().with_file_name("moved");
    fs::rename(stage.graph.state_dir(), &moved).expect("the same disk");
    stage.gate = moved.join("integration.git/gate");
    let running = stage
        .dispatch()
        .env("DESCARTES_DISPATCH_STATE", &moved)
        .start();
    running.wait_for_log("tasks, ");
    stage.open();
    running.wait().assert_code(0);
    assert_eq!(stage.graph.show("descartes/house", "done-1"), "done\n");
    assert_eq!(stage.begun(), 1);
    assert_eq!(stage.daemon.containers(), [""; 0]);
}

/// `DISPATCH_CONTAINERS` sets the number of containers. Prints how long each part took, and the requests.
#[test]
fn many_containers_are_adopted_by_the_next_dispatcher_and_end_as_one_branch() {
    let count = number_from_environment("DISPATCH_CONTAINERS").unwrap_or(6);
    let stage = Stage::new(&independent_tasks(count));
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    stage.engine.set_rule(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        None
    });
    let jobs = count.to_string();
    let agents = usize::try_from(count).expect("a small number");
    let dispatch = || stage.dispatch().args(["--jobs", &jobs]);
    let (ended, times) =
        kill_and_adopt(dispatch, || stage.wait_for_agents(agents), || stage.open());
    let _ = writeln!(
        std::io::stderr(),
        "{count} containers: {times}; {} requests",
        requests.load(Ordering::SeqCst),
    );
    assert_eq!(stage.begun(), agents, "{ended:#?}");
    assert_eq!(stage.daemon.containers(), [""; 0]);
}

#[test]
fn cancel_removes_the_containers_of_a_dispatcher_that_was_killed() {
    let stage = Stage::new("1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n");
    let running = stage.dispatch().start();
    stage.wait_for_agents(2);
    running.signal(Signal::KILL);
    running.wait();
    assert_eq!(stage.daemon.containers().len(), 2);
    stage.dispatch().arg("cancel").run().assert_code(0);
    assert_eq!(stage.daemon.containers(), [""; 0]);
}
