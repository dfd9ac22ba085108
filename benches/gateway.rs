//! Measures the time that the model gateway adds, next to a direct connection to the same service.
//!
//! `cargo bench --bench gateway`. Exit code 1 says that a budget is exceeded. `BENCH_PROGRAM` names another build of the
//! program to measure.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/it/gateway/service.rs"]
mod service;
#[expect(dead_code, unused_imports, reason = "the tests use the rest")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use service::{
    Part, Service, bytes, message_start, read_head, stream_end, stream_event, stream_head,
};
use support::{Project, Receiver, Worker, wait_until};

/// How many times the time to the first byte is measured.
const FIRST_BYTE_ROUNDS: usize = 300;
/// How many times a stream of small events is measured.
const STREAM_ROUNDS: usize = 20;
/// The number of events in such a stream.
const EVENTS_OF_STREAM: usize = 1_000;
/// The size of the large answer, in bytes.
const LARGE_BODY_SIZE: usize = 64 << 20;
/// An agent that writes its environment to the file `environment`, and waits until the benchmark writes to `end_pipe`.
const AGENT: &str = "mkfifo end_pipe && env > environment.new && mv environment.new environment && read line < end_pipe";

/// How many times the large answer is measured.
const LARGE_ANSWER_ROUNDS: usize = 3;

/// How much the gateway may add to the time to the first byte.
const MAX_ADDED_TIME: Duration = Duration::from_millis(1);
/// How much private memory the gateway may have.
const MAX_MEMORY_MIB: f64 = 3.0;

fn main() -> ExitCode {
    println!("{:<48}\t{:>12}\t{:>12}\tbudget", "", "gateway", "direct");
    let first_bytes = || vec![stream_head(), message_start(), stream_end()];
    let stream = || {
        let text = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Hello" } });
        let mut parts = vec![stream_head(), message_start()];
        parts.extend((0..EVENTS_OF_STREAM).map(|_| stream_event(&text)));
        parts.push(stream_end());
        parts
    };
    let Measurement {
        gateway,
        direct,
        memory,
    } = measure_both(FIRST_BYTE_ROUNDS, first_bytes, time_to_first_byte);
    let is_fast = gateway <= direct + MAX_ADDED_TIME;
    let is_small = memory <= MAX_MEMORY_MIB;
    print_row(
        "median to the first byte",
        &milliseconds(gateway),
        &milliseconds(direct),
        &with_verdict("at most 1 ms more", is_fast),
    );
    print_row(
        "  private memory of the gateway",
        &format!("{memory:.1} MiB"),
        "",
        &with_verdict("3 MiB", is_small),
    );
    let Measurement {
        gateway, direct, ..
    } = measure_both(STREAM_ROUNDS, stream, time_to_end);
    print_row(
        "1,000 small events",
        &milliseconds(gateway),
        &milliseconds(direct),
        "",
    );
    let Measurement {
        gateway, direct, ..
    } = measure_both(LARGE_ANSWER_ROUNDS, large_answer, time_to_end);
    print_row(
        "a body of 64 MiB",
        &milliseconds(gateway),
        &milliseconds(direct),
        "",
    );
    if is_fast && is_small {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The median times, and the gateway's private memory in MiB.
struct Measurement {
    gateway: Duration,
    direct: Duration,
    memory: f64,
}

/// The text of a budget, and whether it is exceeded.
fn with_verdict(budget: &str, is_kept: bool) -> String {
    let verdict = if is_kept { "" } else { "  EXCEEDED" };
    format!("{budget}{verdict}")
}

/// An answer with a large body.
fn large_answer() -> Vec<Part> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {LARGE_BODY_SIZE}\r\n\r\n"
    );
    vec![bytes(head), Part::Bytes(vec![b'x'; LARGE_BODY_SIZE])]
}

/// Measures requests through the gateway and directly to the service, in turns.
fn measure_both(
    rounds: usize,
    script: impl Fn() -> Vec<Part>,
    measure: impl Fn(&str, &str) -> Duration,
) -> Measurement {
    let service = Service::start((0..2 * rounds).map(|_| script()));
    let (receiver, project) = (Receiver::start(), Project::new());
    let mut worker = Worker::new(&receiver, &project);
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment configures the benchmark"
    )]
    if let Some(program) = std::env::var_os("BENCH_PROGRAM") {
        worker = worker.program(Path::new(&program));
    }
    let running = worker
        .env("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
        .env("ANTHROPIC_BASE_URL", service.url())
        .agent(AGENT)
        .start();
    wait_until("the agent", || project.path("environment").exists());
    let environment = project.read("environment");
    let mut lines = environment.lines();
    let url = lines.find_map(|line| line.strip_prefix("ANTHROPIC_BASE_URL=http://"));
    let (address, path) = url.expect("a URL").split_once('/').expect("a path");
    let (mut gateway, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        gateway.push(measure(address, &format!("/{path}/v1/messages")));
        direct.push(measure(&service.host(), "/v1/messages"));
    }
    let memory = memory_of_gateway(running.pid().as_raw_nonzero().get());
    fs::write(project.path("end_pipe"), "\n").expect("the agent reads");
    running.wait().assert_code(0);
    Measurement {
        gateway: median(gateway),
        direct: median(direct),
        memory,
    }
}

/// Sends a request; returns the connection.
fn send_request(address: &str, path: &str) -> TcpStream {
    let body =
        json!({ "model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": [] }).to_string();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let stream = TcpStream::connect(address).expect("it listens");
    { &stream }.write_all(request.as_bytes()).expect("it reads");
    stream
}

/// The time from the connection to the first byte of the body.
fn time_to_first_byte(address: &str, path: &str) -> Duration {
    let begin = Instant::now();
    let stream = send_request(address, path);
    read_head(&stream).expect("a head");
    { &stream }.read_exact(&mut [0]).expect("a byte");
    begin.elapsed()
}

/// The time from the connection to the end of the body.
fn time_to_end(address: &str, path: &str) -> Duration {
    let begin = Instant::now();
    let stream = send_request(address, path);
    let head = read_head(&stream).expect("a head");
    let length = service::header(&head, "content-length").map(|length| length.parse().unwrap());
    let (mut buffer, mut read) = (vec![0; 256 * 1024], 0);
    // A body without a length is in chunks. The service keeps the connection open, so these last bytes are its end.
    let mut last = [0; 5];
    while length.map_or(&last != b"0\r\n\r\n", |length: usize| read < length) {
        let count = { &stream }.read(&mut buffer).expect("bytes");
        assert!(count > 0, "the answer is cut off");
        read += count;
        if count >= last.len() {
            last.copy_from_slice(&buffer[count - 5..count]);
        } else {
            last.rotate_left(count);
            last[5 - count..].copy_from_slice(&buffer[..count]);
        }
    }
    begin.elapsed()
}

/// The private memory of the gateway's process, in MiB.
fn memory_of_gateway(worker: i32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{worker}/task/{worker}/children"));
    let children = children.expect("the children");
    let is_gateway = |pid: &&str| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.ends_with("\0gateway\0")
    };
    let pid = children.split_whitespace().find(is_gateway);
    let pid = pid.expect("the gateway's process");
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib_of = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        kib.unwrap_or(0u32)
    };
    f64::from(kib_of("Private_Dirty:") + kib_of("Private_Clean:")) / 1024.0
}

/// Prints a row of the table.
fn print_row(what: &str, gateway: &str, direct: &str, budget: &str) {
    // benches/budgets/further.py splits the row at the tabs.
    println!("{what:<48}\t{gateway:>12}\t{direct:>12}\t{budget}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
