//! The rules of the real API, which requests to the fake one must follow too.

use serde_json::{Value, json};

use super::super::receiver::ReceivedRequest;

/// Messages without their cache breakpoints, which may move from request to request.
pub(super) fn without_breakpoints(messages: &Value) -> Vec<Value> {
    let mut messages = messages.as_array().cloned().unwrap_or_default();
    for message in &mut messages {
        for block in message["content"].as_array_mut().into_iter().flatten() {
            block
                .as_object_mut()
                .map(|block| block.remove("cache_control"));
        }
    }
    messages
}

/// The rules of the real API that a request breaks.
pub(super) fn violations(request: &ReceivedRequest) -> Vec<String> {
    let mut found = Vec::new();
    let mut require = |holds: bool, rule: &str| {
        if !holds {
            found.push(format!("{rule}: {}", request.event));
        }
    };
    let header = |name: &str| request.headers.contains_key(name);
    // A proxy gets the complete URL.
    require(request.target.contains("/v1/messages"), "the path");
    require(
        header("x-api-key") || header("authorization"),
        "a credential",
    );
    require(
        request
            .headers
            .get("anthropic-version")
            .is_some_and(|version| version == "2023-06-01"),
        "the version",
    );
    let body = &request.event;
    require(body["model"].is_string(), "a model");
    require(
        body["max_tokens"].as_u64().is_some_and(|tokens| tokens > 0),
        "max_tokens",
    );
    let breakpoints = body.to_string().matches("\"cache_control\"").count();
    require(breakpoints <= 4, "at most four cache breakpoints");
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    require(
        messages
            .first()
            .is_some_and(|first| first["role"] == "user"),
        "the first message is the user's",
    );
    let mut open_calls: Vec<String> = Vec::new();
    for message in &messages {
        let text = message["content"]
            .as_str()
            .map(|text| json!({ "type": "text", "text": text }));
        let blocks = message["content"].as_array().cloned();
        let blocks = blocks.or_else(|| Some(vec![text?])).unwrap_or_default();
        require(!blocks.is_empty(), "a message has content");
        let ids = |kind: &str, key: &str| -> Vec<String> {
            let of_kind = blocks.iter().filter(|block| block["type"] == kind);
            of_kind
                .map(|block| block[key].as_str().unwrap_or_default().to_owned())
                .collect()
        };
        let result_ids = ids("tool_result", "tool_use_id");
        require(
            result_ids == open_calls,
            "every tool_use is answered in the next message, in order",
        );
        let first_other = blocks
            .iter()
            .position(|block| block["type"] != "tool_result");
        let results_first = first_other.is_none_or(|at| {
            blocks[at..]
                .iter()
                .all(|block| block["type"] != "tool_result")
        });
        require(results_first, "tool results come first");
        let no_empty_text = blocks.iter().all(|block| {
            block["type"] != "text" || !block["text"].as_str().unwrap_or_default().trim().is_empty()
        });
        require(no_empty_text, "no text is blank");
        let ends_with_thinking = message["role"] == "assistant"
            && blocks.last().is_some_and(|last| last["type"] == "thinking");
        require(!ends_with_thinking, "no message ends with thinking");
        let is_signed = blocks.iter().all(|block| {
            block["type"] != "thinking"
                || block["signature"]
                    .as_str()
                    .is_some_and(|signature| !signature.is_empty())
        });
        require(is_signed, "every thinking block is signed");
        open_calls = ids("tool_use", "id");
        if message["role"] == "user" {
            require(open_calls.is_empty(), "only the model uses tools");
        }
    }
    require(open_calls.is_empty(), "no tool_use is left unanswered");
    found
}
