//! A project with a task graph, and the command `dispatch` in this project.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::support::{FinishedWorker, Server, Worker, path, wait_until};

/// An agent that writes a file with the name of its task. The file lists the files of earlier tasks.
pub const AGENT_THAT_LISTS_FILES: &str =
    r#"files=$(ls done-* 2> /dev/null) || true; echo "$files" > done-${TASK_ID##*:}; echo done"#;

/// The rows and edges of four tasks: 2 and 3 depend on 1, and 4 depends on both.
pub const DIAMOND: &str = "\
1 | Top | P | 1 | H
2 | Left | P | 1 | H
3 | Right | P | 1 | M
4 | Bottom | P | 1 | M

@edges
2 -> 1
3 -> 1
4 -> 2
4 -> 3
";

/// A git repository with a task graph of the phase `house`, committed on `main`, and a state directory for `dispatch`. Deleted
/// when it is dropped.
pub struct Graph {
    dir: TempDir,
}

impl Graph {
    /// `nodes` are the rows of tasks; further sections may follow in the same text.
    pub fn new(nodes: &str) -> Self {
        Self::with_text(&format!(
            "# SCUD Graph v1\n# Phase: house\n\n@nodes\n{nodes}"
        ))
    }

    /// A graph with this text, which may have several phases.
    pub fn with_text(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["project", "home", "tmp"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let graph = Self { dir };
        graph.git(&["init", "--quiet", "--initial-branch=main"]);
        graph.write("README", "A house.\n");
        graph.write(".scud/tasks/tasks.scg", text);
        graph.commit("Plans");
        graph
    }

    /// The directory of the repository.
    pub fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a written file");
        self
    }

    /// Commits these commands as the checks of the project.
    pub fn commit_checks(&self, commands: &[&str]) -> &Self {
        let commands = serde_json::to_string(commands).expect("strings");
        let config = format!("[swarm.backpressure]\ncommands = {commands}\n");
        self.write(".scud/config.toml", &config);
        self.commit("Checks");
        self
    }

    pub fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    /// Runs git in the project; returns its output.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(self.project())
            .env_clear()
            .env("PATH", path())
            .env("HOME", self.dir.path().join("home"))
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_COMMITTER_NAME", "A")])
            .envs([("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_EMAIL", "a@b")])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("git");
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The content of a file on a branch.
    #[track_caller]
    pub fn show(&self, branch: &str, file: &str) -> String {
        self.git(&["show", &format!("{branch}:{file}")])
    }

    /// How many merge commits of a branch name the task.
    pub fn merges_of(&self, branch: &str, task: &str) -> usize {
        let format = "--format=%(trailers:key=Task-Id,valueonly)";
        let ids = self.git(&["log", "--merges", format, branch]);
        ids.lines()
            .filter(|id| *id == task || id.ends_with(&format!(":{task}")))
            .count()
    }

    /// The state that a dispatch must not change: HEAD, the index, `main`, and the files of the work tree.
    pub fn protected_state(&self) -> Vec<String> {
        let index = fs::read(self.project().join(".git/index")).expect("the index");
        vec![
            fs::read_to_string(self.project().join(".git/HEAD")).expect("HEAD"),
            format!("{index:?}"),
            self.git(&["rev-parse", "main"]),
            fs::read_to_string(self.project().join("README")).expect("README"),
            format!("{:?}", {
                let entries = fs::read_dir(self.project()).expect("a directory");
                let mut names: Vec<_> = entries
                    .map(|entry| entry.expect("an entry").file_name())
                    .collect();
                names.sort();
                names
            }),
        ]
    }

    /// `dispatch` with an agent that is a shell script.
    pub fn dispatch(&self, agent: &str) -> Worker {
        self.command(&[])
            .env("DESCARTES_AGENT_COMMAND", agent)
            .env("DESCARTES_DISPATCH_RETRY_DELAY", "20ms")
    }

    /// `dispatch` with these arguments, for example `status`.
    pub fn command(&self, args: &[&str]) -> Worker {
        Worker::without_settings()
            .arg("dispatch")
            .args(args)
            .dir(self.project())
            .env("HOME", self.dir.path().join("home"))
            .env("TMPDIR", self.dir.path().join("tmp"))
            .env("DESCARTES_DISPATCH_STATE", self.state_dir())
    }

    /// `dispatch` with an agent that waits until the gate is open, and then runs the script `work`. The agent stops waiting when
    /// the gate's directory is deleted: otherwise the agents of a failed test would wait forever, because a dispatcher that
    /// is killed leaves its workers running.
    pub fn dispatch_with_gate(&self, gate: &Gate, work: &str) -> Worker {
        let agent = format!(
            r#"echo "$TASK_ID" >> "$GATE/begun"
            pauses=0
            while [ -e "$GATE" ] && [ ! -e "$GATE/open" ]; do
                # Hundreds of agents that wait for long must not use all processor time.
                pauses=$((pauses + 1))
                if [ $pauses -lt 100 ]; then sleep 0.02; else sleep 0.5; fi
            done
            {work}"#
        );
        self.dispatch(&agent)
            .env("DESCARTES_AGENT_ENV", "GATE")
            .env("GATE", gate.dir.path())
    }

    /// The entries of the journal with this name.
    pub fn entries(&self, name: &str) -> Vec<serde_json::Value> {
        let mut entries = self.journal();
        entries.retain(|entry| entry["entry"] == name);
        entries
    }

    /// Removes all entries of the journal except the first `count`, as if the dispatcher was killed before it wrote the others.
    pub fn keep_journal_entries(&self, count: usize) {
        let journal = self.state_dir().join("journal.jsonl");
        let text = fs::read_to_string(&journal).expect("the journal");
        let lines = text.lines().take(count).map(|line| format!("{line}\n"));
        fs::write(&journal, lines.collect::<String>()).expect("the journal");
    }

    /// A proxy that forwards connections to the dispatcher that has begun last. A test closes it to break the network.
    pub fn proxy_of_the_dispatcher(&self) -> Server {
        let state_dir = self.state_dir();
        Server::listen("127.0.0.1:0", move |connection| {
            let journal = fs::read_to_string(state_dir.join("journal.jsonl")).expect("the journal");
            let begun = journal
                .lines()
                .rfind(|line| line.contains("\"begun\""))
                .expect("an entry");
            let begun: serde_json::Value = serde_json::from_str(begun).expect("JSON");
            let target = TcpStream::connect(begun["listen"].as_str().expect("an address"));
            let target = Arc::new(target.expect("the dispatcher"));
            let (to, from) = (Arc::clone(&target), Arc::clone(&connection.stream));
            let forward = thread::spawn(move || copy(&from, &to));
            copy(&target, &connection.stream);
            let _ = forward.join();
        })
    }

    /// All entries of the journal.
    pub fn journal(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.state_dir().join("journal.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// Copies bytes until one side closes its connection, and then closes the other one.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let mut chunk = [0; 8 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A directory that makes agents wait until the test opens the gate. Before an agent waits, it writes its task's id into the
/// file `begun`.
pub struct Gate {
    dir: TempDir,
}

impl Gate {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn open(&self) {
        fs::write(self.path("open"), "").expect("a file");
    }

    #[track_caller]
    pub fn wait_for_an_agent(&self) {
        wait_until("an agent to begin", || self.path("begun").exists());
    }

    #[track_caller]
    pub fn wait_for_agents(&self, count: usize) {
        wait_until("agents to begin", || {
            self.begun_tasks().lines().count() == count
        });
    }

    /// The ids of the tasks that agents have begun, one on each line.
    pub fn begun_tasks(&self) -> String {
        fs::read_to_string(self.path("begun")).unwrap_or_default()
    }
}

/// Starts a dispatcher, and kills it with SIGKILL after an agent has begun.
pub fn kill_while_an_agent_works(dispatch: Worker, gate: &Gate) {
    let running = dispatch.start();
    gate.wait_for_an_agent();
    running.signal(Signal::KILL);
    running.wait();
}

/// Starts a dispatcher, kills it with SIGKILL when its agents wait, starts another dispatcher, which adopts the runs, and lets the
/// agents continue. Returns the second dispatcher, which has ended, and a text that says how long each part took.
pub fn kill_and_adopt(
    dispatch: impl Fn() -> Worker,
    wait_for_agents: impl Fn(),
    open_gate: impl Fn(),
) -> (FinishedWorker, String) {
    let begin = Instant::now();
    let running = dispatch().start();
    wait_for_agents();
    let start_time = begin.elapsed();
    running.signal(Signal::KILL);
    running.wait();
    let begin = Instant::now();
    let running = dispatch().start();
    running.wait_for_log("tasks, ");
    let adoption_time = begin.elapsed();
    let begin = Instant::now();
    open_gate();
    let ended = running.wait();
    let merge_time = begin.elapsed();
    ended.assert_code(0);
    let times = format!(
        "all agents after {start_time:.1?}, the next dispatcher after {adoption_time:.1?}, all merged after {merge_time:.1?}"
    );
    (ended, times)
}

/// The rows of tasks without dependencies.
pub fn independent_tasks(count: u64) -> String {
    let row = |task| format!("{task} | Task {task} | P | 1 | H\n");
    (1..=count).map(row).collect()
}

/// The number in an environment variable that a developer sets to make a test longer; `None` if it is not set.
#[expect(
    clippy::disallowed_methods,
    reason = "the developer sets the size of long tests with variables"
)]
pub fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// Whether a process has ended. A zombie counts as ended: in a container, the first process may never read its exit status.
pub fn has_ended(process: Pid) -> bool {
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    let stat = fs::read_to_string(path).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
}
