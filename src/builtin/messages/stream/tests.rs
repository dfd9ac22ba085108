//! Tests valid and invalid streams of events.

use serde_json::json;

use super::*;
use crate::builtin::messages::text_block;

fn push_all(events: &[Value]) -> Result<PartialAnswer, StreamError> {
    let mut answer = PartialAnswer::default();
    for event in events {
        answer.push(&event.to_string())?;
    }
    Ok(answer)
}

fn start() -> Value {
    json!({ "type": "message_start", "message": { "id": "m", "model": "claude", "usage": {
        "input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 1 } } })
}

fn block(index: usize, block: &Value) -> Value {
    json!({ "type": "content_block_start", "index": index, "content_block": block })
}

fn delta(index: usize, delta: &Value) -> Value {
    json!({ "type": "content_block_delta", "index": index, "delta": delta })
}

fn stop(index: usize) -> Value {
    json!({ "type": "content_block_stop", "index": index })
}

fn end(reason: &str) -> [Value; 2] {
    [
        json!({ "type": "message_delta", "delta": { "stop_reason": reason }, "usage": { "output_tokens": 9 } }),
        json!({ "type": "message_stop" }),
    ]
}

#[test]
fn blocks_are_assembled_from_their_deltas_and_otherwise_unchanged() {
    let odd = json!({ "type": "some_new_block", "data": [1, 2] });
    let mut events = vec![
        start(),
        block(
            0,
            &json!({ "type": "thinking", "thinking": "", "signature": "" }),
        ),
        delta(0, &json!({ "type": "thinking_delta", "thinking": "hm" })),
        delta(0, &json!({ "type": "signature_delta", "signature": "sig" })),
        stop(0),
        block(1, &json!({ "type": "text", "text": "" })),
        delta(1, &json!({ "type": "text_delta", "text": "zw" })),
        json!({ "type": "ping" }),
        delta(1, &json!({ "type": "text_delta", "text": "ölf" })),
        delta(1, &json!({ "type": "something_new_delta", "what": 1 })),
        stop(1),
        block(2, &odd),
        stop(2),
        block(
            3,
            &json!({ "type": "tool_use", "id": "t", "name": "bash", "input": {} }),
        ),
        delta(
            3,
            &json!({ "type": "input_json_delta", "partial_json": "" }),
        ),
        delta(
            3,
            &json!({ "type": "input_json_delta", "partial_json": "{\"comm" }),
        ),
        delta(
            3,
            &json!({ "type": "input_json_delta", "partial_json": "and\":\"ls\"}" }),
        ),
        stop(3),
        json!({ "type": "something_new" }),
    ];
    events.extend(end("tool_use"));
    let answer = push_all(&events).unwrap().into_answer().unwrap();
    let call =
        json!({ "type": "tool_use", "id": "t", "name": "bash", "input": { "command": "ls" } });
    assert_eq!(
        answer.content,
        [
            json!({ "type": "thinking", "thinking": "hm", "signature": "sig" }),
            json!({ "type": "text", "text": "zwölf" }),
            odd,
            call,
        ]
    );
    assert_eq!(answer.text(), "zwölf");
    assert_eq!(answer.tool_calls()[0].input, json!({ "command": "ls" }));
    let usage = Usage {
        input_tokens: Some(3),
        output_tokens: Some(9),
        cache_read_input_tokens: Some(5),
        ..Usage::default()
    };
    assert_eq!(answer.usage, usage);
    assert!(!answer.is_cut_off());
}

#[test]
fn incomplete_tool_calls_and_thinking_are_left_out_and_incomplete_text_is_kept() {
    let mut events = vec![
        start(),
        block(0, &json!({ "type": "text", "text": "" })),
        delta(0, &json!({ "type": "text_delta", "text": "half" })),
        stop(0),
        block(
            1,
            &json!({ "type": "tool_use", "id": "t", "name": "bash", "input": {} }),
        ),
        delta(
            1,
            &json!({ "type": "input_json_delta", "partial_json": "{\"comm" }),
        ),
        stop(1),
        block(2, &json!({ "type": "thinking", "thinking": "" })),
        delta(2, &json!({ "type": "thinking_delta", "thinking": "hm" })),
        block(3, &json!({ "type": "text", "text": "" })),
    ];
    events.extend(end("max_tokens"));
    let answer = push_all(&events).unwrap().into_answer().unwrap();
    assert_eq!(answer.content, [text_block("half")]);
    assert!(answer.is_cut_off());
}

#[test]
fn a_stream_without_message_stop_is_not_an_answer() {
    let events = [start(), block(0, &text_block("a")), stop(0)];
    assert!(push_all(&events).unwrap().into_answer().is_none());
}

#[test]
fn a_stream_without_content_and_without_a_stop_reason_is_not_an_answer() {
    let [message_delta, message_stop] = end("end_turn");
    let without_reason = push_all(&[start(), message_stop.clone()]).unwrap();
    assert!(without_reason.into_answer().is_none());
    let with_reason = push_all(&[start(), message_delta, message_stop]).unwrap();
    assert!(with_reason.into_answer().is_some());
}

#[test]
fn the_output_tokens_are_unknown_until_the_service_has_reported_their_final_number() {
    let mut answer = push_all(&[start(), block(0, &text_block("a"))]).unwrap();
    assert!(answer.has_started());
    let usage = answer.usage();
    assert_eq!((usage.input_tokens, usage.output_tokens), (Some(3), None));
    answer.push(&end("end_turn")[0].to_string()).unwrap();
    assert_eq!(answer.usage().output_tokens, Some(9));
}

#[test]
fn an_invalid_event_is_an_error_that_says_what_is_wrong() {
    let malformed = |events: &[Value]| match push_all(events) {
        Err(StreamError::Malformed(why)) => why,
        other => panic!("{:?}", other.map(|partial| partial.answer)),
    };
    assert_eq!(malformed(&[start(), stop(0)]), "there is no block 0");
    assert_eq!(
        malformed(&[start(), block(1, &text_block("a"))]),
        "block 1 is out of order"
    );
    let error = PartialAnswer::default().push("{").unwrap_err();
    assert!(matches!(error, StreamError::Malformed(_)));
    let reported =
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "later" } });
    let expected = StreamError::Reported(ErrorDetails {
        kind: "overloaded_error".to_owned(),
        message: "later".to_owned(),
    });
    assert_eq!(push_all(&[start(), reported]).map(drop), Err(expected));
}

#[test]
fn pings_unknown_events_and_empty_deltas_do_not_change_the_answer() {
    let mut answer = PartialAnswer::default();
    let mut push = |event: &Value| answer.push(&event.to_string()).unwrap();
    assert_eq!(push(&start()), Change::Grown);
    assert_eq!(push(&block(0, &text_block(""))), Change::Grown);
    let text_delta = |text: &str| delta(0, &json!({ "type": "text_delta", "text": text }));
    assert_eq!(push(&text_delta("a")), Change::Grown);
    let [message_delta, message_stop] = end("end_turn");
    for event in [
        json!({ "type": "ping" }),
        json!({ "type": "something_new", "text": "a" }),
        text_delta(""),
        delta(0, &json!({ "type": "something_new_delta", "text": "a" })),
        stop(0),
    ] {
        assert_eq!(push(&event), Change::Nothing, "{event}");
    }
    assert_eq!(push(&message_delta), Change::Grown);
    assert_eq!(push(&message_delta), Change::Nothing);
    assert_eq!(push(&message_stop), Change::Complete);
}

#[test]
fn an_answer_that_starts_twice_or_is_too_large_is_an_error() {
    let twice = push_all(&[start(), start()]).map(drop);
    let expected = StreamError::Malformed("it has two events `message_start`".to_owned());
    assert_eq!(twice, Err(expected));
    let large = "x".repeat(MAX_ANSWER_SIZE / 2);
    let text_delta = delta(0, &json!({ "type": "text_delta", "text": large }));
    let events = [
        start(),
        block(0, &text_block("")),
        text_delta.clone(),
        text_delta,
    ];
    assert_eq!(push_all(&events).map(drop), Err(StreamError::TooLarge));
}

#[test]
fn an_invalid_or_missing_number_of_tokens_counts_as_unknown() {
    let usage = |at_start: Value, at_end: Value| {
        let events = [
            json!({ "type": "message_start", "message": { "usage": at_start } }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": at_end }),
            json!({ "type": "message_stop" }),
        ];
        let usage = push_all(&events).unwrap().into_answer().unwrap().usage;
        (usage.input_tokens, usage.output_tokens)
    };
    let full = json!({ "input_tokens": 3, "output_tokens": 1 });
    let output = json!({ "output_tokens": 9 });
    assert_eq!(usage(full.clone(), output.clone()), (Some(3), Some(9)));
    assert_eq!(usage(full, json!({})), (Some(3), None));
    assert_eq!(usage(json!(null), output.clone()), (None, Some(9)));
    let odd = json!({ "input_tokens": -3, "output_tokens": "many" });
    assert_eq!(usage(odd, output), (None, Some(9)));
}
