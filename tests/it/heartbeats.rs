//! For people who watch a run: heartbeats are sent at their interval, contain all output or the number of missing
//! bytes, and their answers can cancel the task.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::receiver::{ReceivedRequest, assert_one_connection};
use crate::support::worker::FinishedWorker;
use crate::support::{
    Project, Receiver, Reply, Worker, assert_no_process_in, assert_within, duration_setting, each,
    wait_until, with_enough_time,
};

/// A command of an agent that works until the file `go` exists.
const WAIT_FOR_GO: &str = "until [ -e go ]; do sleep 0.02; done";

/// A worker that sends a heartbeat every 50 ms.
fn worker(receiver: &Receiver, project: &Project) -> Worker {
    Worker::new(receiver, project).env("DESCARTES_HEARTBEAT", "50ms")
}

/// Waits until this many heartbeats have arrived; returns all heartbeats so far.
fn wait_for_heartbeats(receiver: &Receiver, count: usize) -> Vec<ReceivedRequest> {
    receiver.wait_for(&format!("{count} heartbeats"), |requests| {
        let heartbeats = requests
            .iter()
            .filter(|request| request.route == "progress");
        let heartbeats: Vec<ReceivedRequest> = heartbeats.cloned().collect();
        (heartbeats.len() >= count).then_some(heartbeats)
    })
}

/// The field `output` of all heartbeats.
fn outputs(receiver: &Receiver) -> Vec<Value> {
    let heartbeats = receiver.requests_to("progress").into_iter();
    heartbeats
        .map(|request| request.event["progress"]["output"].clone())
        .collect()
}

/// The time at which the worker created an event.
fn created_at(event: &Value) -> jiff::Timestamp {
    let timestamp = event["timestamp"].as_str().expect("a timestamp");
    timestamp.parse().expect("a timestamp")
}

/// Runs an agent until this many heartbeats have arrived.
fn run_until_heartbeats(
    receiver: &Receiver,
    worker: Worker,
    project: &Project,
    count: usize,
) -> FinishedWorker {
    let running = worker.agent(WAIT_FOR_GO).start();
    wait_for_heartbeats(receiver, count);
    project.write("go", "");
    running.wait()
}

#[test]
fn heartbeats_come_at_their_interval_on_the_connection_of_the_claim() {
    let (receiver, project) = (Receiver::start(), Project::new());
    run_until_heartbeats(&receiver, worker(&receiver, &project), &project, 4).assert_code(0);
    // The outcome uses another connection if it is sent while a heartbeat has no answer yet.
    let mut requests = receiver.requests();
    requests.retain(|request| request.route != "completed");
    assert_one_connection(&requests);
    let mut last = created_at(&receiver.only_event("started"));
    for (index, heartbeat) in receiver.requests_to("progress").iter().enumerate() {
        // The times are from the worker's clock, because heartbeats may arrive late. Timers and timestamps are exact to a
        // millisecond.
        let at = created_at(&heartbeat.event);
        assert!(at.duration_since(last) >= jiff::SignedDuration::from_millis(48));
        last = at;
        assert_eq!(heartbeat.event["status"], "running");
        assert_eq!(heartbeat.event["event"], "task.progress");
        assert_eq!(heartbeat.event["sequence"], index + 1);
        let progress = &heartbeat.event["progress"];
        assert!(progress["elapsed_ms"].as_u64() >= progress["idle_ms"].as_u64());
        for unknown in ["turns", "tool_calls", "cost_usd", "usage"] {
            assert_eq!(progress[unknown], Value::Null);
        }
    }
}

#[test]
fn an_interval_of_zero_turns_heartbeats_off() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = worker(&receiver, &project).env("DESCARTES_HEARTBEAT", "0");
    worker.agent("sleep 0.3").run().assert_code(0);
    assert_eq!(receiver.requests().len(), 2);
}

#[test]
fn an_orchestrator_that_answers_405_or_501_to_a_heartbeat_gets_no_further_one() {
    each(&[405, 501], |status| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("progress", Reply::status(status));
        // The agent runs for 0.5 s after the first heartbeat; in this time, there would be ten more heartbeats.
        let agent = format!("{WAIT_FOR_GO}; sleep 0.5");
        let running = worker(&receiver, &project).agent(agent).start();
        receiver.wait_for_first("progress");
        project.write("go", "");
        running.wait().assert_code(0);
        assert_eq!(receiver.requests_to("progress").len(), 1);
    });
}

#[test]
fn five_404s_in_a_row_to_the_first_heartbeats_end_the_heartbeats() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.set_default_reply("progress", Reply::status(404));
    let running = worker(&receiver, &project)
        .agent(format!("{WAIT_FOR_GO}; sleep 0.5"))
        .start();
    running.wait_for_log("the orchestrator has no route /progress");
    project.write("go", "");
    running.wait().assert_code(0);
    assert_eq!(receiver.requests_to("progress").len(), 5);
}

#[test]
fn heartbeats_continue_after_fewer_than_five_404s_in_a_row_or_after_a_2xx() {
    let reply = Reply::status;
    let cases = [
        // The route has answered 2xx before, so the 404s come from a proxy.
        [vec![reply(200)], vec![reply(404); 8]].concat(),
        // There are never five 404s in a row.
        [vec![reply(404); 4], vec![reply(503)], vec![reply(404); 4]].concat(),
    ];
    each(&cases, |replies| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let count = replies.len();
        receiver.script("progress", replies);
        let cancel = json!({"cancel": true, "reason": "not needed"});
        receiver.set_default_reply("progress", Reply::json(200, &cancel.to_string()));
        let ended = worker(&receiver, &project).agent(WAIT_FOR_GO).run();
        ended.assert_code(1);
        assert_eq!(receiver.requests_to("progress").len(), count + 1);
        assert_eq!(
            receiver.only_event("failed")["failure"]["reason"],
            "cancelled"
        );
    });
}

#[test]
fn a_slow_receiver_gets_fewer_heartbeats_and_never_two_at_once() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let slow = Reply::status(200).after(Duration::from_millis(300));
    receiver.set_default_reply("progress", slow);
    run_until_heartbeats(&receiver, worker(&receiver, &project), &project, 3).assert_code(0);
    for pair in receiver.requests_to("progress").windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(348));
    }
}

#[test]
fn the_outcome_does_not_wait_for_the_answer_to_a_heartbeat() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let no_answer = Reply::status(200).after(Duration::MAX);
    receiver.set_default_reply("progress", no_answer);
    let running = worker(&receiver, &project).agent(WAIT_FOR_GO).start();
    receiver.wait_for_first("progress");
    let begin = Instant::now();
    project.write("go", "");
    running.wait().assert_code(0);
    // A worker that waits for the answer would wait for the callback timeout of ten minutes.
    assert_within(Duration::from_secs(60), begin.elapsed());
    assert_eq!(receiver.routes(), ["started", "completed"]);
}

#[test]
fn heartbeats_without_a_2xx_change_nothing_and_are_logged_once() {
    let replies = [
        Reply::status(401),
        Reply::status(400),
        Reply::status(403),
        Reply::status(422),
        Reply::status(503),
        Reply::status(429).with_header("retry-after", "3600"),
        Reply::Reset,
        Reply::BreakInHead,
        Reply::BreakInBody,
    ];
    each(&replies, |reply| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("progress", reply);
        let ended = run_until_heartbeats(&receiver, worker(&receiver, &project), &project, 3);
        ended.assert_code(0);
        assert_eq!(receiver.routes(), ["started", "completed"]);
        let log_lines = ended.stderr.matches("a heartbeat was not accepted").count();
        assert_eq!(log_lines, 1, "{}", ended.stderr);
    });
}

/// Runs a worker whose second heartbeat gets this reply, which must cancel the task; returns the message of the failure.
fn cancellation_message(reply: Reply) -> String {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("progress", [Reply::json(200, "{}"), reply]);
    let ended = worker(&receiver, &project).agent(WAIT_FOR_GO).run();
    ended.assert_code(1);
    assert_eq!(receiver.routes(), ["started", "failed"]);
    let failed = receiver.only_event("failed");
    assert_eq!(failed["failure"]["reason"], "cancelled");
    assert_eq!(failed["failure"]["retryable"], false);
    assert_eq!(receiver.requests_to("progress").len(), 2);
    assert_eq!(ended.result_line(), failed);
    assert_no_process_in(&project);
    failed["failure"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn an_answer_to_a_heartbeat_cancels_with_a_reason_or_without() {
    let cancel = json!({"cancel": true, "reason": "the budget\nis spent", "more": [1]});
    let cases = [
        (Reply::json(200, &cancel.to_string()), "the budget is spent"),
        (Reply::json(201, r#"{"cancel":true}"#), "cancelled the task"),
        (
            Reply::json(200, r#"{"cancel":true,"reason":{}}"#),
            "cancelled the task",
        ),
        (Reply::json(409, "somebody else has it"), "409"),
        (Reply::json(410, "gone"), "410"),
    ];
    each(&cases, |(reply, words)| {
        let message = cancellation_message(reply);
        assert!(message.contains(words), "{message}");
    });
}

#[test]
fn a_2xx_answer_to_a_heartbeat_without_a_readable_cancellation_does_not_cancel() {
    let long = format!(
        "{{\"cancel\": true, \"reason\": {:?}}}",
        "x".repeat(100_000)
    );
    let nested = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let bodies = [
        "ok",
        "{",
        "null",
        "[true]",
        r#"{"cancel":1}"#,
        r#"{"cancel":false}"#,
        &long,
        &nested,
    ];
    each(&bodies, |body| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("progress", Reply::json(200, body));
        run_until_heartbeats(&receiver, worker(&receiver, &project), &project, 3).assert_code(0);
        assert_eq!(receiver.routes(), ["started", "completed"]);
    });
}

/// The output that the heartbeats report, with `None` for each missing byte, and the number of bytes that the heartbeats
/// report as dropped.
fn reassemble(outputs: &[Value]) -> (Vec<Option<u8>>, u64) {
    let (mut stream, mut dropped) = (Vec::new(), 0);
    for output in outputs.iter().filter(|output| !output.is_null()) {
        let offset = usize::try_from(output["offset"].as_u64().unwrap()).unwrap();
        let text = output["text"].as_str().unwrap();
        assert!(text.len() <= 16 * 1024);
        assert!(offset >= stream.len(), "windows overlap at {offset}");
        let gap = output["dropped_bytes"].as_u64().unwrap();
        assert_eq!((offset - stream.len()) as u64, gap, "at {offset}");
        dropped += gap;
        stream.resize(offset, None);
        stream.extend(text.bytes().map(Some));
    }
    (stream, dropped)
}

/// A command that prints numbered lines of 8 bytes until the file `go` exists.
const PRINT_NUMBERS: &str = r"number=1000000
while [ ! -e go ]; do count=0; while [ $count -lt 500 ]; do echo $number; number=$((number+1)); count=$((count+1)); done; done";

#[test]
fn output_can_be_reassembled_from_heartbeats_except_for_the_dropped_bytes() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // The output in heartbeats that are not answered with 2xx counts as dropped.
    let replies = [200, 503, 200, 200, 401, 503, 200].map(Reply::status);
    receiver.script("progress", replies);
    let delivered = || -> Vec<Value> {
        outputs(&receiver)
            .into_iter()
            .enumerate()
            .filter(|(index, _)| ![1, 4, 5].contains(index))
            .map(|(_, output)| output)
            .collect()
    };
    let running = worker(&receiver, &project).agent(PRINT_NUMBERS).start();
    wait_for_heartbeats(&receiver, 10);
    // The agent prints more than heartbeats carry, but a slow machine may start it after the tenth heartbeat.
    wait_until("dropped bytes", || {
        let mut delivered = delivered().into_iter();
        delivered.any(|output| output["dropped_bytes"].as_u64() > Some(0))
    });
    project.write("go", "");
    running.wait().assert_code(0);

    let (stream, dropped) = reassemble(&delivered());
    assert!(dropped > 0);
    for (position, byte) in stream.iter().enumerate() {
        let line = format!("{}\n", 1_000_000 + position / 8);
        if let Some(byte) = byte {
            assert_eq!(*byte, line.as_bytes()[position % 8], "at {position}");
        }
    }
    let completed = receiver.only_event("completed");
    let total = completed["result"]["output"]["total_bytes"].as_u64();
    assert!(total >= Some(stream.len() as u64));
}

#[test]
fn a_heartbeat_answered_with_413_is_followed_by_one_without_output() {
    with_enough_time(Duration::from_millis(50), |interval| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.script("progress", [Reply::status(413)]);
        let running = worker(&receiver, &project)
            .env("DESCARTES_HEARTBEAT", duration_setting(interval))
            .agent(format!("echo before; {WAIT_FOR_GO}; echo after"))
            .start();
        wait_for_heartbeats(&receiver, 4);
        project.write("go", "");
        running.wait().assert_code(0);
        let outputs = outputs(&receiver);
        if outputs[0]["text"] != "before\n" {
            return Err("the agent printed nothing before the first heartbeat".to_owned());
        }
        assert_eq!(outputs[1], Value::Null);
        assert_eq!(outputs[2]["dropped_bytes"], 7);
        assert_eq!(outputs[2]["offset"], 7);
        assert_eq!(outputs[3]["dropped_bytes"], 0);
        Ok(())
    });
}
