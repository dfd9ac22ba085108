//! Dispatchers and workers are stopped or killed at any moment. The same command continues the dispatch, and no
//! work is lost or done twice.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::sample::{Gate, Graph, kill_while_an_agent_works, number_from_environment};
use crate::support::wait_until;

/// The variable with the number of kills of the random test. Without it, the test is short.
pub const KILLS: &str = "DISPATCH_CHAOS_KILLS";

#[test]
fn after_a_kill_the_next_dispatcher_adopts_the_running_workers_and_starts_no_second_ones() {
    let graph = Graph::new("1 | Slow | P | 1 | H\n2 | After | P | 1 | H\n\n@edges\n2 -> 1\n");
    let gate = Gate::new();
    let dispatch = || graph.dispatch_with_gate(&gate, "echo done > done-${TASK_ID##*:}");
    let running = dispatch().start();
    gate.wait_for_an_agent();
    running.signal(Signal::KILL);
    assert_eq!(running.wait().signal, Some(9));
    let running = dispatch().start();
    running.wait_for_log("tasks, ");
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(gate.begun_tasks(), "house:1\nhouse:2\n");
    assert_eq!(graph.entries("handle").len(), 2);
}

#[test]
fn the_next_dispatcher_waits_for_an_address_that_another_program_has_for_a_moment() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let gate = Gate::new();
    let dispatch = || graph.dispatch_with_gate(&gate, "echo done > done");
    kill_while_an_agent_works(dispatch(), &gate);
    let journal = graph.journal();
    let address = journal.iter().find_map(|entry| entry["listen"].as_str());
    let other = TcpListener::bind(address.expect("an address")).expect("a free address");
    let running = dispatch().start();
    running.wait_for_log("waiting until the address of the last dispatcher is free");
    drop(other);
    running.wait_for_log("tasks, ");
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(gate.begun_tasks(), "house:1\n");
}

#[test]
fn the_first_ctrl_c_waits_for_running_workers_and_the_same_command_continues() {
    let graph = Graph::new("1 | First | P | 1 | H\n2 | Second | P | 1 | H\n\n@edges\n2 -> 1\n");
    let gate = Gate::new();
    let dispatch = || graph.dispatch_with_gate(&gate, "echo done > done-${TASK_ID##*:}");
    let running = dispatch().start();
    gate.wait_for_an_agent();
    running.signal(Signal::INT);
    running.wait_for_log("nothing new starts; waiting for 1 runs");
    gate.open();
    let ended = running.wait();
    ended.assert_code(3);
    assert!(ended.stderr.contains("1 of 2 tasks are done"), "{ended:#?}");
    dispatch().run().assert_code(0);
}

#[test]
fn the_third_ctrl_c_leaves_workers_running_and_the_same_command_adopts_them() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let gate = Gate::new();
    let dispatch = || {
        let dispatch = graph.dispatch_with_gate(&gate, "echo done > done");
        // Without heartbeats, the worker does not learn of the cancellation.
        dispatch.env("DESCARTES_HEARTBEAT", "1h")
    };
    let running = dispatch().start();
    gate.wait_for_an_agent();
    for words in [
        "nothing new starts; waiting for 1 runs",
        "cancelling 1 runs",
    ] {
        running.signal(Signal::INT);
        running.wait_for_log(words);
    }
    running.signal(Signal::INT);
    let ended = running.wait();
    ended.assert_code(3);
    assert!(ended.stderr.contains("1 runs go on"), "{ended:#?}");
    let running = dispatch().start();
    running.wait_for_log("tasks, ");
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(gate.begun_tasks(), "house:1\n");
}

#[test]
fn the_second_ctrl_c_cancels_running_workers() {
    let graph = Graph::new("1 | Endless | P | 1 | H\n");
    let running = graph
        .dispatch("echo half > half; sleep 1000")
        .env("DESCARTES_HEARTBEAT", "50ms")
        .start();
    running.wait_for_log(" works");
    running.signal(Signal::INT);
    running.wait_for_log("nothing new starts");
    running.signal(Signal::INT);
    let ended = running.wait();
    ended.assert_code(3);
    assert!(ended.stderr.contains("cancelled: "), "{ended:#?}");
    graph.dispatch("echo done > done").run().assert_code(0);
}

#[test]
fn a_second_dispatcher_cannot_start_and_status_comes_from_the_first() {
    let graph = Graph::new("1 | Endless | P | 1 | H\n");
    let running = graph.dispatch("sleep 1000").start();
    running.wait_for_log(" works");
    let second = graph.dispatch("true").run();
    second.assert_code(2);
    assert!(
        second.stderr.contains("another dispatcher (process "),
        "{second:#?}"
    );
    let status = graph.command(&["status"]).run();
    status.assert_code(0);
    assert!(
        status.stdout.contains("working   1        Endless"),
        "{status:#?}"
    );
    graph.command(&["cancel", "1"]).run().assert_code(0);
    let ended = running.wait();
    ended.assert_code(1);
    assert!(
        ended.stderr.contains("blocked   1        Endless: "),
        "{ended:#?}"
    );
}

/// Starts a dispatcher whose agent never ends, and kills it while the worker works; returns the graph.
fn killed_dispatcher_with_an_endless_worker() -> Graph {
    let graph = Graph::new("1 | Endless | P | 1 | H\n");
    let running = graph
        .dispatch("exec sleep 1000")
        .env("DESCARTES_HEARTBEAT", "50ms")
        .start();
    running.wait_for_log(" works");
    running.signal(Signal::KILL);
    running.wait();
    graph
}

/// How many runs have neither reported nor been given up as lost.
fn count_live(graph: &Graph) -> usize {
    let ended =
        |entry: &&serde_json::Value| matches!(entry["entry"].as_str(), Some("fenced" | "reported"));
    graph.entries("intent").len() - graph.journal().iter().filter(ended).count()
}

#[test]
fn cancel_ends_the_workers_of_a_dispatcher_that_was_killed() {
    let graph = killed_dispatcher_with_an_endless_worker();
    assert_eq!(count_live(&graph), 1);
    let cancel = graph.command(&["cancel"]).run();
    cancel.assert_code(0);
    let words = "no dispatcher runs; cancelling 1 runs";
    assert!(cancel.stderr.contains(words), "{cancel:#?}");
    assert!(
        cancel.stderr.contains("0 of 1 tasks are done"),
        "{cancel:#?}"
    );
    assert_eq!(count_live(&graph), 0);
    assert_eq!(graph.entries("intent").len(), 1);
    // `cancel` without a task does not block the tasks: the same command starts a new run.
    graph.dispatch("echo done > done").run().assert_code(0);
}

#[test]
fn a_task_that_is_cancelled_between_two_dispatchers_stays_cancelled_until_a_retry() {
    let graph = killed_dispatcher_with_an_endless_worker();
    let cancel = graph.command(&["cancel", "1"]).run();
    cancel.assert_code(0);
    assert!(cancel.stdout.contains("noted; "), "{cancel:#?}");
    let agent = "echo done > done-$TASK_ID";
    for _ in 0..2 {
        let ended = graph.dispatch(agent).run();
        ended.assert_code(1);
        let words = "blocked   1        Endless: was cancelled; ";
        assert!(ended.stderr.contains(words), "{ended:#?}");
    }
    assert_eq!(graph.entries("intent").len(), 1);
    graph.command(&["retry", "1"]).run().assert_code(0);
    graph.dispatch(agent).run().assert_code(0);
}

#[test]
fn cancel_without_a_dispatch_says_so() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let cancel = graph.command(&["cancel"]).run();
    cancel.assert_code(2);
    assert!(
        cancel
            .stderr
            .contains("there is no dispatch for the branch "),
        "{cancel:#?}"
    );
}

/// A small random number generator. Its seed is printed, so that a failure can be repeated.
pub struct Random(pub u64);

impl Random {
    /// The next number; it is less than `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The graph of the random tests: a chain of diamonds. In each, the left task is split into two subtasks.
pub fn chaos_graph(diamonds: u32) -> String {
    use std::fmt::Write as _;
    let (mut nodes, mut edges, mut parents) = (String::new(), String::new(), String::new());
    for diamond in 0..diamonds {
        let [top, left, right] = [1, 2, 3].map(|corner| diamond * 3 + corner);
        let _ = writeln!(nodes, "{top} | top | P | 1 | M");
        let _ = writeln!(nodes, "{left} | left | X | 1 | M");
        let _ = writeln!(nodes, "{left}.1 | left one | P | 1 | H");
        let _ = writeln!(nodes, "{left}.2 | left two | P | 1 | L");
        let _ = writeln!(nodes, "{right} | right | P | 1 | M");
        let _ = writeln!(
            edges,
            "{left} -> {top}\n{right} -> {top}\n{left}.2 -> {left}.1"
        );
        let _ = writeln!(parents, "{left}: {left}.1, {left}.2");
        if diamond > 0 {
            let _ = writeln!(edges, "{top} -> {}\n{top} -> {}", top - 2, top - 1);
        }
    }
    format!("{nodes}\n@edges\n{edges}\n@parents\n{parents}")
}

/// The agent of the random test.
pub const CHAOS_AGENT: &str = "sleep 0.1; echo $TASK_ID > done-${TASK_ID##*:}";

/// The tree of the branch after all tasks have run one after the other, without any failure.
pub fn serial_tree(nodes: &str, agent: &str) -> String {
    let graph = Graph::new(nodes);
    graph
        .dispatch(agent)
        .args(["--jobs", "1"])
        .run()
        .assert_code(0);
    graph.git(&["rev-parse", "descartes/house^{tree}"])
}

#[test]
fn after_random_kills_every_task_is_merged_once_and_the_tree_equals_that_of_a_serial_run() {
    let (kills, diamonds) = number_from_environment(KILLS).map_or((6, 2), |kills| (kills, 6));
    let seed = seed_of_this_run();
    print(&format!("dispatch: seed {seed}, {kills} kills"));
    let mut random = Random(seed);
    let nodes = chaos_graph(diamonds);
    let expected = serial_tree(&nodes, CHAOS_AGENT);
    let (mut killed, mut graphs) = (Killed::default(), 0);
    // A dispatcher whose graph is done ends, so more kills need another graph.
    while killed.dispatchers + killed.workers < kills {
        let graph = Graph::new(&nodes);
        dispatch_with_kills(&graph, kills, &mut killed, &mut random, seed);
        graphs += 1;
        assert_eq!(
            graph.git(&["rev-parse", "descartes/house^{tree}"]),
            expected,
            "seed {seed}"
        );
        let tasks = nodes.lines().take_while(|line| !line.is_empty());
        for row in tasks.filter(|row| row.contains("| P |")) {
            let id = row.split(" | ").next().expect("an id");
            assert_eq!(
                graph.merges_of("descartes/house", id),
                1,
                "task {id}, seed {seed}"
            );
        }
        graph.git(&["fsck", "--no-dangling"]);
    }
    print(&format!("dispatch: {graphs} graphs, {killed:?}"));
}

/// How many dispatchers and workers were killed during their work.
#[derive(Debug, Default)]
struct Killed {
    dispatchers: u64,
    workers: u64,
}

/// Runs `dispatch` on a graph until it is done. Kills dispatchers and workers at random until `killed` has reached
/// `kills`.
fn dispatch_with_kills(
    graph: &Graph,
    kills: u64,
    killed: &mut Killed,
    random: &mut Random,
    seed: u64,
) {
    let dispatch = || {
        graph
            .dispatch(CHAOS_AGENT)
            .args(["--jobs", "3", "--attempts", "100"])
    };
    let mut running = dispatch().start();
    while killed.dispatchers + killed.workers < kills {
        pause(Duration::from_millis(20 + random.below(600)));
        if random.below(3) == 0 && kill_a_worker(graph, random) {
            killed.workers += 1;
            continue;
        }
        running.signal(Signal::KILL);
        let ended = running.wait();
        // The dispatcher may have finished before the kill.
        if ended.signal != Some(9) {
            assert_eq!(ended.code, Some(0), "seed {seed}: {ended:#?}");
            return;
        }
        killed.dispatchers += 1;
        running = dispatch().start();
    }
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "seed {seed}: {ended:#?}");
}

/// Prints at once. The test harness captures `eprintln!`, which would hide the seed of a test that hangs.
pub fn print(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The seed in the variable `DISPATCH_CHAOS_SEED`, or else a new one.
pub fn seed_of_this_run() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let fixed_seed = number_from_environment("DISPATCH_CHAOS_SEED");
    let nanos = u64::try_from(time.expect("a time").as_nanos() % (1 << 60)).expect("small");
    fixed_seed.unwrap_or(nanos | 1)
}

/// Kills one running worker. Returns `false` if no worker runs.
fn kill_a_worker(graph: &Graph, random: &mut Random) -> bool {
    let handles = graph.journal();
    let pids = handles.iter().filter(|entry| entry["entry"] == "handle");
    let alive = pids.filter_map(|entry| {
        let pid = i32::try_from(entry["handle"]["pid"].as_i64()?).ok()?;
        let run = entry["run"].as_str()?;
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        line.contains(run).then_some(pid)
    });
    let alive: Vec<i32> = alive.collect();
    if alive.is_empty() {
        return false;
    }
    let chosen = random.below(alive.len() as u64);
    let pid = alive[usize::try_from(chosen).expect("small")];
    let _ = kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL);
    true
}

/// Waits. The kills of this test must come at random times.
pub fn pause(length: Duration) {
    let until = Instant::now() + length;
    wait_until("the time of the next kill", || Instant::now() >= until);
}
