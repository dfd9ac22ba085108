//! Measures the time that the model gateway adds, next to a direct connection to the same service.
//!
//! `cargo bench --bench gateway`. Prints figures, and does not fail if one is above its budget.

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
use std::time::{Duration, Instant};

use serde_json::json;

use service::{Part, Service, bytes, event, message_start, read_head, stream_end, stream_head};
use support::{Project, Receiver, Worker, wait_until};

const ROUNDS: usize = 300;
const STREAMS: usize = 20;
const EVENTS: usize = 1_000;
const LARGE: usize = 64 << 20;
const AGENT: &str = "mkfifo go && env > seen.new && mv seen.new seen && read code < go";

fn main() {
    println!("{:<48} {:>12} {:>12}  budget", "", "gateway", "direct");
    let first_bytes = || vec![stream_head(), message_start(), stream_end()];
    let stream = || {
        let text = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Hello" } });
        let mut parts = vec![stream_head(), message_start()];
        parts.extend((0..EVENTS).map(|_| event(&text)));
        parts.push(stream_end());
        parts
    };
    let (gateway, direct) = both(ROUNDS, first_bytes, first_byte);
    row(
        "median to the first byte",
        &ms(gateway),
        &ms(direct),
        "at most 1 ms more",
    );
    let (gateway, direct) = both(STREAMS, stream, to_the_end);
    row("1,000 small events", &ms(gateway), &ms(direct), "");
    let (gateway, direct) = both(3, large, to_the_end);
    row("a body of 64 MiB", &ms(gateway), &ms(direct), "");
}

fn large() -> Vec<Part> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {LARGE}\r\n\r\n"
    );
    vec![bytes(head), Part::Bytes(vec![b'x'; LARGE])]
}

/// The medians through the gateway and directly. The two measurements alternate.
fn both(
    rounds: usize,
    script: impl Fn() -> Vec<Part>,
    measure: impl Fn(&str, &str) -> Duration,
) -> (Duration, Duration) {
    let service = Service::start((0..2 * rounds).map(|_| script()));
    let (receiver, project) = (Receiver::start(), Project::new());
    let running = Worker::new(&receiver, &project)
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
    print_memory(running.pid().as_raw_nonzero().get());
    fs::write(project.path("go"), "\n").expect("the agent reads");
    running.wait().assert_code(0);
    (median(gateway), median(direct))
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

/// Prints the private memory of the gateway's process.
fn print_memory(worker: i32) {
    let children = fs::read_to_string(format!("/proc/{worker}/task/{worker}/children"));
    for pid in children.expect("the children").split_whitespace() {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !command.ends_with("\0gateway\0") {
            continue;
        }
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let of = |name: &str| {
            let line = rollup.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            kib.unwrap_or(0u32)
        };
        let private = f64::from(of("Private_Dirty:") + of("Private_Clean:")) / 1024.0;
        row(
            "  private memory of the gateway",
            &format!("{private:.1} MiB"),
            "",
            "3 MiB",
        );
    }
}

fn row(what: &str, gateway: &str, direct: &str, budget: &str) {
    println!("{what:<48} {gateway:>12} {direct:>12}  {budget}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
