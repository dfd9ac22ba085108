//! Measures `dispatch` next to a shell loop that does the same with xargs and git.
//!
//! `cargo bench --bench dispatch`. Both are measured in turns on the same machine, because only their ratio means
//! anything on another one. Exit code 1 says that a budget is exceeded. `BENCH_PROGRAM` names another build of
//! the program to measure.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(
    clippy::disallowed_methods,
    reason = "the environment configures the benchmark, which waits for other processes"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const ROUNDS: usize = 3;
const TASKS: usize = 200;
const JOBS: usize = 50;
/// The number of tasks in the chain of [`measure_dependents`].
const CHAIN: usize = 20;
const MIB: f64 = 1024.0 * 1024.0;
/// An agent that waits until the file of the gate exists.
const WAIT_AT_GATE: &str = "until [ -e \"$GATE\" ]; do sleep 0.1; done";

/// The shell script that starts the workers with xargs. [`SHELL_MERGES`] then merges their branches one after the other.
const SHELL_WORKERS: &str = r#"
seq "$TASKS" | xargs -P "$JOBS" -I '{}' sh -c '
    TASK_ID={} DESCARTES_BRANCH=task-{} "$PROGRAM" --run-id "shell-{}" > /dev/null 2>&1'
"#;
const SHELL_MERGES: &str = r#"
set -e
git clone --quiet "$DESCARTES_REPO" merged && cd merged
git config merge.scud.driver "'$PROGRAM' merge-graph %O %A %B"
echo '.scud/tasks/tasks.scg merge=scud' > .git/info/attributes
for id in $(seq "$TASKS"); do git merge --quiet --no-edit "origin/task-$id"; done
git push --quiet
"#;
/// One merge without a work tree, as a shell would do it.
const ONE_MERGE: &str = r#"
set -e
tree=$(git merge-tree --write-tree "$ONTO" "$WORK")
commit=$(git commit-tree "$tree" -p "$ONTO" -p "$WORK" -m "Merge")
git push --quiet --force-with-lease="refs/heads/merged:$ONTO" "$TARGET" "$commit:refs/heads/merged"
git update-ref refs/heads/merged "$commit" "$ONTO"
"#;

fn main() -> ExitCode {
    let mut table = Table::default();
    println!("{:<52}\t{:>12}\t{:>12}\tbudget", "", "dispatch", "shell");
    measure_many_tasks(&mut table);
    measure_dependents(&mut table);
    measure_memory(&mut table);
    measure_plan(&mut table);
    if table.exceeded == 0 {
        return ExitCode::SUCCESS;
    }
    println!("{} budgets are exceeded", table.exceeded);
    ExitCode::FAILURE
}

#[derive(Default)]
struct Table {
    exceeded: usize,
}

impl Table {
    /// Prints a row, and counts a budget that is exceeded.
    fn print_row(&mut self, what: &str, ours: &str, peer: &str, budget: &str, is_kept: bool) {
        let verdict = if is_kept { "" } else { "  EXCEEDED" };
        // benches/budgets/further.py splits the row at the tabs.
        println!("{what:<52}\t{ours:>12}\t{peer:>12}\t{budget}{verdict}");
        self.exceeded += usize::from(!is_kept);
    }
}

/// The program to measure.
fn program() -> PathBuf {
    let named = std::env::var_os("BENCH_PROGRAM").map(PathBuf::from);
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_descartes-worker").into())
}

/// A project with a graph, and the directories that a dispatch and a shell need.
struct Sample {
    dir: TempDir,
}

impl Sample {
    fn new(nodes: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["project/.scud/tasks", "home", "tmp", "shell"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let text = format!("# SCUD Graph v1\n# Phase: bench\n\n@nodes\n{nodes}");
        fs::write(dir.path().join("project/.scud/tasks/tasks.scg"), text).unwrap();
        let sample = Self { dir };
        sample.git(&["init", "--quiet", "--initial-branch=main"]);
        sample.git(&["add", "--all"]);
        sample.git(&["commit", "--quiet", "--message", "Plans"]);
        sample
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_COMMITTER_NAME", "A")])
            .envs([("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_EMAIL", "a@b")])
            .current_dir(self.path("project"))
            .stdin(Stdio::null());
        command
    }

    fn git(&self, args: &[&str]) -> String {
        let output = self.command(Path::new("git")).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    fn dispatch(&self, jobs: usize, agent: &str) -> Command {
        let mut command = self.command(&program());
        let log = fs::File::create(self.path("log")).unwrap();
        command
            .args(["dispatch", "--jobs", &jobs.to_string()])
            .env("DESCARTES_DISPATCH_STATE", self.path("state"))
            .env("DESCARTES_AGENT_COMMAND", agent)
            .env("DESCARTES_AGENT_ENV", "GATE")
            .env("GATE", self.path("gate"))
            .stderr(log);
        command
    }

    fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("state/journal.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Does all tasks with the shell scripts; returns the time of the workers and the time of the merges.
    fn run_shell(&self) -> (Duration, Duration) {
        self.git(&["clone", "--quiet", "--bare", ".", "../remote.git"]);
        let url = format!("file://{}", self.path("remote.git").display());
        let receiver = Receiver::start();
        let run = |script: &str| {
            let begin = Instant::now();
            let mut shell = self.command(Path::new("/bin/sh"));
            let status = shell
                .args(["-c", script])
                .current_dir(self.path("shell"))
                .env("PROGRAM", program())
                .env("TASKS", TASKS.to_string())
                .env("JOBS", JOBS.to_string())
                .env("PROJECT_ID", "bench")
                .env("CALLBACK_URL", &receiver.url)
                .env("DESCARTES_REPO", &url)
                .env("DESCARTES_TAG", "bench")
                .env("DESCARTES_AGENT_COMMAND", "true")
                .status();
            assert!(status.unwrap().success(), "{script}");
            begin.elapsed()
        };
        (run(SHELL_WORKERS), run(SHELL_MERGES))
    }
}

/// The rows of pending tasks.
fn rows(count: usize) -> String {
    let mut text = String::new();
    for id in 1..=count {
        let _ = writeln!(text, "{id} | t | P | 1 | M");
    }
    text
}

/// Measures two hundred empty tasks, fifty at a time.
fn measure_many_tasks(table: &mut Table) {
    let nodes: String = rows(TASKS);
    let (mut ours, mut workers, mut merges, mut peaks) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let sample = Sample::new(&nodes);
        let begin = Instant::now();
        let (peak, log) = run_to_the_end(&sample, sample.dispatch(JOBS, "true"));
        assert!(
            log.contains(&format!("{TASKS} of {TASKS} tasks are done")),
            "{log}"
        );
        ours.push(begin.elapsed());
        peaks.push(peak);
        let sample = Sample::new(&nodes);
        let (worker_time, merge_time) = sample.run_shell();
        assert_eq!(
            fs::read_to_string(sample.path("shell/merged/.scud/tasks/tasks.scg"))
                .unwrap()
                .matches("| D |")
                .count(),
            TASKS
        );
        workers.push(worker_time);
        merges.push(merge_time);
    }
    let (ours, workers, merges) = (median(ours), median(workers), median(merges));
    table.print_row(
        "200 empty tasks, 50 at a time (xargs, then git merge)",
        &seconds(ours),
        &format!("{}+{}", seconds(workers), seconds(merges)),
        "twice the workers' own time",
        ours <= workers * 2,
    );
    let peak = peaks.iter().copied().fold(0.0, f64::max);
    table.print_row(
        "  peak memory of the dispatcher",
        &mib(peak),
        "",
        "20 MiB",
        peak <= 20.0 * MIB,
    );
}

/// Measures the time from a completed event to the start of its dependent.
fn measure_dependents(table: &mut Table) {
    let mut nodes: String = rows(CHAIN);
    nodes.push_str("\n@edges\n");
    for id in 2..=CHAIN {
        let _ = writeln!(nodes, "{id} -> {}", id - 1);
    }
    let (mut ours, mut peer) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let sample = Sample::new(&nodes);
        let (_, log) = run_to_the_end(&sample, sample.dispatch(2, "true"));
        assert!(
            log.contains(&format!("{CHAIN} of {CHAIN} tasks are done")),
            "{log}"
        );
        let journal = sample.journal();
        let times = |name: &str| {
            let entries = journal.iter().filter(|entry| entry["entry"] == name);
            let times = entries.map(|entry| entry["at"].as_u64().unwrap());
            times.collect::<Vec<u64>>()
        };
        for (reported, started) in times("reported").iter().zip(times("handle").iter().skip(1)) {
            ours.push(Duration::from_millis(started - reported));
        }
        peer.extend(merges_by_git(&sample));
    }
    let (ours, peer) = (median(ours), median(peer));
    table.print_row(
        "from a completed event to its dependent (git alone)",
        &millis(ours),
        &millis(peer),
        "git + 100 ms",
        ours <= peer + Duration::from_millis(100),
    );
}

/// Repeats the merges of a dispatch with git alone; returns the time of each merge.
fn merges_by_git(sample: &Sample) -> Vec<Duration> {
    let format = [
        "log",
        "--first-parent",
        "--merges",
        "--format=%P",
        "descartes/bench",
    ];
    let merges = sample.git(&format);
    let mut times = Vec::new();
    for pair in merges.lines() {
        let (onto, work) = pair.split_once(' ').unwrap();
        let bare = sample.path("state/integration.git");
        for place in ["project/.git", "state/integration.git"] {
            let dir = sample.path(place);
            let dir = dir.to_str().unwrap();
            sample.git(&["--git-dir", dir, "update-ref", "refs/heads/merged", onto]);
        }
        let begin = Instant::now();
        let mut shell = sample.command(Path::new("/bin/sh"));
        let status = shell
            .args(["-c", ONE_MERGE])
            .current_dir(bare)
            .env("ONTO", onto)
            .env("WORK", work)
            .env("TARGET", sample.path("project"))
            .status();
        assert!(status.unwrap().success());
        times.push(begin.elapsed());
    }
    times
}

/// Measures the dispatcher's memory while 200 workers work, and while it has a graph of 2,000 tasks.
fn measure_memory(table: &mut Table) {
    for (tasks, workers) in [(TASKS, TASKS), (2000, JOBS)] {
        let nodes: String = rows(tasks);
        let sample = Sample::new(&nodes);
        let mut child = sample.dispatch(workers, WAIT_AT_GATE).spawn().unwrap();
        let log = sample.path("log");
        let deadline = Instant::now() + Duration::from_secs(300);
        while fs::read_to_string(&log).unwrap().matches(" works").count() < workers {
            assert!(
                Instant::now() < deadline,
                "{}",
                fs::read_to_string(&log).unwrap()
            );
            thread::sleep(Duration::from_millis(50));
        }
        // The dispatcher gets some heartbeats in this time.
        thread::sleep(Duration::from_secs(6));
        let peak = peak_memory(&child);
        table.print_row(
            &format!("memory with {workers} workers at work and {tasks} tasks"),
            &mib(peak),
            "",
            "20 MiB",
            peak <= 20.0 * MIB,
        );
        // The second signal cancels the runs.
        for _ in 0..2 {
            signal(&child, "INT");
            thread::sleep(Duration::from_millis(200));
        }
        fs::write(sample.path("gate"), "").unwrap();
        child.wait().unwrap();
    }
}

/// Measures the time for the plan of a graph of 2,000 tasks.
fn measure_plan(table: &mut Table) {
    let mut nodes: String = rows(2000);
    nodes.push_str("\n@edges\n");
    for id in 11..=2000 {
        let _ = writeln!(nodes, "{id} -> {}\n{id} -> {}", id - 1 - id % 7, id - 10);
    }
    let sample = Sample::new(&nodes);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let mut plan = sample.dispatch(2, "true");
        let output = plan.arg("--plan").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        times.push(begin.elapsed());
    }
    let time = median(times);
    table.print_row(
        "dispatch --plan of 2,000 tasks",
        &millis(time),
        "",
        "1 s",
        time <= Duration::from_secs(1),
    );
}

/// Runs a dispatch; returns the peak of its memory in bytes, and its log.
fn run_to_the_end(sample: &Sample, mut dispatch: Command) -> (f64, String) {
    let mut child = dispatch.spawn().unwrap();
    let mut peak = 0.0_f64;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_memory(&child));
        thread::sleep(Duration::from_millis(20));
    }
    (peak, fs::read_to_string(sample.path("log")).unwrap())
}

/// The peak of a process's memory, in bytes; zero for a process that has ended.
fn peak_memory(child: &Child) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    Command::new("kill")
        .args(["-s", name, &pid])
        .status()
        .unwrap();
}

/// A minimal receiver that answers every request with 200.
struct Receiver {
    url: String,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/callback", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(&stream));
            }
        });
        Self { url }
    }
}

fn answer(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 2 {
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            line.clear();
        }
        if line.is_empty() {
            return None;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let ok =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}";
        let mut writer = stream;
        writer.write_all(ok).ok()?;
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / MIB)
}
