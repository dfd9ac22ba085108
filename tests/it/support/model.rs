//! A fake Messages API: it follows a script, records all requests, and reports requests that the real
//! API would reject.
//!
//! Answers are streamed in small pieces, as the real API does.

use std::collections::{HashMap, VecDeque};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::patience::Deadline;
use super::receiver::{ReceivedRequest, read_request, send};
use super::reply::Reply;
use super::server::{Connection, Server};
use super::{FinishedWorker, Project, Receiver, Worker};

/// The number of characters in a piece of a streamed answer.
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

    pub fn with_block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// The events of the stream. `number` makes the ids unique.
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

    fn stream(&self, number: usize, model: &Value) -> String {
        stream_of(&self.events(number, model))
    }

    /// A reply with this answer, in which the service reports other usage at the start and at the end.
    pub fn with_usage(&self, at_start: &Value, at_end: &Value) -> Reply {
        let mut events = self.events(1, &json!("claude-sonnet-5-5"));
        for event in &mut events {
            match event["type"].as_str() {
                Some("message_start") => event["message"]["usage"] = at_start.clone(),
                Some("message_delta") => event["usage"] = at_end.clone(),
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

fn stream_of(events: &[Value]) -> String {
    let event = |event: &Value| {
        let kind = event["type"].as_str().expect("a type");
        format!("event: {kind}\ndata: {event}\n\n")
    };
    events.iter().map(event).collect()
}

impl Block {
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

/// How the API answers one request.
#[derive(Debug, Clone)]
pub enum Turn {
    Answer(Answer),
    /// An HTTP response that is not an answer of the model.
    Reply(Reply),
    /// This many bytes of an answer, and then the inner turn on the same connection.
    BreakOff(Answer, usize, Box<Turn>),
    /// A first text, then another one again and again, until the client closes the connection.
    Repeat {
        first: String,
        then: String,
    },
    /// The connection is closed.
    Close,
}

impl From<Answer> for Turn {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl From<Reply> for Turn {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// An error response in the API's format.
pub fn error_reply(status: u16, kind: &str, message: &str) -> Reply {
    let body = json!({ "type": "error", "error": { "type": kind, "message": message } });
    Reply::json(status, &body.to_string())
}

#[derive(Default)]
struct State {
    requests: Vec<ReceivedRequest>,
    script: VecDeque<Turn>,
    /// The messages before each thinking block, by its signature: the block is valid only after them.
    messages_before_thinking: HashMap<String, Vec<Value>>,
    /// The rules of the real API that requests broke, with these requests.
    violations: Vec<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl State {
    /// Records the messages before new thinking blocks, and checks those of known ones.
    fn check_thinking(&mut self, body: &Value) {
        let messages = without_breakpoints(&body["messages"]);
        for (at, message) in messages.iter().enumerate() {
            for block in message["content"].as_array().into_iter().flatten() {
                let Some(signature) = block["signature"].as_str() else {
                    continue;
                };
                let before = &messages[..at];
                match self.messages_before_thinking.get(signature) {
                    Some(known) if known == before => {}
                    Some(_) => self.violations.push(format!(
                        "the messages before a thinking block have changed: {body}"
                    )),
                    None => drop(
                        self.messages_before_thinking
                            .insert(signature.to_owned(), before.to_vec()),
                    ),
                }
            }
        }
    }
}

/// Messages without their cache breakpoints.
fn without_breakpoints(messages: &Value) -> Vec<Value> {
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

/// A running server; closed when its last handle is dropped.
#[derive(Clone)]
pub struct Model {
    server: Arc<Server>,
    shared: Arc<Shared>,
}

impl Model {
    pub fn start(script: impl IntoIterator<Item = impl Into<Turn>>) -> Self {
        let shared: Arc<Shared> = Arc::default();
        shared.state().script = script.into_iter().map(Into::into).collect();
        let serving = Arc::clone(&shared);
        let server = Server::listen("127.0.0.1:0", move |connection| serving.serve(connection));
        let server = Arc::new(server);
        Self { server, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The bodies of all requests so far. Fails if the real API would have rejected one.
    #[track_caller]
    pub fn request_bodies(&self) -> Vec<Value> {
        let state = self.state();
        assert!(
            state.violations.is_empty(),
            "the agent broke the API's rules:\n{}",
            state.violations.join("\n")
        );
        state
            .requests
            .iter()
            .map(|request| request.event.clone())
            .collect()
    }

    /// All requests so far, with their headers.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.state().requests.clone()
    }

    /// Waits until this many requests have arrived.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let deadline = Deadline::start();
        let mut state = self.state();
        while state.requests.len() < count {
            let left = deadline.left();
            assert!(
                !left.is_zero(),
                "there were only {} requests",
                state.requests.len()
            );
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, connection: &Connection) {
        let mut buffer = Vec::new();
        while let Some(request) = read_request(connection, &mut buffer) {
            let model = request.event["model"].clone();
            let (turn, number) = {
                let mut state = self.state();
                let violations = violations(&request);
                state.violations.extend(violations);
                state.check_thinking(&request.event);
                state.requests.push(request);
                self.changed.notify_all();
                let turn = state.script.pop_front();
                if turn.is_none() {
                    state
                        .violations
                        .push("there were more requests than turns in the script".to_owned());
                }
                (turn, state.requests.len())
            };
            let turn = turn
                .unwrap_or_else(|| error_reply(400, "script_error", "the script is over").into());
            if send_turn(connection, &turn, number, &model).is_none() {
                return;
            }
        }
    }
}

/// A finished run of a worker whose agent uses the fake API.
pub struct Run {
    pub receiver: Receiver,
    pub project: Project,
    pub model: Model,
    pub worker: FinishedWorker,
}

impl Run {
    /// Starts the fake API and the worker, and waits until the worker has ended.
    pub fn of(
        project: Project,
        script: impl IntoIterator<Item = impl Into<Turn>>,
        worker: impl FnOnce(&Receiver, &Project, &Model) -> Worker,
    ) -> Self {
        let (receiver, model) = (Receiver::start(), Model::start(script));
        let worker = worker(&receiver, &project, &model).run();
        Self {
            receiver,
            project,
            model,
            worker,
        }
    }

    #[track_caller]
    pub fn assert_completed(&self) -> Value {
        self.worker.assert_completed(&self.receiver)
    }

    #[track_caller]
    pub fn assert_failed(&self, reason: &str) -> Value {
        self.worker.assert_failed(&self.receiver, reason)
    }
}

/// Plays one turn of the script; `None` if the connection is closed after it.
fn send_turn(connection: &Connection, turn: &Turn, number: usize, model: &Value) -> Option<()> {
    let mut stream = &*connection.stream;
    match turn {
        Turn::Answer(answer) => {
            let body = answer.stream(number, model);
            let reply = Reply::json(200, &body).with_header("content-type", "text/event-stream");
            send(connection, &reply)
        }
        Turn::Reply(reply) => send(connection, reply),
        Turn::BreakOff(answer, bytes, then) => {
            use std::io::Write;
            let body = answer.stream(number, model);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000000\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(&body.as_bytes()[..*bytes]).ok()?;
            send_turn(connection, then, number, model)
        }
        Turn::Repeat { first, then } => {
            use std::io::Write;
            stream.write_all(first.as_bytes()).ok()?;
            while stream.write_all(then.as_bytes()).is_ok() {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the fake service sends an event at intervals"
                )]
                thread::sleep(Duration::from_millis(20));
            }
            None
        }
        Turn::Close => {
            let _ = stream.shutdown(Shutdown::Both);
            None
        }
    }
}

/// The rules of the real API that a request breaks.
fn violations(request: &ReceivedRequest) -> Vec<String> {
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
