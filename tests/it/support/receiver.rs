//! A fake orchestrator: records all requests, and gives the answers that a test chooses, by default 200. It uses threads and
//! blocking sockets, so that it can break a connection off after any byte.

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
pub struct ReceivedRequest {
    /// The last part of the path: `started`, `progress`, `completed`, `failed`.
    pub route: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// The body, parsed as JSON: an event of the worker, or a request to the fake model.
    pub event: Value,
    /// When the request arrived.
    pub at: Instant,
    /// The number of the connection on which the request arrived.
    pub connection: usize,
}

#[derive(Default)]
struct State {
    requests: Vec<ReceivedRequest>,
    /// For each route: the answers to its next requests.
    scripts: HashMap<String, VecDeque<Reply>>,
    /// For each route: the answer when its script is over. Without an entry, it is 200.
    defaults: HashMap<String, Reply>,
    /// How requests broke the protocol. The server's threads cannot fail a test, so they add texts
    /// here. The test fails when it reads the requests, or when [`OpenReceiver`] is dropped.
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
    fn assert_no_violations(&self) {
        let violations = self.state().violations.clone();
        assert!(
            violations.is_empty(),
            "the worker broke the protocol:\n{}",
            violations.join("\n")
        );
    }
}

/// The server and its state, which all handles of a test share. Dropping the last handle closes the server, and fails the
/// test if the worker broke the protocol.
struct OpenReceiver {
    server: Server,
    shared: Arc<Shared>,
}

impl Drop for OpenReceiver {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.shared.assert_no_violations();
        }
    }
}

/// A listening receiver; closed when its last handle is dropped. It validates every request against docs/callback.schema.json.
#[derive(Clone)]
pub struct Receiver(Arc<OpenReceiver>);

impl Receiver {
    pub fn start() -> Self {
        Self::listen("127.0.0.1:0")
    }

    /// Listens on an address, for example an IPv6 address.
    pub fn listen(address: &str) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        let server = Server::listen(address, move |connection| {
            serving.serve_and_record_panics(connection);
        });
        Self(Arc::new(OpenReceiver { server, shared }))
    }

    /// Closes the port and all connections.
    pub fn close(&self) {
        self.0.server.close();
    }

    /// Listens at the same address again, after [`Self::close`].
    pub fn reopen(&self) {
        self.0.server.reopen();
    }

    /// Waits until the connections of all requests so far are closed.
    #[track_caller]
    pub fn wait_until_all_connections_are_closed(&self) {
        self.0.server.wait_until_all_connections_are_closed();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.shared.state()
    }

    pub fn address(&self) -> SocketAddr {
        self.0.server.address()
    }

    /// The value for `CALLBACK_URL`.
    pub fn url(&self) -> String {
        format!("http://{}/api/agents/callback", self.address())
    }

    /// Sets the answers to the next requests on a route, in order.
    pub fn script(&self, route: &str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        let mut state = self.state();
        state
            .scripts
            .entry(route.to_owned())
            .or_default()
            .extend(replies);
        self
    }

    /// Sets the answer to every request on a route for which there is no scripted answer.
    pub fn set_default_reply(&self, route: &str, reply: Reply) -> &Self {
        self.state().defaults.insert(route.to_owned(), reply);
        self
    }

    /// All requests so far, in the order of their arrival.
    #[track_caller]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.0.shared.assert_no_violations();
        self.state().requests.clone()
    }

    /// All requests on one route so far.
    #[track_caller]
    pub fn requests_to(&self, route: &str) -> Vec<ReceivedRequest> {
        self.requests()
            .into_iter()
            .filter(|request| request.route == route)
            .collect()
    }

    /// Fails with all events if the requests have other routes than these.
    #[track_caller]
    pub fn assert_routes(&self, routes: &[&str]) {
        let events: Vec<Value> = self
            .requests()
            .into_iter()
            .map(|request| request.event)
            .collect();
        assert_eq!(self.routes(), routes, "{events:#?}");
    }

    /// The routes of all requests in order, without heartbeats.
    #[track_caller]
    pub fn routes(&self) -> Vec<String> {
        let routes = self.requests().into_iter().map(|request| request.route);
        routes.filter(|route| route != "progress").collect()
    }

    /// The only event on a route.
    #[track_caller]
    pub fn only_event(&self, route: &str) -> Value {
        let requests = self.requests_to(route);
        assert_eq!(requests.len(), 1, "events on /{route}: {requests:#?}");
        requests[0].event.clone()
    }

    /// Waits until `find` returns a value for the requests so far; returns this value. `what` names it in the failure message.
    #[track_caller]
    pub fn wait_for<T>(
        &self,
        what: &str,
        mut find: impl FnMut(&[ReceivedRequest]) -> Option<T>,
    ) -> T {
        let deadline = Deadline::start();
        let mut state = self.state();
        loop {
            assert!(
                state.violations.is_empty(),
                "the worker broke the protocol:\n{}",
                state.violations.join("\n")
            );
            if let Some(found) = find(&state.requests) {
                return found;
            }
            let left = deadline.left();
            assert!(
                !left.is_zero(),
                "waited too long for {what}; requests so far: {:#?}",
                state.requests
            );
            state = self.0.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the first request on a route; returns at once if there was one.
    #[track_caller]
    pub fn wait_for_first(&self, route: &str) -> ReceivedRequest {
        self.wait_for(route, |requests| {
            requests
                .iter()
                .find(|request| request.route == route)
                .cloned()
        })
    }
}

impl Shared {
    /// Serves a connection. A request that is not HTTP with JSON makes `serve` panic; that is a violation.
    fn serve_and_record_panics(&self, connection: &Connection) {
        let serve = AssertUnwindSafe(|| self.serve(connection));
        if let Err(panic) = catch_unwind(serve) {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let message = message.unwrap_or_else(|| "a panic without a message".to_owned());
            let mut state = self.state();
            state
                .violations
                .push(format!("a request that cannot be read: {message}"));
            self.changed.notify_all();
        }
    }

    fn serve(&self, connection: &Connection) {
        let mut buffer = Vec::new();
        while let Some(request) = read_request(connection, &mut buffer) {
            let reply = self.record(request);
            if send(connection, &reply).is_none() {
                break;
            }
        }
    }

    /// Records a request and chooses the answer.
    fn record(&self, request: ReceivedRequest) -> Reply {
        let mut state = self.state();
        let scripted = state
            .scripts
            .get_mut(&request.route)
            .and_then(VecDeque::pop_front);
        let reply = scripted.or_else(|| state.defaults.get(&request.route).cloned());
        let violations = schema::callback_violations(&request.event);
        state.violations.extend(violations.into_iter().map(|what| {
            format!(
                "POST /{} {what}\n  in {}",
                request.route,
                String::from_utf8_lossy(&request.body)
            )
        }));
        state.requests.push(request);
        self.changed.notify_all();
        reply.unwrap_or_else(|| Reply::json(200, "{}"))
    }
}

/// Asserts that all requests came on the first connection, except on a machine under load: there the connection may have
/// been idle for so long that the worker opened another one.
#[track_caller]
pub fn assert_one_connection(requests: &[ReceivedRequest]) {
    let one = requests.iter().all(|request| request.connection == 1);
    assert!(one || is_under_load(), "{requests:#?}");
}

/// Reads one request; `None` if the connection ends before it is complete.
pub(super) fn read_request(
    connection: &Connection,
    buffer: &mut Vec<u8>,
) -> Option<ReceivedRequest> {
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
            let body = buffer.split_off(head);
            *buffer = rest;
            let path = target.split('?').next().unwrap_or_default();
            let route = path.rsplit('/').next().unwrap_or_default().to_owned();
            let event = serde_json::from_slice(&body).expect("a worker sends JSON");
            return Some(ReceivedRequest {
                route,
                target,
                headers,
                body,
                event,
                at: Instant::now(),
                connection: connection.number,
            });
        }
        read_more(&connection.stream, buffer)?;
    }
}

/// Reads more bytes; `None` if the connection has ended.
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

/// Sends a reply; `None` if that ends the connection.
pub(super) fn send(connection: &Connection, reply: &Reply) -> Option<()> {
    let mut stream = &*connection.stream;
    match reply {
        Reply::Answer {
            status,
            headers,
            body,
        } => {
            let mut answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
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
        Reply::BreakInBody => send(connection, &Reply::BreakInBodyWithStatus(200)),
        Reply::BreakInBodyWithStatus(status) => {
            let first_half =
                format!("HTTP/1.1 {status} X\r\ncontent-length: 100\r\n\r\n{{\"half\":");
            let _ = stream.write_all(first_half.as_bytes());
            let _ = stream.shutdown(Shutdown::Both);
            None
        }
        Reply::After(delay, reply) => {
            connection.pause(*delay);
            send(connection, reply)
        }
        Reply::ThenClose(reply) => {
            send(connection, reply);
            let _ = stream.shutdown(Shutdown::Both);
            None
        }
        Reply::AfterRelease(hold, reply) => {
            connection.wait_for(hold);
            send(connection, reply)
        }
    }
}
