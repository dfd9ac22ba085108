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

const ROUNDS: usize = 300;
const STREAMS: usize = 20;
const EVENTS: usize = 1_000;
const LARGE: usize = 64 << 20;
const AGENT: &str = "mkfifo go && env > seen.new && mv seen.new seen && read code < go";

/// The most that the gateway may add to the time to the first byte.
const MAX_ADDED: Duration = Duration::from_millis(1);
/// The most private memory that it may have, in MiB.
const MAX_MEMORY: f64 = 3.0;

fn main() -> ExitCode {
    println!("{:<48}\t{:>12}\t{:>12}\tbudget", "", "gateway", "direct");
    let first_bytes = || vec![stream_head(), message_start(), stream_end()];
    let stream = || {
        let text = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Hello" } });
        let mut parts = vec![stream_head(), message_start()];
        parts.extend((0..EVENTS).map(|_| stream_event(&text)));
        parts.push(stream_end());
        parts
    };
    let Measured {
        gateway,
        direct,
        memory,
    } = both(ROUNDS, first_bytes, first_byte);
    let is_fast = gateway <= direct + MAX_ADDED;
    let is_small = memory <= MAX_MEMORY;
    row(
        "median to the first byte",
        &ms(gateway),
        &ms(direct),
        &judged("at most 1 ms more", is_fast),
    );
    row(
        "  private memory of the gateway",
        &format!("{memory:.1} MiB"),
        "",
        &judged("3 MiB", is_small),
    );
    let Measured {
        gateway, direct, ..
    } = both(STREAMS, stream, to_the_end);
    row("1,000 small events", &ms(gateway), &ms(direct), "");
    let Measured {
        gateway, direct, ..
    } = both(3, large, to_the_end);
    row("a body of 64 MiB", &ms(gateway), &ms(direct), "");
    if is_fast && is_small {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Medians, and the gateway's private memory in MiB.
struct Measured {
    gateway: Duration,
    direct: Duration,
    memory: f64,
}

fn judged(budget: &str, is_kept: bool) -> String {
    let verdict = if is_kept { "" } else { "  EXCEEDED" };
    format!("{budget}{verdict}")
}

fn large() -> Vec<Part> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {LARGE}\r\n\r\n"
    );
    vec![bytes(head), Part::Bytes(vec![b'x'; LARGE])]
}

/// Measures through the gateway and directly, in turns.
fn both(
    rounds: usize,
    script: impl Fn() -> Vec<Part>,
    measure: impl Fn(&str, &str) -> Duration,
) -> Measured {
    let service = Service::start((0..2 * rounds).map(|_| script()));
    let (receiver, project) = (Receiver::start(), Project::new());
    let mut worker = Worker::new(&receiver, &project);
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark is told by its environment"
    )]
    if let Some(program) = std::env::var_os("BENCH_PROGRAM") {
        worker = worker.program(Path::new(&program));
    }
    let running = worker
        .env("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
        .env("ANTHROPIC_BASE_URL", service.url())
        .agent(AGENT)
        .start();
    wait_until("the agent", || project.path("seen").exists());
    let seen = project.read("seen");
    let mut lines = seen.lines();
    let url = lines.find_map(|line| line.strip_prefix("ANTHROPIC_BASE_URL=http://"));
    let (address, path) = url.expect("a URL").split_once('/').expect("a path");
    let (mut gateway, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        gateway.push(measure(address, &format!("/{path}/v1/messages")));
        direct.push(measure(&service.host(), "/v1/messages"));
    }
    let memory = memory_of_gateway(running.pid().as_raw_nonzero().get());
    fs::write(project.path("go"), "\n").expect("the agent reads");
    running.wait().assert_code(0);
    Measured {
        gateway: median(gateway),
        direct: median(direct),
        memory,
    }
}

fn ask(address: &str, path: &str) -> TcpStream {
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

fn first_byte(address: &str, path: &str) -> Duration {
    let began = Instant::now();
    let stream = ask(address, path);
    read_head(&stream).expect("a head");
    { &stream }.read_exact(&mut [0]).expect("a byte");
    began.elapsed()
}

fn to_the_end(address: &str, path: &str) -> Duration {
    let began = Instant::now();
    let stream = ask(address, path);
    let head = read_head(&stream).expect("a head");
    let length = service::header(&head, "content-length").map(|length| length.parse().unwrap());
    let (mut buffer, mut read, mut last) = (vec![0; 256 * 1024], 0, [0; 5]);
    // The service keeps the connection open.
    while length.map_or(&last != b"0\r\n\r\n", |length: usize| read < length) {
        let count = { &stream }.read(&mut buffer).expect("bytes");
        assert!(count > 0, "the answer breaks off");
        read += count;
        if count >= last.len() {
            last.copy_from_slice(&buffer[count - 5..count]);
        } else {
            last.rotate_left(count);
            last[5 - count..].copy_from_slice(&buffer[..count]);
        }
    }
    began.elapsed()
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
    let of = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        kib.unwrap_or(0u32)
    };
    f64::from(of("Private_Dirty:") + of("Private_Clean:")) / 1024.0
}

fn row(what: &str, gateway: &str, direct: &str, budget: &str) {
    // benches/budgets/further.py splits the row at the tabs.
    println!("{what:<48}\t{gateway:>12}\t{direct:>12}\t{budget}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
