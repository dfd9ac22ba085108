//! The answers of the fake model, as streams of events.

use serde_json::{Value, json};

use super::super::reply::Reply;
use super::Turn;

/// The number of characters in a piece of a streamed answer. Small, so that every text is in several pieces.
const PIECE_SIZE: usize = 7;

/// One block of an answer.
#[derive(Debug, Clone)]
pub enum Block {
    Text(String),
    Thinking(String),
    Call {
        name: String,
        input: Value,
    },
    /// A call whose input is incomplete.
    IncompleteCall {
        name: String,
        json: String,
    },
}

/// An answer of the model.
#[derive(Debug, Clone)]
pub struct Answer {
    pub blocks: Vec<Block>,
    pub stop_reason: &'static str,
}

/// An answer with a text, after which the model is done.
pub fn text_answer(text: &str) -> Answer {
    Answer {
        blocks: vec![Block::Text(text.to_owned())],
        stop_reason: "end_turn",
    }
}

/// An answer with a tool call.
pub fn tool_call(name: &str, input: Value) -> Answer {
    Answer {
        blocks: vec![],
        stop_reason: "tool_use",
    }
    .and_tool_call(name, input)
}

/// An answer with a call of the `bash` tool.
pub fn bash_call(command: &str) -> Answer {
    tool_call("bash", json!({ "command": command }))
}

impl Answer {
    /// Adds a tool call.
    pub fn and_tool_call(mut self, name: &str, input: Value) -> Self {
        let name = name.to_owned();
        self.blocks.push(Block::Call { name, input });
        self.stop_reason = "tool_use";
        self
    }

    pub fn with_stop_reason(self, stop_reason: &'static str) -> Self {
        Self {
            stop_reason,
            ..self
        }
    }

    /// The service sends only this many bytes of the answer, and then plays the next turn on the same connection.
    pub fn cut_after(self, bytes: usize, then: impl Into<Turn>) -> Turn {
        Turn::Cut {
            answer: self,
            bytes,
            then: Box::new(then.into()),
        }
    }

    pub fn with_block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// The events of the stream, with texts and inputs in small pieces. `number` makes the ids unique.
    fn events(&self, number: usize, model: &Value) -> Vec<Value> {
        self.events_in_pieces(number, model, PIECE_SIZE)
    }

    /// The events of the stream, with texts and inputs in pieces of `piece_size` characters.
    fn events_in_pieces(&self, number: usize, model: &Value, piece_size: usize) -> Vec<Value> {
        let usage = json!({
            "input_tokens": 100, "output_tokens": 1,
            "cache_creation_input_tokens": 20, "cache_read_input_tokens": 1000,
        });
        let mut events = vec![
            json!({ "type": "message_start", "message": {
                "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": model,
                "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
            } }),
            json!({ "type": "ping" }),
        ];
        for (index, block) in self.blocks.iter().enumerate() {
            let id = format!("toolu_{number}_{index}");
            let (start, deltas) = block.events(&id, piece_size);
            events.push(
                json!({ "type": "content_block_start", "index": index, "content_block": start }),
            );
            for delta in deltas {
                events
                    .push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
            }
            events.push(json!({ "type": "content_block_stop", "index": index }));
        }
        events.push(json!({
            "type": "message_delta", "delta": { "stop_reason": self.stop_reason, "stop_sequence": null },
            "usage": { "output_tokens": 50 },
        }));
        events.push(json!({ "type": "message_stop" }));
        events
    }

    /// The body of a streamed answer.
    pub(super) fn stream(&self, number: usize, model: &Value) -> String {
        stream_of(&self.events(number, model))
    }

    /// A reply with this answer, in which the first and the last event have this usage.
    pub fn with_usage(&self, first: &Value, last: &Value) -> Reply {
        let mut events = self.events(1, &json!("claude-sonnet-5-5"));
        for event in &mut events {
            match event["type"].as_str() {
                Some("message_start") => event["message"]["usage"] = first.clone(),
                Some("message_delta") => event["usage"] = last.clone(),
                _ => {}
            }
        }
        Reply::json(200, &stream_of(&events))
    }

    /// A reply with this answer. Each text and each input is in one event, not in small pieces.
    pub fn reply_in_whole_events(&self, number: usize) -> Reply {
        let events = self.events_in_pieces(number, &json!("claude-sonnet-5-5"), usize::MAX);
        Reply::json(200, &stream_of(&events))
    }
}

impl Block {
    /// The block as it begins, and the deltas that complete it.
    fn events(&self, id: &str, piece_size: usize) -> (Value, Vec<Value>) {
        let pieces = |text: &str| {
            let chars: Vec<char> = text.chars().collect();
            let pieces = chars
                .chunks(piece_size)
                .map(|chunk| chunk.iter().collect::<String>());
            pieces.collect::<Vec<_>>()
        };
        let call = |name: &str| json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
        let input = |json: &str| {
            let pieces = pieces(json).into_iter();
            let delta = |piece| json!({ "type": "input_json_delta", "partial_json": piece });
            pieces.map(delta).collect()
        };
        match self {
            Self::Text(text) => {
                let delta = |piece| json!({ "type": "text_delta", "text": piece });
                let deltas = pieces(text).into_iter().map(delta).collect();
                (json!({ "type": "text", "text": "" }), deltas)
            }
            Self::Thinking(text) => {
                let delta = |piece| json!({ "type": "thinking_delta", "thinking": piece });
                let mut deltas: Vec<Value> = pieces(text).into_iter().map(delta).collect();
                deltas.push(
                    json!({ "type": "signature_delta", "signature": format!("signed-{id}") }),
                );
                (
                    json!({ "type": "thinking", "thinking": "", "signature": "" }),
                    deltas,
                )
            }
            Self::Call { name, input: value } => (call(name), input(&value.to_string())),
            Self::IncompleteCall { name, json } => (call(name), input(json)),
        }
    }
}

/// The events in the format of server-sent events.
fn stream_of(events: &[Value]) -> String {
    let event = |event: &Value| {
        let kind = event["type"].as_str().expect("a type");
        format!("event: {kind}\ndata: {event}\n\n")
    };
    events.iter().map(event).collect()
}
