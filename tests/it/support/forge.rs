//! A git server over HTTP with basic authentication: `git http-backend` and Git LFS behind a small server that
//! records every request with its `Authorization`.
//!
//! Blocking sockets, one connection per request. A test can make the server refuse, redirect, or stop in the
//! middle of a transfer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;

use super::lfs;
use super::server::{Connection, Server};

/// How the server answers requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerBehavior {
    /// Answers as a git server does.
    Serve,
    /// Every answer is 401, even with the right credentials.
    RejectCredentials,
    /// Every answer is a redirect to another base URL.
    Redirect(String),
    /// An answer to a POST stops after this many bytes, and the connection stays open.
    StallAfterBytes(usize),
    /// Connections are closed without an answer.
    CloseConnections,
}

/// A request that the server got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    /// Method and target, for example `GET /project.git/HEAD`.
    pub line: String,
    /// The value of the header `Authorization`.
    pub authorization: Option<String>,
}

struct State {
    behavior: ServerBehavior,
    /// Replaces `behavior` for pushes.
    behavior_for_pushes: Option<ServerBehavior>,
    requests: Vec<RecordedRequest>,
    /// Connections that stay open without an answer.
    stalled: Vec<Arc<TcpStream>>,
}

/// A listening server; closed when its last handle is dropped.
#[derive(Clone)]
pub struct Forge {
    server: Arc<Server>,
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    token: Option<String>,
    state: Mutex<State>,
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Forge {
    /// Serves the repositories below a directory to clients that have the token.
    pub fn start(root: &Path, token: Option<&str>) -> Self {
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            token: token.map(str::to_owned),
            state: Mutex::new(State {
                behavior: ServerBehavior::Serve,
                behavior_for_pushes: None,
                requests: Vec::new(),
                stalled: Vec::new(),
            }),
        });
        let serving = Arc::clone(&shared);
        let server = Server::listen("127.0.0.1:0", move |connection| serving.serve(connection));
        let server = Arc::new(server);
        Self { server, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL below which the repositories are.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The URL of the repository `project.git`.
    pub fn url(&self) -> String {
        format!("{}/project.git", self.base_url())
    }

    pub fn set_behavior(&self, behavior: ServerBehavior) -> &Self {
        self.shared.state.lock().unwrap().behavior = behavior;
        self
    }

    pub fn set_behavior_for_pushes(&self, behavior: ServerBehavior) -> &Self {
        self.shared.state.lock().unwrap().behavior_for_pushes = Some(behavior);
        self
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.state.lock().unwrap().requests.clone()
    }
}

impl Shared {
    fn serve(&self, connection: &Connection) {
        let mut stream = &*connection.stream;
        let Some(request) = read_request(stream) else {
            return;
        };
        let authorization = request.header("authorization").map(str::to_owned);
        let behavior = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(RecordedRequest {
                line: format!("{} {}", request.method, request.target),
                authorization: authorization.clone(),
            });
            let is_push = request.target.contains("git-receive-pack");
            let behavior = state.behavior_for_pushes.clone().filter(|_| is_push);
            behavior.unwrap_or_else(|| state.behavior.clone())
        };
        let is_allowed = self.token.as_ref().is_none_or(|token| {
            let credentials = format!("x-access-token:{token}");
            let credentials = base64::engine::general_purpose::STANDARD.encode(credentials);
            authorization == Some(format!("Basic {credentials}"))
        });
        let answer = match &behavior {
            ServerBehavior::CloseConnections => return,
            ServerBehavior::Redirect(base) => {
                let location = format!("{base}{}", request.target);
                format!("HTTP/1.1 301 Moved\r\nlocation: {location}\r\n\r\n").into_bytes()
            }
            ServerBehavior::Serve | ServerBehavior::StallAfterBytes(_) if is_allowed => {
                let base = format!("http://{}", request.header("host").unwrap_or_default());
                let (method, target) = (&request.method, &request.target);
                lfs::answer(&self.root, &base, method, target, &request.body)
                    .unwrap_or_else(|| self.run_http_backend(&request))
            }
            _ => b"HTTP/1.1 401 Who\r\nwww-authenticate: Basic realm=\"forge\"\r\n\r\n".to_vec(),
        };
        match behavior {
            ServerBehavior::StallAfterBytes(after)
                if request.method == "POST" && answer.len() > after =>
            {
                let _ = stream.write_all(&answer[..after]);
                self.state
                    .lock()
                    .unwrap()
                    .stalled
                    .push(Arc::clone(&connection.stream));
            }
            _ => {
                let _ = stream.write_all(&answer);
            }
        }
    }

    /// Runs `git http-backend` as a CGI program.
    fn run_http_backend(&self, request: &Request) -> Vec<u8> {
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((&request.target, ""));
        let header = |name| request.header(name).unwrap_or_default();
        let mut child = Command::new("git")
            .arg("http-backend")
            .env_clear()
            .env("PATH", super::path())
            .env("GIT_PROJECT_ROOT", &self.root)
            .envs([("GIT_HTTP_EXPORT_ALL", "1"), ("REMOTE_USER", "somebody")])
            .envs([("PATH_INFO", path), ("QUERY_STRING", query)])
            .env("REQUEST_METHOD", &request.method)
            .env("CONTENT_TYPE", header("content-type"))
            .env("CONTENT_LENGTH", request.body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
            .env("GIT_PROTOCOL", header("git-protocol"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("git starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let body = request.body.clone();
        let writer = thread::spawn(move || {
            let _ = stdin.write_all(&body);
        });
        let output = child.wait_with_output().expect("git ends").stdout;
        writer.join().expect("a writer that does not panic");
        let text = String::from_utf8_lossy(&output);
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let status = head.lines().find_map(|line| line.strip_prefix("Status: "));
        let status = status.unwrap_or("200 OK");
        let mut answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n").into_bytes();
        answer.extend_from_slice(&output);
        answer
    }
}

/// Reads one request, with a body of known length or in chunks; `None` if the connection ends before it is complete.
fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(stream, &mut bytes)?;
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.lines();
    let mut words = lines.next()?.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let mut request = Request {
        method,
        target,
        headers: headers.collect(),
        body: Vec::new(),
    };
    let mut rest = bytes.split_off(head);
    if request.header("transfer-encoding") == Some("chunked") {
        loop {
            let end = loop {
                if let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                read_more(stream, &mut rest)?;
            };
            let size = String::from_utf8_lossy(&rest[..end]).into_owned();
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            while rest.len() < end + 2 + size + 2 {
                read_more(stream, &mut rest)?;
            }
            request
                .body
                .extend_from_slice(&rest[end + 2..end + 2 + size]);
            rest.drain(..end + 2 + size + 2);
            if size == 0 {
                return Some(request);
            }
        }
    }
    let length = request
        .header("content-length")
        .unwrap_or("0")
        .parse()
        .ok()?;
    while rest.len() < length {
        read_more(stream, &mut rest)?;
    }
    request.body = rest;
    Some(request)
}

/// Reads more bytes; `None` if the connection has ended.
fn read_more(mut stream: &TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 * 1024];
    let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
    bytes.extend_from_slice(&chunk[..count]);
    Some(())
}
