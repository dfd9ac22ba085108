//! How the messages of Claude Code are read and counted.

use serde_json::{Value, json};

use super::{assistant_line, result_line, run, run_script};
use crate::support::{Project, Worker};

// Recorded output of the real Claude Code.
const RECORDING_WITH_BACKGROUND_TASK: &str = include_str!("../recordings/background_short.jsonl");
const RECORDING_OF_CUT_STREAM: &str = include_str!("../recordings/stream_cut_then_ok.jsonl");
const RECORDING_OF_TOO_LONG_ANSWER: &str = include_str!("../recordings/max_tokens.jsonl");
const RECORDING_OF_REFUSAL: &str = include_str!("../recordings/refusal.jsonl");
const RECORDING_WITH_SUBAGENT: &str = include_str!("../recordings/subagent_nobg.jsonl");
const RECORDING_OF_TOO_LARGE_REQUEST: &str = include_str!("../recordings/err_413.jsonl");

#[test]
fn lines_that_are_not_json_objects_are_shown_and_unexpected_fields_are_ignored() {
    let odd = [
        "Warning: something is \u{1b}[31mold\u{1b}[0m",
        "null",
        "[1, 2]",
        "[\"result\", \"success\", \"another-session\"]",
        "{\"type\": 7, \"session_id\": {}}",
        "{\"type\":\"assistant\",\"message\":\"no object\"}",
        "{\"type\":\"assistant\",\"message\":{\"id\":1,\"content\":[7],\"usage\":[]}}",
        "{\"type\":\"something_new\",\"message\":{}}",
        "",
    ];
    let last = json!({ "num_turns": "many", "total_cost_usd": null, "usage": 3, "modelUsage": { "m": 1 }, "extra": [] });
    let event = run(odd.join("\n") + &result_line(&last), 0).assert_completed();
    let agent = &event["result"]["agent"];
    assert_eq!(
        (&agent["cost_usd"], &agent["usage"]),
        (&Value::Null, &Value::Null)
    );
    let output = event["result"]["output"]["tail"].as_str().expect("a tail");
    assert!(output.starts_with("Warning: something is"), "{output}");
    let arrays = "[1, 2]\n[\"result\", \"success\", \"another-session\"]\n";
    assert!(output.contains(arrays), "{output}");
    assert_eq!(agent["session_id"], "the-session");
}

#[test]
fn lines_of_three_megabytes_are_read_and_longer_ones_are_skipped() {
    let large = |bytes: usize| "x".repeat(bytes);
    let text = assistant_line(
        "m1",
        &json!({ "type": "text", "text": large(3_000_000) }),
        &json!({ "output_tokens": 7 }),
    );
    let picture = format!(
        "{{\"type\":\"user\",\"message\":\"{}\"}}\n",
        large(20_000_000)
    );
    let run = run(text + &picture + &result_line(&json!({})), 0);
    let event = run.assert_completed();
    assert_eq!(event["result"]["agent"]["usage"]["output_tokens"], 7);
    assert_eq!(event["result"]["output"]["total_bytes"], 3_000_001);
}

#[test]
fn a_message_in_several_lines_is_counted_once() {
    let usage = json!({ "input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 5 });
    let call = |name: &str, input: Value| json!({ "type": "tool_use", "id": "t", "name": name, "input": input });
    let stream = [
        assistant_line("m1", &json!({ "type": "text", "text": "Look" }), &usage),
        assistant_line(
            "m1",
            &call("Bash", json!({ "command": "ls\n  -l" })),
            &usage,
        ),
        assistant_line(
            "m1",
            &call("Edit", json!({ "file_path": "a.rs", "old_string": "x" })),
            &usage,
        ),
        assistant_line("m2", &call("TodoWrite", json!({ "todos": [] })), &usage),
        // The stream ends without a result.
    ];
    let event = run(stream.concat(), 1).assert_failed("agent_failed");
    let agent = &event["result"]["agent"];
    assert_eq!(
        (&agent["turns"], &agent["tool_calls"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(agent["usage"]["input_tokens"], 20);
    assert_eq!(
        event["result"]["output"]["tail"],
        "Look\ntool: bash ls -l\ntool: edit a.rs\ntool: todowrite {\"todos\":[]}\n"
    );
}

#[test]
fn a_thousand_messages_are_counted() {
    let mut stream = String::new();
    for at in 0..1_000 {
        let text = json!({ "type": "text", "text": "." });
        stream += &assistant_line(
            &format!("m{at}"),
            &text,
            &json!({ "input_tokens": 3, "output_tokens": 1 }),
        );
    }
    let event = run(stream, 1).assert_failed("agent_failed");
    let agent = &event["result"]["agent"];
    assert_eq!(
        (&agent["turns"], &agent["usage"]["input_tokens"]),
        (&json!(1_000), &json!(3_000))
    );
}

#[test]
fn the_last_of_several_results_counts() {
    let event = run(RECORDING_WITH_BACKGROUND_TASK, 0).assert_completed();
    assert_eq!(event["result"]["summary"], "saw the background end");
    let agent = &event["result"]["agent"];
    assert_eq!(
        (&agent["turns"], &agent["tool_calls"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(agent["usage"]["output_tokens"], 150);
}

#[test]
fn messages_of_subagents_cost_tokens_and_are_not_turns() {
    let event = run(RECORDING_WITH_SUBAGENT, 0).assert_completed();
    let agent = &event["result"]["agent"];
    assert_eq!(agent["turns"], 2);
    assert_eq!(agent["usage"]["output_tokens"], 150);
}

#[test]
fn recorded_failures_get_the_right_reason_and_message() {
    for (stream, reason, message, retryable) in [
        (
            RECORDING_OF_REFUSAL,
            "agent_failed",
            "the agent failed: API Error: Opus 5.5's safeguards flagged this message",
            false,
        ),
        (
            RECORDING_OF_TOO_LONG_ANSWER,
            "agent_failed",
            "the agent failed: API Error: Claude's response exceeded the 128000 output token",
            false,
        ),
        (
            RECORDING_OF_TOO_LARGE_REQUEST,
            "api_error",
            "the model's service answered with status 413: Request too large",
            false,
        ),
    ] {
        let event = run(stream, 1).assert_failed(reason);
        let text = event["failure"]["message"].as_str().expect("a message");
        assert!(text.starts_with(message), "{text}");
        assert_eq!(event["failure"]["retryable"], retryable);
    }
    let log = run(RECORDING_OF_CUT_STREAM, 0).worker.stderr;
    assert!(log.contains("agent: [the model's service: "), "{log}");
}

#[test]
fn secrets_in_texts_tool_calls_and_results_are_masked() {
    let words = "the key is sk-ant-the-key, isn't it?";
    let text = assistant_line("m1", &json!({ "type": "text", "text": words }), &json!({}));
    let call = json!({ "type": "tool_use", "name": "Bash", "input": { "command": "echo sk-ant-the-key" } });
    let stream = text
        + &assistant_line("m2", &call, &json!({}))
        + &result_line(&json!({ "result": words, "session_id": "sk-ant-the-key" }));
    let run = run(stream, 0);
    let event = run.assert_completed();
    assert_eq!(event["result"]["summary"], "the key is ***, isn't it?");
    for text in [&run.worker.stderr, &run.worker.stdout, &event.to_string()] {
        assert!(!text.contains("sk-ant-the-key"), "{text}");
    }
}

#[test]
fn message_ids_of_megabytes_do_not_use_up_the_memory() {
    let project = Project::new();
    project.write("stream", result_line(&json!({})));
    // The parent process is the worker.
    let script = r#"cat > /dev/null
        id=$(head -c 3900000 /dev/zero | tr '\0' a)
        for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
            printf '{"type":"assistant","message":{"id":"%s%d","content":[],"usage":{"output_tokens":1}}}\n' "$id" $number
        done
        grep VmHWM /proc/$PPID/status > "$dir/peak"
        cat "$dir/stream""#;
    let run = run_script(project, script, Worker::without_isolation);
    let event = run.assert_completed();
    assert_eq!(event["result"]["agent"]["usage"]["output_tokens"], 30);
    let peak = run.project.read("peak");
    let kib: u64 = peak
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number");
    assert!(kib < 80 * 1024, "{peak}");
}
