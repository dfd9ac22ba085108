//! A fake model service on raw sockets. It records every byte of its requests.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::server::Connection;
use crate::support::{Hold, Server};

/// A part of an answer.
#[derive(Clone)]
pub enum Part {
    Bytes(Vec<u8>),
    /// The service waits until the test releases the hold.
    Wait(Hold),
    /// The service closes the connection.
    Close,
}

/// A request as it arrived, byte for byte.
#[derive(Debug, Clone)]
pub struct RawRequest {
    /// The first line and the headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl RawRequest {
    /// The request line.
    pub fn request_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The value of a header that occurs at most once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// The service. After the answers of its script, it always answers with [`message_document`].
pub struct Service {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    requests: Vec<RawRequest>,
    script: VecDeque<Vec<Part>>,
}

impl Service {
    /// Starts the service; each element of the script is the answer to one request.
    pub fn start(script: impl IntoIterator<Item = Vec<Part>>) -> Self {
        let state = Arc::new(Mutex::new(State {
            requests: Vec::new(),
            script: script.into_iter().collect(),
        }));
        let serving = state.clone();
        let server = Server::listen("127.0.0.1:0", move |connection| {
            while let Some(request) = read_request(&connection.stream) {
                let parts = {
                    let mut state = serving.lock().unwrap();
                    state.requests.push(request);
                    state.script.pop_front()
                };
                if !send_answer(
                    connection,
                    parts.unwrap_or_else(|| vec![message_document()]),
                ) {
                    return;
                }
            }
        });
        Self { server, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The host and the port, as in the header `host`.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<RawRequest> {
        self.state.lock().unwrap().requests.clone()
    }
}

/// Sends the parts of an answer; returns whether the connection is still open.
fn send_answer(connection: &Connection, parts: Vec<Part>) -> bool {
    for part in parts {
        match part {
            Part::Bytes(bytes) => {
                if (&*connection.stream).write_all(&bytes).is_err() {
                    return false;
                }
            }
            Part::Wait(hold) => connection.wait_for(&hold),
            Part::Close => {
                let _ = connection.stream.shutdown(std::net::Shutdown::Both);
                return false;
            }
        }
    }
    true
}

/// The value of a header that occurs at most once.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().skip(1).filter_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    let value = values.next();
    assert_eq!(values.next(), None, "{name} occurs twice in {head}");
    value
}

/// Reads one request with a `content-length`; `None` if the client closes the connection.
fn read_request(stream: &TcpStream) -> Option<RawRequest> {
    let head = read_head(stream)?;
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    { stream }.read_exact(&mut body).ok()?;
    Some(RawRequest { head, body })
}

/// Reads the first line and the headers, up to the empty line; `None` if the connection ends before.
pub fn read_head(mut stream: &TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// A part with these bytes.
pub fn bytes(text: impl AsRef<[u8]>) -> Part {
    Part::Bytes(text.as_ref().to_vec())
}

/// A complete answer with a `content-length`.
pub fn complete_answer(status: u16, headers: &str, body: &str) -> Part {
    let length = body.len();
    bytes(format!(
        "HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}"
    ))
}

/// A complete answer of the Messages API, not a stream: 10 input tokens and 5 output tokens.
pub fn message_document() -> Part {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "stop_reason": "end_turn",
        "content": [{ "type": "text", "text": "Hello" }], "usage": { "input_tokens": 10, "output_tokens": 5 },
    });
    complete_answer(200, "content-type: application/json\r\n", &body.to_string())
}

/// The head of a streamed answer.
pub fn stream_head() -> Part {
    bytes(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )
}

/// One event of a streamed answer.
pub fn stream_event(data: &serde_json::Value) -> Part {
    let text = format!(
        "event: {}\ndata: {data}\n\n",
        data["type"].as_str().unwrap_or("x")
    );
    bytes(format!("{:x}\r\n{text}\r\n", text.len()))
}

/// The end of a streamed answer.
pub fn stream_end() -> Part {
    bytes("0\r\n\r\n")
}

/// The first event of a streamed answer: 1,120 input tokens and one output token.
pub fn message_start() -> Part {
    stream_event(&json!({ "type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": { "input_tokens": 100, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 20, "output_tokens": 1 },
    } }))
}
