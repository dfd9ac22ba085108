//! Measures the budgets: the time and memory that the worker needs, next to a shell script that does the same.
//!
//! `cargo bench --bench budgets`. Both are measured in the same run on the same machine, because only their ratio
//! means anything on another machine. The shell script isolates nothing, so the budgets are for a worker without isolation;
//! the time with isolation is printed below. Needs `curl`. Prints figures, and does not fail if one is above its budget.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[expect(dead_code, unused_imports, reason = "the tests use the rest")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Project, Receiver, Worker};

const MIB: u64 = 1 << 20;
const ROUNDS: usize = 15;
/// The size of one text; the agent prints it [`TIMES`] times, a GiB in total.
const TEXT: u64 = 64 * MIB;
const TIMES: u64 = 16;

/// The smallest shell worker that keeps the protocol; the receiver rejects events that break it.
const SHELL_WORKER: &str = r#"
event() {
    printf '{"task_id":"%s","project_id":"%s","status":"%s","message":"%s"' "$TASK_ID" "$PROJECT_ID" "$1" "$1"
    printf ',"version":1,"event":"task.%s","event_id":"sh.%s","run_id":"sh","sequence":%s' "$1" "$2" "$2"
    printf ',"timestamp":"2026-01-01T00:00:00.000Z"'
    printf ',"worker":{"version":"0.0.0","revision":null,"hostname":"sh","agent":null,"isolation":"off"}%s}' "$3"
}
say() { curl -sS -o /dev/null -H 'content-type: application/json' --data-binary @- "$CALLBACK_URL/$1"; }
limits=',"heartbeat_interval_ms":null,"limits":{"callback_timeout_ms":1,"claim_deadline_ms":1,"finish_deadline_ms":1,'
limits=$limits'"task_timeout_ms":1,"idle_timeout_ms":null,"stop_window_ms":1,"max_turns":null,"max_budget_usd":null,"max_tokens":null}'
event started 0 "$limits" | say started || exit 3
sh -c "$DESCARTES_AGENT_COMMAND" || exit 1
output='"output":{"head":"","tail":"","total_bytes":0,"dropped_bytes":0}'
result=',"result":{"summary":null,"duration_ms":0,"agent":null,"work":null,"checks":[],'$output'}'
event completed 1 "$result" | say completed
"#;

fn main() {
    println!("{:<48} {:>12} {:>12}  budget", "", "worker", "peer");
    start_up();
    throughput();
    let size = fs::metadata(env!("CARGO_BIN_EXE_descartes-worker"))
        .unwrap()
        .len();
    row("binary", &format!("{:.1} MiB", mib(size)), "", "7 MiB");
}

fn start_up() {
    let (mut worker, mut isolated, mut shell) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        worker.push(one_run(Worker::without_isolation));
        isolated.push(one_run(|worker| worker));
        shell.push(one_run(|worker| {
            worker.through("/bin/sh", |_| vec!["-c".into(), SHELL_WORKER.into()])
        }));
    }
    let third = "a third of sh+curl";
    let claim = |runs: &[(Duration, Duration)]| ms(median(runs.iter().map(|run| run.0)));
    let whole = |runs: &[(Duration, Duration)]| ms(median(runs.iter().map(|run| run.1)));
    row(
        "exec to /started (sh+curl)",
        &claim(&worker),
        &claim(&shell),
        third,
    );
    row(
        "whole run of an empty task (sh+curl)",
        &whole(&worker),
        &whole(&shell),
        third,
    );
    row(
        "  with the isolation of this machine",
        &whole(&isolated),
        &whole(&shell),
        "none",
    );
    let (memory, _) = run_that_prints("true", |worker| worker);
    row(
        "peak memory, empty task",
        &format!("{:.1} MiB", mib(memory)),
        "",
        "12 MiB",
    );
}

/// Runs a worker once; returns the time from its start to its claim, and to its end.
fn one_run(change: impl FnOnce(Worker) -> Worker) -> (Duration, Duration) {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = change(Worker::new(&receiver, &project).agent("true"));
    let began = Instant::now();
    let ended = worker.run();
    ended.assert_code(0);
    let claimed = receiver.wait_for_one("started").at - began;
    (claimed, ended.took)
}

fn throughput() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    write_text(&text);
    let dump = format!("for n in $(seq {TIMES}); do cat '{}'; done", text.display());
    let shell_speed = |through: &str| {
        let began = Instant::now();
        let mut shell = Command::new("/bin/sh");
        let status = shell
            .args(["-c", &format!("({dump}) | {through}")])
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        speed(began.elapsed())
    };
    let budget = "400 MB/s, a third of cat";
    let (memory, took) = run_that_prints(&dump, |worker| worker);
    row(
        "1 GiB of lines (cat >/dev/null)",
        &speed(took),
        &shell_speed("cat >/dev/null"),
        budget,
    );
    row(
        "  peak memory meanwhile",
        &format!("{:.1} MiB", mib(memory)),
        "",
        "16 MiB",
    );
    let (memory, took) = run_that_prints(&dump, with_secrets);
    row(
        "the same with 50 secrets (tee)",
        &speed(took),
        &shell_speed("tee /dev/null"),
        "400 MB/s",
    );
    row(
        "  peak memory meanwhile",
        &format!("{:.1} MiB", mib(memory)),
        "",
        "16 MiB",
    );
    let zeroes = "dd if=/dev/zero bs=1M count=1024 2>/dev/null";
    let (memory, took) = run_that_prints(zeroes, |worker| worker);
    row("1 GiB in one line", &speed(took), "", "400 MB/s");
    row(
        "  peak memory meanwhile",
        &format!("{:.1} MiB", mib(memory)),
        "",
        "16 MiB",
    );
}

fn with_secrets(worker: Worker) -> Worker {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n";
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n",
        line.repeat(26)
    );
    let worker = worker.env("DEPLOY_KEY", pem);
    (0..49u64).fold(worker, |worker, n| {
        let random = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        worker.env(
            &format!("SERVICE_{n}_TOKEN"),
            format!("tok_{random:016x}{:016x}", random.rotate_left(29)),
        )
    })
}

/// Writes text that looks like the output of a build.
fn write_text(path: &std::path::Path) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let mut written = 0;
    for n in 0u64.. {
        let line = format!(
            "   Compiling some-crate-{n} v1.{}.0 (/home/user/project/target/debug/deps/{:x})\n",
            n % 40,
            n.wrapping_mul(0x9E37_79B9)
        );
        file.write_all(line.as_bytes()).unwrap();
        written += line.len() as u64;
        if written >= TEXT {
            return file.flush().unwrap();
        }
    }
}

/// Runs a worker whose agent prints; returns the worker's peak memory in bytes, and the time it took.
fn run_that_prints(agent: &str, change: impl FnOnce(Worker) -> Worker) -> (u64, Duration) {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = format!("{agent}\necho; grep VmHWM /proc/$PPID/status");
    let ended = change(Worker::new(&receiver, &project).agent(&agent)).run();
    ended.assert_code(0);
    let event = receiver.only_event("completed");
    let tail = event["result"]["output"]["tail"].as_str().unwrap();
    let kib: u64 = tail
        .split_whitespace()
        .rev()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    (kib * 1024, ended.took)
}

fn row(what: &str, worker: &str, shell_speed: &str, budget: &str) {
    println!("{what:<48} {worker:>12} {shell_speed:>12}  {budget}");
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn speed(took: Duration) -> String {
    format!(
        "{:.0} MB/s",
        (TEXT * TIMES) as f64 / 1e6 / took.as_secs_f64()
    )
}
