//! A worker whose agent waits, so that the test can be the client of the worker's model gateway.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::KEY;
use super::service::{Service, header, read_head};
use crate::support::{FinishedWorker, Project, Receiver, RunningWorker, Worker, wait_until};

/// The command of an agent that writes its environment to the file `environment`, and waits until the test writes an exit code
/// to the pipe `exit_code`.
pub const WAITING_AGENT: &str = "mkfifo exit_code && env > environment.new && mv environment.new environment && read code < exit_code && exit \"$code\"";

/// A worker whose agent waits, and the URL of its gateway.
pub struct Session {
    pub receiver: Receiver,
    pub project: Project,
    running: RunningWorker,
    /// The environment of the agent.
    pub environment: String,
}

/// An answer of the gateway.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Session {
    /// Starts the worker, with settings that `change` adds, and waits until its agent runs.
    pub fn start(service: &Service, change: impl FnOnce(Worker) -> Worker) -> Self {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker = Worker::new(&receiver, &project)
            .env("ANTHROPIC_API_KEY", KEY)
            .env("ANTHROPIC_BASE_URL", service.url())
            // The tests connect to the gateway from outside, and in some tests the agent outlives its worker.
            .env("DESCARTES_ISOLATION", "off")
            .agent(WAITING_AGENT);
        let running = change(worker).start();
        wait_until("the agent", || project.path("environment").exists());
        let environment = project.read("environment");
        Self {
            receiver,
            project,
            running,
            environment,
        }
    }

    /// The value of a variable in the agent's environment.
    #[track_caller]
    pub fn variable(&self, name: &str) -> &str {
        let prefix = format!("{name}=");
        let mut lines = self.environment.lines();
        let line = lines.find(|line| line.starts_with(&prefix));
        &line.unwrap_or_else(|| panic!("no {name} in {}", self.environment))[prefix.len()..]
    }

    /// The address and the path of the base URL in a variable.
    pub fn address_and_path(&self, name: &str) -> (String, String) {
        let url = self.variable(name).strip_prefix("http://").expect("http");
        let (address, path) = url.split_once('/').expect("a path");
        (address.to_owned(), format!("/{path}"))
    }

    /// The address of the gateway.
    pub fn address(&self) -> String {
        self.address_and_path("ANTHROPIC_BASE_URL").0
    }

    /// The secret path of the gateway.
    pub fn path(&self) -> String {
        self.address_and_path("ANTHROPIC_BASE_URL").1
    }

    /// Connects to the gateway and sends these bytes, in which `{path}` stands for the gateway's path.
    pub fn connect(&self, request: &str) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("the gateway listens");
        let request = request.replace("{path}", &self.path());
        // The gateway may close before it has read everything.
        let _ = { &stream }.write_all(request.as_bytes());
        stream
    }

    /// Like [`Self::connect`]; also reads the answer until the connection ends.
    #[track_caller]
    pub fn send(&self, request: &str) -> Answer {
        read_answer(&self.connect(request)).expect("an answer")
    }

    /// Sends a request to the Messages API.
    #[track_caller]
    pub fn ask(&self, body: &Value) -> Answer {
        self.send(&post("{path}/v1/messages", "", &body.to_string()))
    }

    /// Ends the agent with this exit code, and waits for the worker; returns the receiver and the worker.
    pub fn end(self, code: i32) -> (Receiver, FinishedWorker) {
        let _pipe = end_agent(&self.project, code);
        (self.receiver, self.running.wait())
    }

    /// Ends the agent with exit code 0, and asserts that the worker succeeds.
    pub fn end_and_assert_success(self) {
        self.end(0).1.assert_code(0);
    }

    /// Waits for the worker, which ends the agent by itself; returns the receiver and the worker.
    pub fn wait(self) -> (Receiver, FinishedWorker) {
        (self.receiver, self.running.wait())
    }

    pub fn running(&self) -> &RunningWorker {
        &self.running
    }
}

/// Ends a [`WAITING_AGENT`] with this exit code. Returns the pipe, which must stay open until the agent has ended: the
/// code is lost if the pipe is closed before the agent has opened it.
///
/// The worker may have ended the agent already. Then opening the pipe only to write would wait forever for a reader;
/// on Linux, a process can open a pipe to read and write without another process.
#[must_use]
pub fn end_agent(project: &Project, code: i32) -> fs::File {
    let mut options = fs::OpenOptions::new();
    let pipe = options
        .read(true)
        .write(true)
        .open(project.path("exit_code"));
    let mut pipe = pipe.expect("the agent has made the pipe");
    pipe.write_all(format!("{code}\n").as_bytes())
        .expect("the pipe is empty");
    pipe
}

/// The bytes of a POST request.
pub fn post(target: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads an answer to the end of the connection; `None` if the connection ends without an answer.
pub fn read_answer(mut stream: &TcpStream) -> Option<Answer> {
    let head = read_head(stream)?;
    let mut body = Vec::new();
    // If the connection breaks, the bytes before that are the body.
    let _ = stream.read_to_end(&mut body);
    let body = String::from_utf8_lossy(&body).into_owned();
    let is_chunked = header(&head, "transfer-encoding") == Some("chunked");
    let body = if is_chunked {
        decode_chunks(&body)
    } else {
        body
    };
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head, body })
}

/// Decodes a body with `transfer-encoding: chunked`.
fn decode_chunks(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16)
            .unwrap_or(0)
            .min(rest.len());
        body += &rest[..length];
        text = rest[length..].trim_start_matches("\r\n");
        if length == 0 {
            break;
        }
    }
    body
}
