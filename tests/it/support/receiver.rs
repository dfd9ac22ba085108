//! A behavioural orchestrator: real sockets, a journal of everything that was said, and answers
//! that a test can make as bad as the network makes them.
//!
//! Threads and blocking sockets, so that a connection can be broken off at any byte. Unless it is
//! told otherwise it grants everything.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::patience::{Deadline, is_under_load};
pub use super::reply::{Hold, Reply};
use super::schema;
use super::server::{Connection, Server};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Said {
    /// The last part of the path: `started`, `progress`, `completed`, `failed`.
    pub route: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub bytes: Vec<u8>,
    pub event: Value,
    pub at: Instant,
    /// The connection it came on; the same number means the same connection.
    pub connection: usize,
}

#[derive(Default)]
struct State {
    said: Vec<Said>,
    scripts: HashMap<String, VecDeque<Reply>>,
    /// What a route answers when its script is over; 200 where there is nothing.
    defaults: HashMap<String, Reply>,
    /// What broke the protocol. The threads that find it out cannot fail a test, so it is written
    /// down here, and [`Owned`] and whoever asks what was said fail in the test's own thread.
    violations: Vec<String>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    #[track_caller]
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    fn assert_lawful(&self) {
        let violations = self.state().violations.clone();
        assert!(
            violations.is_empty(),
            "the worker broke the protocol:\n{}",
            violations.join("\n")
        );
    }
}

/// What the test's handles share; the last one closes the server and fails the test that never
/// asked what was said.
struct Owned {
    server: Server,
    shared: Arc<Shared>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.shared.assert_lawful();
        }
    }
}

/// A listening receiver; closed when its last handle is dropped.
///
/// Everything that it hears is held against docs/callback.schema.json.
#[derive(Clone)]
pub struct Receiver(Arc<Owned>);

impl Receiver {
    pub fn start() -> Self {
        Self::listen("127.0.0.1:0")
    }

    /// On a given address, an IPv6 one for example.
    pub fn listen(address: &str) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        let server = Server::listen(address, move |connection| serving.watched(connection));
        Self(Arc::new(Owned { server, shared }))
    }

    /// Goes down: the port is closed, and every connection breaks.
    pub fn close(&self) {
        self.0.server.close();
    }

    /// Comes up again after [`Self::close`], at the same address.
    pub fn reopen(&self) {
        self.0.server.reopen();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.shared.state()
    }

    pub fn address(&self) -> SocketAddr {
        self.0.server.address()
    }

    /// The base for `CALLBACK_URL`.
    pub fn url(&self) -> String {
        format!("http://{}/api/agents/callback", self.address())
    }

    /// Answers the next requests on a route so, one after the other.
    pub fn script(&self, route: &str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        let mut state = self.state();
        state
            .scripts
            .entry(route.to_owned())
            .or_default()
            .extend(replies);
        self
    }

    /// Answers every request on a route so, once its script is over.
    pub fn always(&self, route: &str, reply: Reply) -> &Self {
        self.state().defaults.insert(route.to_owned(), reply);
        self
    }

    /// Everything that was said so far.
    #[track_caller]
    pub fn said(&self) -> Vec<Said> {
        self.0.shared.assert_lawful();
        self.state().said.clone()
    }

    /// What was said on one route.
    #[track_caller]
    pub fn said_to(&self, route: &str) -> Vec<Said> {
        self.said()
            .into_iter()
            .filter(|said| said.route == route)
            .collect()
    }

    /// The routes in the order in which they were used, heartbeats left out.
    #[track_caller]
    pub fn story(&self) -> Vec<String> {
        let routes = self.said().into_iter().map(|said| said.route);
        routes.filter(|route| route != "progress").collect()
    }

    /// The only event on a route.
    #[track_caller]
    pub fn only(&self, route: &str) -> Value {
        let said = self.said_to(route);
        assert_eq!(said.len(), 1, "events on /{route}: {said:#?}");
        said[0].event.clone()
    }

    /// Waits until something holds of what was said; gives what it holds for.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, mut holds: impl FnMut(&[Said]) -> Option<T>) -> T {
        let deadline = Deadline::start();
        let mut state = self.state();
        loop {
            assert!(
                state.violations.is_empty(),
                "the worker broke the protocol:\n{}",
                state.violations.join("\n")
            );
            if let Some(found) = holds(&state.said) {
                return found;
            }
            let left = deadline.left();
            assert!(
                !left.is_zero(),
                "waited too long for {what}; said so far: {:#?}",
                state.said
            );
            state = self.0.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the next event on a route.
    #[track_caller]
    pub fn wait_for_one(&self, route: &str) -> Said {
        self.wait_for(route, |said| {
            said.iter().find(|said| said.route == route).cloned()
        })
    }
}

impl Shared {
    /// Serves a connection; what is no HTTP, or no JSON, is a violation too.
    fn watched(&self, connection: &Connection) {
        let serve = AssertUnwindSafe(|| self.serve(connection));
        if let Err(panic) = catch_unwind(serve) {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let what = what.unwrap_or_else(|| "a panic without a message".to_owned());
            let mut state = self.state();
            state
                .violations
                .push(format!("a request that cannot be read: {what}"));
            self.changed.notify_all();
        }
    }

    fn serve(&self, connection: &Connection) {
        let mut buffer = Vec::new();
        while let Some(said) = read_request(connection, &mut buffer) {
            let reply = self.note(said);
            if give(connection, &reply).is_none() {
                break;
            }
        }
    }

    /// Writes a request down and decides what to answer.
    fn note(&self, said: Said) -> Reply {
        let mut state = self.state();
        let scripted = state
            .scripts
            .get_mut(&said.route)
            .and_then(VecDeque::pop_front);
        let reply = scripted.or_else(|| state.defaults.get(&said.route).cloned());
        let violations = schema::violations(&said.event);
        state.violations.extend(violations.into_iter().map(|what| {
            format!(
                "POST /{} {what}\n  in {}",
                said.route,
                String::from_utf8_lossy(&said.bytes)
            )
        }));
        state.said.push(said);
        self.changed.notify_all();
        reply.unwrap_or_else(|| Reply::json(200, "{}"))
    }
}

/// Everything came on one connection. On a machine under load that may have been idle for so long that the worker does not use it
/// again.
#[track_caller]
pub fn assert_one_connection(said: &[Said]) {
    let one = said.iter().all(|said| said.connection == 1);
    assert!(one || is_under_load(), "{said:#?}");
}

/// Reads one request; nothing where the connection ends before there is a whole one.
pub(super) fn read_request(connection: &Connection, buffer: &mut Vec<u8>) -> Option<Said> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(buffer).expect("a worker speaks HTTP");
        if let httparse::Status::Complete(head) = parsed {
            let target = request.path.expect("a path").to_owned();
            let headers: HashMap<String, String> = request
                .headers
                .iter()
                .map(|header| {
                    (
                        header.name.to_lowercase(),
                        String::from_utf8_lossy(header.value).into_owned(),
                    )
                })
                .collect();
            assert_eq!(request.method, Some("POST"));
            let length: usize = headers["content-length"].parse().expect("a length");
            while buffer.len() < head + length {
                read_more(&connection.stream, buffer)?;
            }
            let rest = buffer.split_off(head + length);
            let bytes = buffer.split_off(head);
            *buffer = rest;
            let path = target.split('?').next().unwrap_or_default();
            let route = path.rsplit('/').next().unwrap_or_default().to_owned();
            let event = serde_json::from_slice(&bytes).expect("a worker says JSON");
            return Some(Said {
                route,
                target,
                headers,
                bytes,
                event,
                at: Instant::now(),
                connection: connection.number,
            });
        }
        read_more(&connection.stream, buffer)?;
    }
}

fn read_more(mut stream: &TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 8 * 1024];
    match stream.read(&mut chunk) {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            buffer.extend_from_slice(&chunk[..count]);
            Some(())
        }
    }
}

/// Gives a reply; nothing where the connection is over with it.
pub(super) fn give(connection: &Connection, reply: &Reply) -> Option<()> {
    let mut stream = &*connection.stream;
    match reply {
        Reply::Answer {
            status,
            headers,
            body,
        } => {
            let mut answer = format!(
                "HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n",
                body.len()
            );
            for (name, value) in headers {
                answer.extend([*name, ": ", value, "\r\n"]);
            }
            answer.push_str("\r\n");
            answer.push_str(body);
            stream.write_all(answer.as_bytes()).ok()
        }
        Reply::Reset => {
            let _ = connection.reset();
            None
        }
        Reply::BreakInHead => {
            let _ = stream.write_all(b"HTTP/1.1 200 O");
            let _ = stream.shutdown(Shutdown::Both);
            None
        }
        Reply::BreakInBody => give(connection, &Reply::BreakInBodyOf(200)),
        Reply::BreakInBodyOf(status) => {
            let half =
                format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 100\r\n\r\n{{\"half\":");
            let _ = stream.write_all(half.as_bytes());
            let _ = stream.shutdown(Shutdown::Both);
            None
        }
        Reply::After(delay, reply) => {
            connection.pause(*delay);
            give(connection, reply)
        }
        Reply::ThenClose(reply) => {
            give(connection, reply);
            let _ = stream.shutdown(Shutdown::Both);
            None
        }
        Reply::Held(hold, reply) => {
            connection.wait_for(hold);
            give(connection, reply)
        }
    }
}
