//! The engine `command`, with the scripts of `examples/engines`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::docker_engine::{DockerEngine, IMAGE};
use crate::sample::Graph;
use crate::ssh_server::SshServer;
use crate::support::{Worker, path};

/// Two tasks; the second one depends on the first one.
const CHAIN: &str = "1 | First | P | 1 | H\n2 | Second | P | 1 | H\n\n@edges\n2 -> 1\n";
/// An agent that makes a separate file for each task.
const AGENT: &str = "echo done > done-${TASK_ID##*:}";

/// `dispatch` on the engine `command`, with this script of `examples/engines`.
fn dispatch(graph: &Graph, script: &str, agent: &str) -> Worker {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/engines")
        .join(script);
    let line = |call: &str| format!("'{}' {call}", script.display());
    graph
        .dispatch(agent)
        .args(["--engine", "command"])
        .env("DESCARTES_DISPATCH_COMMAND_START", line("start"))
        .env("DESCARTES_DISPATCH_COMMAND_LOOK", line("look"))
        .env("DESCARTES_DISPATCH_COMMAND_STOP", line("stop"))
}

/// Asserts that the tasks of [`CHAIN`] are merged, and that the directory of each run has its output and no file `handle`.
fn assert_done(graph: &Graph) {
    assert_eq!(graph.show("descartes/house", "done-2"), "done\n");
    let runs = fs::read_dir(graph.state_dir().join("runs")).expect("a directory");
    for run in runs {
        let dir = run.expect("an entry").path();
        let stdout = fs::read_to_string(dir.join("stdout")).expect("the output");
        assert!(stdout.starts_with("descartes-result "), "{stdout}");
        let log = fs::read_to_string(dir.join("log")).expect("the log");
        assert!(log.contains("completed"), "{log}");
        assert!(!dir.join("handle").exists());
    }
}

#[test]
fn the_command_docker_works_through_a_graph_and_leaves_no_container() {
    let engine = DockerEngine::start();
    let graph = Graph::new(CHAIN);
    let with_docker = |agent| {
        dispatch(&graph, "docker-cli.sh", agent)
            .env("DOCKER_HOST", engine.host())
            .env("DOCKER_OPTIONS", "--network host")
            .env("DESCARTES_DISPATCH_IMAGE", IMAGE)
    };
    with_docker(AGENT).run().assert_code(0);
    assert_done(&graph);
    assert_eq!(engine.containers(), [""; 0]);
    let graph = Graph::new("1 | Endless | P | 1 | H\n");
    let running = dispatch(&graph, "docker-cli.sh", "sleep 1000")
        .env("DOCKER_HOST", engine.host())
        .env("DOCKER_OPTIONS", "--network host")
        .env("DESCARTES_DISPATCH_IMAGE", IMAGE)
        .start();
    running.wait_for_log(" works");
    graph.command(&["cancel"]).run().assert_code(0);
    running.wait().assert_code(3);
    assert_eq!(engine.containers(), [""; 0]);
}

/// An ssh server whose commands find this program.
struct SshHost {
    dir: tempfile::TempDir,
    sshd: SshServer,
}

impl SshHost {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().join("home");
        fs::create_dir(&home).expect("a directory");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_descartes-worker"));
        let programs = program.parent().expect("a directory").display();
        let path = path();
        let path = path.to_str().expect("UTF-8");
        let variables = format!("PATH={programs}:{path} HOME={}", home.display());
        let sshd = SshServer::start(dir.path(), &variables);
        Self { dir, sshd }
    }

    /// The ssh command for the script.
    fn ssh(&self) -> String {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        format!(
            "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -i {} -o UserKnownHostsFile={} -p {}",
            path("key"),
            path("known_hosts"),
            self.sshd.port
        )
    }
}

#[test]
fn processes_of_other_machines_work_through_a_graph_over_ssh() {
    let server = SshHost::start();
    let with_ssh = |graph: &Graph, agent| {
        dispatch(graph, "ssh.sh", agent)
            .env("SSH", server.ssh())
            .env("SSH_HOSTS", "127.0.0.1 127.0.0.1")
    };
    let graph = Graph::new(CHAIN);
    with_ssh(&graph, AGENT).run().assert_code(0);
    assert_done(&graph);
    let graph = Graph::new("1 | Endless | P | 1 | H\n");
    let running = with_ssh(&graph, "sleep 1000").start();
    running.wait_for_log(" works");
    graph.command(&["cancel"]).run().assert_code(0);
    running.wait().assert_code(3);
    let runs = server.dir.path().join("home/.descartes-runs");
    let count = fs::read_dir(runs).into_iter().flatten().count();
    assert_eq!(count, 0);
}

#[test]
fn a_graph_is_shared_by_two_engines_by_their_limits() {
    let engine = DockerEngine::start();
    let graph = Graph::new("1 | One | P | 1 | H\n2 | Two | P | 1 | H\n3 | Three | P | 1 | H\n");
    let meeting = graph.state_dir().join("integration.git/meeting");
    graph.command(&["--plan"]).run().assert_code(0);
    fs::create_dir_all(&meeting).expect("a directory");
    // No agent ends before all three have begun.
    let agent = "touch $MEETING/${TASK_ID##*:}; while [ ! -e $MEETING/1 ] || [ ! -e $MEETING/2 ] || [ ! -e $MEETING/3 ]; do sleep 0.05; done; echo done > done-${TASK_ID##*:}";
    let ended = graph
        .dispatch(agent)
        .args(["--engine", "local=1", "--engine", "docker=2"])
        .env("DOCKER_HOST", engine.host())
        .env("DESCARTES_DISPATCH_IMAGE", IMAGE)
        .env("DESCARTES_DISPATCH_NETWORK", "host")
        .env("MEETING", &meeting)
        .env("DESCARTES_AGENT_ENV", "MEETING")
        .run();
    ended.assert_code(0);
    let journal = graph.journal();
    let engines = journal
        .iter()
        .filter_map(|entry| entry["handle"]["engine"].as_str());
    let mut engines: Vec<&str> = engines.collect();
    engines.sort_unstable();
    assert_eq!(engines, ["docker", "docker", "local"]);
    assert_eq!(engine.containers(), [""; 0]);
}
