//! Any amount of output, any bytes: constant memory, exact counts, both ends kept.

use super::{completed, tail};
use crate::support::{Project, Receiver, Worker};

const GIB: u64 = 1 << 30;
/// The budget for the whole worker, in KiB.
const MEMORY: u64 = 16 * 1024;

#[test]
fn a_gibibyte_in_one_line_passes_in_constant_memory() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // The agent's parent is the worker, whose highest memory use it prints at the end.
    let agent = "head -c 1073741824 /dev/zero; echo; grep VmHWM /proc/$PPID/status";
    let worker = Worker::new(&receiver, &project).env("SOME_SECRET", "never to be seen");
    worker.agent(agent).run().assert_code(0);
    let tail = completed(&receiver);
    let last = tail.lines().last().unwrap();
    let kib: u64 = last.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < MEMORY, "{last}");
    let output = &receiver.only("completed")["result"]["output"];
    assert_eq!(output["total_bytes"], GIB + 1 + last.len() as u64 + 1);
}

#[test]
fn many_lines_pass_in_constant_memory_and_both_ends_are_kept() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = "echo first; yes some line | head -c 200000000; echo; echo last; grep VmHWM /proc/$PPID/status";
    Worker::new(&receiver, &project)
        .agent(agent)
        .run()
        .assert_code(0);
    let event = receiver.only("completed");
    let tail = tail(&event);
    let last = tail.lines().last().unwrap();
    let kib: u64 = last.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < MEMORY, "{last}");
    let output = &event["result"]["output"];
    let total = 200_000_000 + "first\n\nlast\n".len() + last.len() + 1;
    assert_eq!(output["total_bytes"], total);
    assert_eq!(
        output["dropped_bytes"].as_u64().unwrap() + kept(output),
        total as u64
    );
    assert!(
        tail.ends_with(&format!("some line\n\nlast\n{last}\n")),
        "{tail}"
    );
    let head = output["head"].as_str().unwrap();
    assert!(head.starts_with("first\nsome line\n"), "{head}");
}

fn kept(output: &serde_json::Value) -> u64 {
    let ends = ["head", "tail"].map(|end| output[end].as_str().unwrap());
    ends.concat().len() as u64
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
