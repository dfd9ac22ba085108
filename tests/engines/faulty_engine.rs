//! A Docker Engine with faults: a proxy in front of a real engine reads each request, and a rule of the test decides which fault
//! the request has.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::support::{Hold, Server};

/// What goes wrong with a request.
#[derive(Clone)]
pub enum Fault {
    /// The proxy answers with this status and message; the request never reaches the engine.
    Refuse(u16, &'static str),
    /// The request reaches the engine, and the connection breaks before the answer.
    LoseAnswer,
    /// The connection breaks at once. The request reaches the engine when the test releases the hold.
    DeliverLateWithoutAnswer(Hold),
    /// The request never reaches the engine. The proxy closes the connection, without an answer, when the test releases the hold.
    NeverAnswer(Hold),
    /// The proxy replaces the first text by the second one, of the same length, everywhere in the answer.
    ReplaceInAnswer(&'static str, &'static str),
}

/// Returns the fault of a request from the request line.
type Rule = dyn Fn(&str) -> Option<Fault> + Send + Sync;

/// The proxy; it is closed when it is dropped.
pub struct FaultyEngine {
    server: Server,
    rule: Arc<Mutex<Arc<Rule>>>,
}

impl FaultyEngine {
    /// A proxy in front of the engine at this socket. Without a rule, it forwards every request.
    pub fn in_front_of(socket: PathBuf) -> Self {
        let rule: Arc<Mutex<Arc<Rule>>> = Arc::new(Mutex::new(Arc::new(|_: &str| None)));
        let shared_rule = Arc::clone(&rule);
        let server = Server::listen("127.0.0.1:0", move |connection| {
            let Some(request) = read_request(&connection.stream) else {
                return;
            };
            let line = request.split(|byte| *byte == b'\r').next();
            let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
            let rule = Arc::clone(&shared_rule.lock().expect("a rule"));
            let mut client = &*connection.stream;
            let answer = match rule(&line) {
                None => forward(&socket, &request),
                Some(Fault::Refuse(status, message)) => {
                    let body = format!("{{\"message\":\"{message}\"}}");
                    let head = format!(
                        "HTTP/1.1 {status} No\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    (head + &body).into_bytes()
                }
                Some(Fault::LoseAnswer) => {
                    forward(&socket, &request);
                    return;
                }
                Some(Fault::DeliverLateWithoutAnswer(hold)) => {
                    let _ = connection.stream.shutdown(Shutdown::Both);
                    connection.wait_for(&hold);
                    forward(&socket, &request);
                    return;
                }
                Some(Fault::NeverAnswer(hold)) => {
                    connection.wait_for(&hold);
                    return;
                }
                Some(Fault::ReplaceInAnswer(from, to)) => {
                    assert_eq!(
                        from.len(),
                        to.len(),
                        "the answer must keep its content-length"
                    );
                    let mut answer = forward(&socket, &request);
                    let (from, to) = (from.as_bytes(), to.as_bytes());
                    for start in 0..answer.len() {
                        if answer[start..].starts_with(from) {
                            answer[start..start + to.len()].copy_from_slice(to);
                        }
                    }
                    answer
                }
            };
            let _ = client.write_all(&answer);
        });
        Self { server, rule }
    }

    /// The value for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("tcp://{}", self.server.address())
    }

    /// From now on, each request has the fault that the rule gives for its first line.
    pub fn set_rule(&self, rule: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static) {
        *self.rule.lock().expect("a rule") = Arc::new(rule);
    }
}

/// A request with its body, changed so that the engine closes the connection after its answer.
fn read_request(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut chunk = [0; 8 * 1024];
    loop {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&chunk[..count]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let length = lines.find(|(name, _)| *name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse().expect("a length"));
        if request.len() >= end + 4 + length {
            let close = b"\r\nconnection: close";
            request.splice(end..end, close.iter().copied());
            return Some(request);
        }
    }
}

/// Sends a request to the engine; returns the whole answer, which is empty if the engine does not answer.
fn forward(socket: &PathBuf, request: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    if let Ok(mut engine) = UnixStream::connect(socket) {
        let _ = engine.write_all(request);
        let _ = engine.read_to_end(&mut answer);
    }
    answer
}
