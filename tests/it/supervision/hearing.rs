//! Any amount of output, any bytes: constant memory, exact counts, both ends kept.

use serde_json::Value;

use super::{completed, tail};
use crate::support::{Project, Receiver, Worker};

const GIB: u64 = 1 << 30;
/// The budget for the whole worker as it is shipped, in KiB. A debug build is larger by itself.
const MEMORY: u64 = 16 * 1024;
/// What may come on top of what the worker has used when the agent says its first word.
const GROWTH: u64 = 2 * 1024;
/// The agent's parent is the worker; this is its highest memory use so far.
const USED: &str = "grep VmHWM /proc/$PPID/status";

/// The memory that the worker had used by a line of the agent's, in KiB.
fn used(line: &str) -> u64 {
    let number = line
        .strip_prefix("VmHWM:")
        .and_then(|rest| rest.strip_suffix("kB"));
    number
        .unwrap_or_else(|| panic!("{line}"))
        .trim()
        .parse()
        .unwrap()
}

/// The worker has heard so much, has kept both ends, and has counted what it dropped between them.
#[track_caller]
fn assert_heard(event: &Value, bytes: u64) {
    let output = &event["result"]["output"];
    let (head, tail) = (output["head"].as_str().unwrap(), tail(event));
    let (first, last) = (head.lines().next().unwrap(), tail.lines().last().unwrap());
    let total = bytes + (first.len() + last.len() + 2) as u64;
    assert_eq!(output["total_bytes"], total);
    assert_eq!(
        output["dropped_bytes"],
        total - (head.len() + tail.len()) as u64
    );
    let (before, after) = (used(first), used(last));
    assert!(
        after - before < GROWTH,
        "{before} kB before, {after} kB after"
    );
    assert!(cfg!(debug_assertions) || after < MEMORY, "{after} kB");
}

#[test]
fn a_gibibyte_in_one_line_passes_in_constant_memory() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // BusyBox' head reads one byte at a time.
    let blocks = GIB / 65536;
    let flood = format!("dd if=/dev/zero bs=65536 count={blocks} 2>/dev/null");
    let agent = format!("{USED}; {flood}; echo; {USED}");
    let worker = Worker::new(&receiver, &project).agent(agent);
    worker.run().assert_code(0);
    assert_heard(&receiver.only("completed"), GIB + 1);
}

#[test]
fn many_lines_pass_by_many_secrets_in_constant_memory() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = format!("{USED}; yes some line | head -c 200000000; echo; echo last; {USED}");
    let worker = Worker::new(&receiver, &project).agent(agent);
    let worker = (0..50).fold(worker, |worker, n| {
        worker.env(
            &format!("SERVICE_{n}_TOKEN"),
            format!("no line has this {n}"),
        )
    });
    worker.run().assert_code(0);
    let event = receiver.only("completed");
    assert_heard(&event, 200_000_000 + "\nlast\n".len() as u64);
    let tail = tail(&event);
    assert!(
        tail.contains("some line\nsome line\n\nlast\nVmHWM"),
        "{tail}"
    );
}

#[test]
fn both_streams_stay_in_order() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = "n=0; while [ $n -lt 400 ]; do echo o$n; echo e$n >&2; n=$((n + 1)); done";
    Worker::new(&receiver, &project)
        .agent(agent)
        .run()
        .assert_code(0);
    let expected: Vec<String> = (0..400)
        .flat_map(|n| [format!("o{n}"), format!("e{n}")])
        .collect();
    assert_eq!(completed(&receiver).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn bytes_that_are_no_text_are_counted_and_shown_as_such() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = r"printf 'a\000b\377\376c\n\033[31mred\033[0m \342\202'";
    let ended = Worker::new(&receiver, &project).agent(agent).run();
    ended.assert_code(0);
    let event = receiver.only("completed");
    assert_eq!(event["result"]["output"]["total_bytes"], 22);
    assert_eq!(
        tail(&event),
        "a\0b\u{fffd}\u{fffd}c\n\u{1b}[31mred\u{1b}[0m \u{fffd}"
    );
    assert!(!ended.stderr.contains('\u{1b}'), "{}", ended.stderr);
}
