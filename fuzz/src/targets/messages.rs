//! The Messages API's answers, as server-sent events and as bodies of errors.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sse_stream::SseStream;

use super::block_on;
use crate::builtin::messages::stream::{Change, PartialAnswer};
use crate::builtin::messages::{Answer, error_of_body, is_thinking};

/// Reads the input as a stream of events and as the body of an error.
pub fn messages(data: &[u8]) {
    let message = error_of_body(data).message;
    assert!(
        message.len() <= 3 * data.len(),
        "the message is not longer than the body"
    );
    let whole = receive(data, data.len().max(1));
    assert_eq!(
        whole,
        receive(data, 1),
        "the size of the chunks does not matter"
    );
    assert_eq!(
        whole,
        receive(data, 5),
        "the size of the chunks does not matter"
    );
}

/// Reads the events as the agent does; returns the result as a text.
fn receive(data: &[u8], chunk_size: usize) -> String {
    let chunks = data
        .chunks(chunk_size)
        .map(|bytes| Ok::<_, Infallible>(Bytes::copy_from_slice(bytes)));
    let mut events = SseStream::from_bytes_stream(stream::iter(chunks));
    let mut answer = PartialAnswer::default();
    loop {
        let event = match block_on(events.next()) {
            Some(Ok(event)) => event,
            Some(Err(error)) => return error.to_string(),
            None => {
                return format!("cut off, {:?}, {:?}", answer.has_content(), answer.usage());
            }
        };
        match event.data.unwrap_or_default().as_str() {
            "" => {}
            data => match answer.push(data) {
                Ok(Change::Complete) => break,
                Ok(Change::Grown | Change::Nothing) => {}
                Err(error) => return format!("{error:?}"),
            },
        }
    }
    let has_content = answer.has_content();
    let Some(answer) = answer.into_answer() else {
        assert!(!has_content, "a complete answer with content is lost");
        return "empty".to_owned();
    };
    assert_sendable(&answer);
    format!("{answer:?}")
}

/// Asserts that the API would accept the answer in the next request.
fn assert_sendable(answer: &Answer) {
    assert!(!answer.content.last().is_some_and(is_thinking));
    assert!(
        answer
            .tool_calls()
            .iter()
            .all(|call| call.input.is_object())
    );
    assert!(answer.content.iter().all(serde_json::Value::is_object));
    let text = serde_json::to_string(&answer.content).expect("JSON");
    let again: Vec<serde_json::Value> = serde_json::from_str(&text).expect("the same JSON");
    assert_eq!(again.len(), answer.content.len());
    let _ = (answer.text(), answer.is_unfinished());
}
