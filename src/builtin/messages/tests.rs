//! Streams as they come, and as they should not.

use super::*;

fn pushed(events: &[Value]) -> Result<Incoming, StreamError> {
    let mut incoming = Incoming::default();
    for event in events {
        incoming.push(&event.to_string())?;
    }
    Ok(incoming)
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
fn blocks_are_put_together_and_kept_as_they_came() {
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
    let answer = pushed(&events).unwrap().answer().unwrap();
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
        cache_creation_input_tokens: None,
    };
    assert_eq!(answer.usage, usage);
    assert!(!answer.is_cut());
}

#[test]
fn half_of_a_call_or_of_a_thought_is_left_out_and_half_of_a_text_is_not() {
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
    let answer = pushed(&events).unwrap().answer().unwrap();
    assert_eq!(answer.content, [text("half")]);
    assert!(answer.is_cut());
}

#[test]
fn a_stream_that_has_no_end_is_no_answer() {
    let events = [start(), block(0, &text("a")), stop(0)];
    assert!(pushed(&events).unwrap().answer().is_none());
}

#[test]
fn what_cannot_be_an_event_is_said() {
    let malformed = |events: &[Value]| match pushed(events) {
        Err(StreamError::Malformed(what)) => what,
        other => panic!("{:?}", other.map(|incoming| incoming.answer)),
    };
    assert_eq!(malformed(&[start(), stop(0)]), "there is no block 0");
    assert_eq!(
        malformed(&[start(), block(1, &text("a"))]),
        "block 1 is out of order"
    );
    let error = Incoming::default().push("{").unwrap_err();
    assert!(matches!(error, StreamError::Malformed(_)));
    let said =
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "later" } });
    let expected = StreamError::Said {
        kind: "overloaded_error".to_owned(),
        message: "later".to_owned(),
    };
    assert_eq!(pushed(&[start(), said]).map(drop), Err(expected));
}

#[test]
fn an_error_s_body_is_read_whoever_wrote_it() {
    let body = br#"{"type":"error","error":{"type":"not_found_error","message":"no such model"}}"#;
    let expected = ("not_found_error".to_owned(), "no such model".to_owned());
    assert_eq!(complaint(body), expected);
    let page = b"<html>\n  Bad   Gateway </html>";
    assert_eq!(
        complaint(page),
        (String::new(), "<html> Bad Gateway </html>".to_owned())
    );
}
