//! The engine `fly`, against an API that behaves as that of Fly does, oddities included.

mod answers;
mod chaos;
mod ends;
mod needs;
mod signals;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use super::fly_api::{APP, FlyApi, TOKEN};
use super::sample::{
    AGENT_THAT_LISTS_FILES, DIAMOND, Gate, Graph, independent_tasks, kill_and_adopt,
    number_from_environment,
};
use crate::support::{Worker, each, wait_until};

const ONE: &str = "1 | Only | P | 1 | H\n";

/// A project with a remote repository, and a fake API of Fly whose machines work on it.
struct Cloud {
    graph: Graph,
    api: FlyApi,
    remote: PathBuf,
    rate: u32,
}

impl Cloud {
    /// The API allows many requests per second, so that tests do not wait for its rate limit.
    fn new(nodes: &str) -> Self {
        Self::with_rate(nodes, 20)
    }

    /// `rate` multiplies the rate limits of the real API.
    fn with_rate(nodes: &str, rate: u32) -> Self {
        let graph = Graph::new(nodes);
        let remote = graph.state_dir().with_file_name("remote.git");
        let path = remote.to_str().expect("UTF-8");
        graph.git(&["clone", "--quiet", "--bare", ".", path]);
        Self {
            graph,
            api: FlyApi::start(rate),
            remote,
            rate,
        }
    }

    fn on_fly(&self, dispatch: Worker) -> Worker {
        self.on_engine(dispatch, "fly")
    }

    fn on_engine(&self, dispatch: Worker, engine: &str) -> Worker {
        dispatch
            .args(["--repo", &format!("file://{}", self.remote.display())])
            .args(["--tag", "house", "--engine", engine])
            .dir(self.graph.state_dir().parent().expect("a directory"))
            .env("FLY_FLAPS_BASE_URL", self.api.url())
            .env("FLY_API_TOKEN", TOKEN)
            .env("DESCARTES_DISPATCH_FLY_APP", APP)
            .env("DESCARTES_DISPATCH_IMAGE", "registry.fly.io/workers:1")
            .env("DESCARTES_DISPATCH_FLY_RATE", self.rate.to_string())
            // As on a machine of Fly, except that its address is an IPv6 address, which not every machine has.
            .env("FLY_PRIVATE_IP", "127.0.0.1")
    }

    fn dispatch(&self, agent: &str) -> Worker {
        self.on_fly(self.graph.dispatch(agent))
    }

    /// `dispatch` with agents that wait at the gate; see [`Graph::dispatch_with_gate`].
    fn dispatch_with_gate(&self, gate: &Gate, work: &str) -> Worker {
        self.on_fly(self.graph.dispatch_with_gate(gate, work))
    }

    /// The content of a file on the integration branch.
    #[track_caller]
    fn show(&self, file: &str) -> String {
        self.git(&["show", &format!("descartes/house:{file}")])
    }

    /// Runs git in the remote repository; returns its output.
    #[track_caller]
    fn git(&self, args: &[&str]) -> String {
        let remote = self.remote.to_str().expect("UTF-8");
        self.graph.git(&[&["--git-dir", remote], args].concat())
    }

    /// The bodies of the requests for machines that succeeded.
    fn create_bodies(&self) -> Vec<Value> {
        let exchanges = self.api.exchanges("create").into_iter();
        let successes = exchanges.filter(|exchange| exchange.status == 200);
        successes.map(|exchange| exchange.body).collect()
    }
}

#[test]
fn a_diamond_runs_on_machines_and_ends_as_one_branch_with_nothing_left() {
    let cloud = Cloud::new(DIAMOND);
    cloud.api.add_foreign_machine("somebody-elses");
    let ended = cloud
        .dispatch(AGENT_THAT_LISTS_FILES)
        .env("DESCARTES_DISPATCH_FLY_REGION", "fra,ams")
        .env("DESCARTES_STOP_WINDOW", "40s")
        .env("ANTHROPIC_API_KEY", "sk-ant-the-key-of-the-model")
        .run();
    ended.assert_code(0);
    assert_eq!(cloud.show("done-4"), "done-1\ndone-2\ndone-3\n");
    assert!(ended.stderr.contains("has no digest"), "{ended:#?}");
    let bodies = cloud.create_bodies();
    assert_eq!(bodies.len(), 4);
    let digest = "registry.fly.io/workers@sha256:597c3e12f830132be2aa69b4c0deccb0657ea4253e6d59c6f38e41e9f69a0add";
    for (number, body) in bodies.iter().enumerate() {
        let config = &body["config"];
        let image = if number == 0 {
            "registry.fly.io/workers:1"
        } else {
            digest
        };
        assert_eq!(config["image"], image);
        assert_eq!(config["stop_config"]["timeout"], "40s");
        assert_eq!(config["metadata"]["descartes_run"], body["name"]);
        assert_eq!(body["region"], "fra");
        let url = config["env"]["CALLBACK_URL"].as_str().expect("a URL");
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    }
    // Keys and callback secrets are in no configuration, which people and machines of the app can read.
    let text = format!("{bodies:?}");
    for secret in ["sk-ant-the-key", "whsec_", TOKEN] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    // The key of the model is stored once, and the callback secret for each run.
    let stored = cloud.api.exchanges("set secrets");
    let stored: Vec<String> = stored
        .iter()
        .map(|exchange| exchange.body.to_string())
        .collect();
    let count = |secret: &str| stored.iter().filter(|body| body.contains(secret)).count();
    assert_eq!((count("sk-ant-the-key"), count("whsec_")), (1, 4));
    assert_eq!(cloud.api.living_machines(), ["somebody-elses"]);
    assert_eq!(cloud.api.secrets(), [""; 0]);
    cloud.api.assert_allowed();
}

#[test]
fn machines_reach_a_dispatcher_on_fly_at_its_ipv6_address() {
    let cloud = Cloud::new(ONE);
    let ended = cloud
        .dispatch(AGENT_THAT_LISTS_FILES)
        .env("FLY_PRIVATE_IP", "::1")
        .run();
    if let Err(no_ipv6) = TcpListener::bind("[::1]:0") {
        // On a machine without IPv6, the dispatcher says in the system's words why it cannot listen.
        assert_ne!(ended.code, Some(0), "{ended:#?}");
        let words = no_ipv6.to_string();
        assert!(ended.stderr.contains(&words), "{ended:#?}");
        return;
    }
    ended.assert_code(0);
    let bodies = cloud.create_bodies();
    let url = bodies[0]["config"]["env"]["CALLBACK_URL"].as_str();
    let url = url.expect("a URL");
    assert!(url.starts_with("http://[::1]:"), "{url}");
    cloud.api.assert_clean();
}

#[test]
fn a_machine_costs_three_requests_that_do_not_come_too_soon_and_a_share_of_the_lists() {
    // Seven machines at once are more than the API allows.
    let cloud = Cloud::with_rate(&independent_tasks(7), 1);
    let dispatch = cloud.dispatch("touch done-${TASK_ID##*:}");
    dispatch.args(["--jobs", "7"]).run().assert_code(0);
    let count = |action: &str| cloud.api.exchanges(action).len();
    assert_eq!(count("create"), 7);
    // Seven requests store callback secrets, and one removes them at the end. On a busy machine, an answer may be late, and the
    // dispatcher sends the same request again.
    let stored = cloud.api.exchanges("set secrets");
    let stored: BTreeSet<_> = stored
        .iter()
        .map(|exchange| exchange.body.to_string())
        .collect();
    assert_eq!(stored.len(), 8, "{stored:#?}");
    // On a busy machine, the dispatcher may also have to ask a second time for the end of a machine, or to end a machine.
    assert!((7..10).contains(&count("wait")), "{}", count("wait"));
    for unneeded in ["get", "stop", "destroy"] {
        assert!(count(unneeded) < 3, "{unneeded}: {}", count(unneeded));
    }
    cloud.api.assert_clean();
}

#[test]
fn a_killed_dispatcher_adopts_its_machines_also_from_a_state_directory_that_was_moved() {
    each(&[false, true], |is_moved| {
        let cloud = Cloud::new(ONE);
        let gate = Gate::new();
        let dispatch = || cloud.dispatch_with_gate(&gate, "echo done > done");
        let running = dispatch().start();
        gate.wait_for_an_agent();
        running.signal(Signal::KILL);
        running.wait();
        let mut again = dispatch();
        if is_moved {
            let moved = cloud.graph.state_dir().with_file_name("moved");
            fs::rename(cloud.graph.state_dir(), &moved).expect("the state directory");
            again = again.env("DESCARTES_DISPATCH_STATE", moved);
        }
        let running = again.start();
        running.wait_for_log("tasks, ");
        gate.open();
        running.wait().assert_code(0);
        assert_eq!(gate.begun_tasks(), "house:1\n");
        assert_eq!(cloud.show("done"), "done\n");
        assert_eq!(cloud.api.count_created(), 1);
        cloud.api.assert_clean();
    });
}

/// `DISPATCH_MACHINES` sets the number of machines. Prints how long each part took, and the requests.
#[test]
fn many_machines_are_adopted_by_the_next_dispatcher_and_end_as_one_branch() {
    let count = number_from_environment("DISPATCH_MACHINES").unwrap_or(8);
    let cloud = Cloud::new(&independent_tasks(count));
    let gate = Gate::new();
    let jobs = count.to_string();
    let dispatch = || {
        let dispatch = cloud.dispatch_with_gate(&gate, "touch done-${TASK_ID##*:}");
        dispatch.args(["--jobs", &jobs])
    };
    let begun = || gate.begun_tasks().lines().count() as u64;
    let (ended, times) = kill_and_adopt(
        dispatch,
        || wait_until("all agents", || begun() == count),
        || gate.open(),
    );
    let requests = |action| cloud.api.exchanges(action).len();
    let _ = writeln!(
        std::io::stderr(),
        "{count} machines: {times}; requests: {} for secrets, {} for machines, {} for their ends, {} lists",
        requests("set secrets"),
        requests("create"),
        requests("wait"),
        requests("list"),
    );
    assert_eq!(begun(), count, "{ended:#?}");
    assert_eq!(cloud.api.count_created() as u64, count);
    cloud.api.assert_clean();
}

#[test]
fn a_machine_that_ended_before_its_dispatcher_noted_it_does_not_run_again() {
    let cloud = Cloud::new(ONE);
    let gate = Gate::new();
    // The worker gives up before the next dispatcher begins.
    let dispatch = || {
        let dispatch = cloud.dispatch_with_gate(&gate, "echo done > done");
        dispatch.env("DESCARTES_FINISH_DEADLINE", "100ms")
    };
    let running = dispatch().start();
    gate.wait_for_an_agent();
    running.signal(Signal::KILL);
    running.wait();
    let journal = cloud.graph.state_dir().join("journal.jsonl");
    let text = fs::read_to_string(&journal).expect("the journal");
    let lines = text.lines().take_while(|line| !line.contains("\"handle\""));
    let lines: Vec<&str> = lines.collect();
    fs::write(&journal, lines.join("\n") + "\n").expect("the journal");
    gate.open();
    cloud.api.wait_for_machines(0);
    dispatch().run().assert_code(0);
    assert_eq!(gate.begun_tasks(), "house:1\n");
    assert_eq!(cloud.show("done"), "done\n");
    cloud.api.assert_clean();
}

#[test]
fn a_broken_network_between_worker_and_dispatcher_delays_the_report_and_loses_nothing() {
    let cloud = Cloud::new(ONE);
    let gate = Gate::new();
    let proxy = cloud.graph.proxy_of_the_dispatcher();
    let url = format!("http://{}/api/agents/callback", proxy.address());
    let running = cloud
        .dispatch_with_gate(&gate, "echo done > done")
        .args(["--attempts", "1"])
        .remove_env("FLY_PRIVATE_IP")
        .env("DESCARTES_DISPATCH_URL", url)
        .env("DESCARTES_HEARTBEAT", "100ms")
        .start();
    gate.wait_for_an_agent();
    proxy.close();
    gate.open();
    let pushed = || cloud.git(&["for-each-ref"]);
    wait_until("the push of the work", || pushed().contains("/work"));
    proxy.reopen();
    running.wait().assert_code(0);
    assert_eq!(cloud.graph.entries("intent").len(), 1);
    assert_eq!(cloud.show("done"), "done\n");
    cloud.api.assert_clean();
}

#[test]
fn cancel_ends_the_machines_and_removes_them() {
    let cloud = Cloud::new("1 | Endless | P | 1 | H\n2 | Endless too | P | 1 | H\n");
    let running = cloud.dispatch("sleep 1000").start();
    cloud.api.wait_for_machines(2);
    running.wait_for_log(" works");
    cloud.graph.command(&["cancel"]).run().assert_code(0);
    running.wait().assert_code(3);
    cloud.api.assert_clean();
}

#[test]
fn cancel_removes_the_machines_of_a_dispatcher_that_was_killed() {
    let cloud = Cloud::new(ONE);
    let running = cloud.dispatch("sleep 1000").start();
    cloud.api.wait_for_machines(1);
    running.wait_for_log(" works");
    running.signal(Signal::KILL);
    running.wait();
    cloud.dispatch("true").arg("cancel").run().assert_code(0);
    cloud.api.assert_clean();
}

#[test]
fn an_address_or_a_repository_that_machines_cannot_reach_is_reported_before_anything_starts() {
    let cloud = Cloud::new(ONE);
    let ended = cloud
        .dispatch(AGENT_THAT_LISTS_FILES)
        .remove_env("FLY_PRIVATE_IP")
        .run();
    ended.assert_code(2);
    assert!(
        ended.stderr.contains("DESCARTES_DISPATCH_URL"),
        "{ended:#?}"
    );
    let ended = cloud
        .graph
        .dispatch(AGENT_THAT_LISTS_FILES)
        .args(["--engine", "fly"])
        .env("FLY_API_TOKEN", TOKEN)
        .env("FLY_APP_NAME", APP)
        .env("DESCARTES_DISPATCH_IMAGE", "worker:1")
        .run();
    ended.assert_code(2);
    assert!(ended.stderr.contains("use --repo"), "{ended:#?}");
    assert_eq!(cloud.api.count_created(), 0);
}

#[test]
fn this_machine_and_fly_share_a_graph() {
    let cloud = Cloud::new("1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n");
    let gate = Gate::new();
    let running = cloud
        .on_engine(
            cloud
                .graph
                .dispatch_with_gate(&gate, "touch done-${TASK_ID##*:}"),
            "fly=1",
        )
        .args(["--engine", "local=1"])
        .start();
    let engines = || {
        let handles = cloud.graph.entries("handle");
        let engines = handles
            .iter()
            .map(|entry| entry["handle"]["engine"].to_string());
        engines.collect::<Vec<_>>()
    };
    wait_until("both runs", || engines().len() == 2);
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(cloud.api.count_created(), 1);
    assert!(
        engines().contains(&"\"local\"".to_owned()),
        "{:?}",
        engines()
    );
    cloud.api.assert_clean();
}
