//! Output of any size with any bytes needs constant memory, is counted exactly, and its beginning and end are
//! reported.

use serde_json::Value;

use super::{assert_completed, tail};
use crate::support::{Project, Receiver, Worker};

/// A gibibyte, in bytes.
const GIB: u64 = 1 << 30;
/// How much memory a release build may use. A debug build may use more.
const MAX_MEMORY_KIB: u64 = 16 * 1024;
/// How much the memory of the worker may grow while the agent prints.
const MAX_GROWTH_KIB: u64 = 2 * 1024;
/// The agent's command that prints the highest memory use so far of the worker, which is its parent.
const PRINT_MEMORY: &str = "grep VmHWM /proc/$PPID/status";

/// The memory in a line that [`PRINT_MEMORY`] printed, in KiB.
fn memory_in(line: &str) -> u64 {
    let number = line
        .strip_prefix("VmHWM:")
        .and_then(|rest| rest.strip_suffix("kB"));
    number
        .unwrap_or_else(|| panic!("{line}"))
        .trim()
        .parse()
        .unwrap()
}

/// Asserts that the worker reports the start and the end of an output of this many bytes, the number of dropped bytes between
/// them, and that its memory did not grow. The first and the last line are from [`PRINT_MEMORY`], and do not count.
#[track_caller]
fn assert_output_and_memory(event: &Value, bytes: u64) {
    let output = &event["result"]["output"];
    let (head, tail) = (output["head"].as_str().unwrap(), tail(event));
    let (first, last) = (head.lines().next().unwrap(), tail.lines().last().unwrap());
    let total = bytes + (first.len() + last.len() + 2) as u64;
    assert_eq!(output["total_bytes"], total);
    assert_eq!(
        output["dropped_bytes"],
        total - (head.len() + tail.len()) as u64
    );
    let (before, after) = (memory_in(first), memory_in(last));
    assert!(
        after - before < MAX_GROWTH_KIB,
        "{before} kB before, {after} kB after"
    );
    assert!(
        cfg!(debug_assertions) || after < MAX_MEMORY_KIB,
        "{after} kB"
    );
}

#[test]
fn a_line_of_one_gibibyte_takes_constant_memory() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // BusyBox' head reads one byte at a time.
    let blocks = GIB / 65536;
    let flood = format!("dd if=/dev/zero bs=65536 count={blocks} 2>/dev/null");
    let agent = format!("{PRINT_MEMORY}; {flood}; echo; {PRINT_MEMORY}");
    let worker = Worker::new(&receiver, &project)
        .without_isolation()
        .agent(agent);
    worker.run().assert_code(0);
    assert_output_and_memory(&receiver.only_event("completed"), GIB + 1);
}

#[test]
fn redacting_many_lines_with_many_secrets_takes_constant_memory() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = format!(
        "{PRINT_MEMORY}; yes some line | head -c 200000000; echo; echo last; {PRINT_MEMORY}"
    );
    let worker = Worker::new(&receiver, &project)
        .without_isolation()
        .agent(agent);
    let worker = (0..50).fold(worker, |worker, n| {
        worker.env(
            &format!("SERVICE_{n}_TOKEN"),
            format!("no line has this {n}"),
        )
    });
    worker.run().assert_code(0);
    let event = receiver.only_event("completed");
    assert_output_and_memory(&event, 200_000_000 + "\nlast\n".len() as u64);
    let tail = tail(&event);
    assert!(
        tail.contains("some line\nsome line\n\nlast\nVmHWM"),
        "{tail}"
    );
}

#[test]
fn standard_output_and_standard_error_keep_their_common_order() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = "number=0; while [ $number -lt 400 ]; do echo out$number; echo err$number >&2; number=$((number + 1)); done";
    Worker::new(&receiver, &project)
        .without_isolation()
        .agent(agent)
        .run()
        .assert_code(0);
    let expected: Vec<String> = (0..400)
        .flat_map(|number| [format!("out{number}"), format!("err{number}")])
        .collect();
    assert_eq!(
        assert_completed(&receiver).lines().collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn invalid_utf_8_is_counted_and_shown_as_replacement_characters() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = r"printf 'a\000b\377\376c\n\033[31mred\033[0m \342\202'";
    let ended = Worker::new(&receiver, &project)
        .without_isolation()
        .agent(agent)
        .run();
    ended.assert_code(0);
    let event = receiver.only_event("completed");
    assert_eq!(event["result"]["output"]["total_bytes"], 22);
    assert_eq!(
        tail(&event),
        "a\0b\u{fffd}\u{fffd}c\n\u{1b}[31mred\u{1b}[0m \u{fffd}"
    );
    assert!(!ended.stderr.contains('\u{1b}'), "{}", ended.stderr);
}
