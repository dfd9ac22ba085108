//! A fake Messages API: it follows a script, records all requests, and reports requests that the real
//! API would reject.
//!
//! Answers are streamed in small pieces, as the real API does.

mod answer;
mod rules;

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
pub use answer::{Answer, Block, bash_call, text_answer, tool_call};
use rules::{violations, without_breakpoints};

/// How the API answers one request.
#[derive(Debug, Clone)]
pub enum Turn {
    Answer(Answer),
    /// An HTTP response that is not an answer of the model.
    Reply(Reply),
    /// The first bytes of an answer, and then the next turn on the same connection.
    Cut {
        answer: Answer,
        bytes: usize,
        then: Box<Turn>,
    },
    /// A first text, then another one again and again, until the client closes the connection.
    Repeat {
        first: String,
        repeated: String,
    },
    /// The server closes the connection.
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
    /// For each signature of a thinking block: the messages before it. The block is valid only after these messages.
    messages_before_thinking: HashMap<String, Vec<Value>>,
    /// The rules of the real API that requests broke, each with the request.
    violations: Vec<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl State {
    /// Records the messages before each new thinking block; a known block must have the same messages before it.
    fn check_messages_before_thinking(&mut self, body: &Value) {
        let messages = without_breakpoints(&body["messages"]);
        for (index, message) in messages.iter().enumerate() {
            for block in message["content"].as_array().into_iter().flatten() {
                let Some(signature) = block["signature"].as_str() else {
                    continue;
                };
                let before = &messages[..index];
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

/// A running server; closed when its last handle is dropped.
#[derive(Clone)]
pub struct Model {
    server: Arc<Server>,
    shared: Arc<Shared>,
}

impl Model {
    /// Starts a server that answers each request by the next turn of the script.
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
    pub fn wait_for_requests(&self, count: usize) {
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
                state.check_messages_before_thinking(&request.event);
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

/// Plays one turn of the script; `None` if the connection cannot be used after it.
fn send_turn(connection: &Connection, turn: &Turn, number: usize, model: &Value) -> Option<()> {
    let mut stream = &*connection.stream;
    match turn {
        Turn::Answer(answer) => {
            let body = answer.stream(number, model);
            let reply = Reply::json(200, &body).with_header("content-type", "text/event-stream");
            send(connection, &reply)
        }
        Turn::Reply(reply) => send(connection, reply),
        Turn::Cut {
            answer,
            bytes,
            then,
        } => {
            use std::io::Write;
            let body = answer.stream(number, model);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000000\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(&body.as_bytes()[..*bytes]).ok()?;
            send_turn(connection, then, number, model)
        }
        Turn::Repeat { first, repeated } => {
            use std::io::Write;
            stream.write_all(first.as_bytes()).ok()?;
            while stream.write_all(repeated.as_bytes()).is_ok() {
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
