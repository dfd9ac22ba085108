//! The Machines API of Fly as its description and its users say that it behaves. Machines are real workers.
//!
//! Each of its oddities can be switched on. Requests that the description does not allow are rejected and fail the
//! test, as do requests that come more often than the limits allow.

mod description;
mod machines;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::server::{Connection, Server};
use crate::support::wait_until;
use description::check_create;
use machines::Machine;

pub const APP: &str = "workers";
pub const TOKEN: &str = "fo1_the-token-of-the-test";
const DIGEST: &str = "sha256:597c3e12f830132be2aa69b4c0deccb0657ea4253e6d59c6f38e41e9f69a0add";
/// Requests are late by different times, so some arrive closer together than they were sent.
const TOLERANCE: Duration = Duration::from_millis(300);

/// What happens to a request for a machine, instead of what should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// 408, and whether there is a machine.
    TimesOut { is_made: bool },
    /// The connection closes without an answer, and whether there is a machine.
    Closes { is_made: bool },
    /// 500, and whether there is a machine.
    Fails { is_made: bool },
    /// 201 with something else than JSON; the machine is made.
    Garbage,
    /// 429 with a `Retry-After` of so many seconds.
    TooSoon(u64),
    /// The machine stays in the state `created`.
    Stuck,
    /// The machine starts after a while.
    Late(Duration),
}

/// Where the exit event has the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExitPlace {
    #[default]
    Request,
    MonitorEvent,
    /// `request` is null.
    Null,
    /// There is no event.
    Missing,
}

/// What the API does differently.
#[derive(Default)]
pub struct Oddities {
    /// For the next requests for machines, in order.
    pub creates: VecDeque<Create>,
    /// The answers to requests for machines in regions without room.
    pub full_regions: BTreeMap<String, (u16, &'static str)>,
    /// A taken name is answered with 422 instead of 409.
    pub is_clash_422: bool,
    /// How many lists are empty although there are machines.
    pub empty_lists: usize,
    pub exit_place: ExitPlace,
    /// The exit code that every machine has, whatever its worker's was.
    pub exit_code: Option<i32>,
    pub is_out_of_memory: bool,
    /// The answer to every request.
    pub answer: Option<(u16, &'static str)>,
    /// Connections are closed without an answer.
    pub is_away: bool,
}

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub action: &'static str,
    pub body: Value,
    pub status: u16,
}

#[derive(Default)]
struct State {
    machines: Vec<Machine>,
    secrets: BTreeMap<String, String>,
    secrets_version: u64,
    exchanges: Vec<Exchange>,
    violations: Vec<String>,
    /// When each action has its next requests free, by action and identifier.
    limits: HashMap<String, Instant>,
}

struct Shared {
    state: Mutex<State>,
    oddities: Mutex<Oddities>,
}

/// A listening API; its machines end when it is dropped.
pub struct FlyApi {
    server: Server,
    shared: Arc<Shared>,
}

struct Request {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    authorization: String,
    body: Value,
}

/// What to send; `None` closes the connection.
type Answer = Option<(u16, Vec<(&'static str, String)>, String)>;

impl FlyApi {
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            oddities: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let server = Server::listen("127.0.0.1:0", move |connection| serve(&serving, connection));
        Self { server, shared }
    }

    /// `FLY_FLAPS_BASE_URL`
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Switches oddities on or off.
    pub fn odd(&self, change: impl FnOnce(&mut Oddities)) -> &Self {
        change(&mut self.shared.oddities());
        self
    }

    /// The exchanges so far, of one action.
    pub fn exchanges(&self, action: &str) -> Vec<Exchange> {
        let mut exchanges = self.shared.state().exchanges.clone();
        exchanges.retain(|exchange| exchange.action == action);
        exchanges
    }

    /// The names of the machines that are not destroyed.
    pub fn living(&self) -> Vec<String> {
        let state = self.shared.state();
        let living = state.machines.iter().filter(|machine| machine.is_living());
        living.map(|machine| machine.name.clone()).collect()
    }

    /// How many machines there ever were.
    pub fn made(&self) -> usize {
        self.shared.state().machines.len()
    }

    pub fn secrets(&self) -> Vec<String> {
        self.shared.state().secrets.keys().cloned().collect()
    }

    /// A machine that is not of any dispatch.
    pub fn add_foreign_machine(&self, name: &str) {
        let mut state = self.shared.state();
        let number = state.machines.len();
        state.machines.push(Machine::foreign(number, name));
    }

    /// Kills a machine; the API says nothing about how it ended.
    pub fn lose_machines(&self) {
        for machine in &mut self.shared.state().machines {
            machine.lose();
        }
    }

    #[track_caller]
    pub fn wait_for_machines(&self, count: usize) {
        wait_until("machines", || self.living().len() == count);
    }

    /// Asserts that nothing of a dispatch is left, and that every request was allowed.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.living(), [""; 0]);
        assert_eq!(self.secrets(), [""; 0]);
        self.assert_allowed();
    }

    #[track_caller]
    pub fn assert_allowed(&self) {
        let violations = self.shared.state().violations.clone();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

impl Drop for FlyApi {
    fn drop(&mut self) {
        for machine in &mut self.shared.state().machines {
            machine.destroy();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oddities(&self) -> MutexGuard<'_, Oddities> {
        self.oddities.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(shared: &Arc<Shared>, connection: &Connection) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(connection, &mut buffer) {
        let Some((status, headers, body)) = answer(shared, connection, &request) else {
            let _ = connection.stream.shutdown(Shutdown::Both);
            return;
        };
        let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.extend([name, ": ", &value, "\r\n"]);
        }
        let text = format!("{head}\r\n{body}");
        if (&*connection.stream).write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(shared: &Arc<Shared>, connection: &Connection, request: &Request) -> Answer {
    if shared.oddities().is_away {
        return None;
    }
    let whole = shared.oddities().answer;
    if let Some((status, body)) = whole {
        return Some((status, Vec::new(), body.to_owned()));
    }
    let (action, id) = match action_of(request) {
        Ok(found) => found,
        Err(what) => {
            let line = format!("{} {}: {what}", request.method, request.path);
            shared.state().violations.push(line);
            return error(404, "not found");
        }
    };
    if request.authorization != format!("Bearer {TOKEN}") {
        return error(401, "Authenticate: token validation error");
    }
    let pause = shared.state().limit(action, id);
    let answer = match pause {
        Some(seconds) => too_soon(seconds),
        None => act(shared, connection, request, action, id),
    };
    let status = answer.as_ref().map_or(0, |(status, ..)| *status);
    shared.state().exchanges.push(Exchange {
        action,
        body: request.body.clone(),
        status,
    });
    answer
}

/// The action of a request, and the machine that it is about.
fn action_of(request: &Request) -> Result<(&'static str, &str), String> {
    let rest = request.path.strip_prefix("/v1/apps/").ok_or("no app")?;
    let parts: Vec<&str> = rest.split('/').collect();
    let (action, id, parameters): (_, _, &[&str]) = match (request.method.as_str(), &parts[1..]) {
        ("GET", []) => ("app", "", &[]),
        ("GET", ["machines"]) => ("list", "", &["include_deleted", "metadata.", "region"]),
        ("POST", ["machines"]) => ("create", "", &[]),
        ("GET", ["machines", id]) => ("get", *id, &[]),
        ("DELETE", ["machines", id]) => ("destroy", *id, &["force"]),
        ("POST", ["machines", id, "stop"]) => ("stop", *id, &[]),
        ("GET", ["machines", id, "wait"]) => ("wait", *id, &["state", "timeout", "instance_id"]),
        ("GET", ["secrets"]) => ("secrets", "", &["min_version", "show_secrets"]),
        ("POST", ["secrets"]) => ("set secrets", "", &[]),
        _ => return Err("the API has no such request".to_owned()),
    };
    for (name, _) in &request.query {
        let is_known =
            |known: &&str| name == known || known.ends_with('.') && name.starts_with(*known);
        if !parameters.iter().any(is_known) {
            return Err(format!("the request has no parameter {name}"));
        }
    }
    Ok((action, id))
}

fn act(
    shared: &Arc<Shared>,
    connection: &Connection,
    request: &Request,
    action: &str,
    id: &str,
) -> Answer {
    if request.path.split('/').nth(3) != Some(APP) {
        return error(404, "App not found");
    }
    match action {
        "app" => ok(&json!({ "id": "a1", "name": APP, "status": "deployed" })),
        "create" => return create(shared, &request.body),
        "list" => list(shared, request),
        "get" => shared.about(id, |machine| ok(&machine.describe())),
        "wait" => return wait(shared, connection, request, id),
        "stop" => stop(shared, &request.body, id),
        "destroy" => shared.about(id, |machine| {
            machine.destroy();
            ok(&json!({ "ok": true }))
        }),
        "secrets" => {
            let state = shared.state();
            let names = state
                .secrets
                .keys()
                .map(|name| json!({ "name": name, "digest": "d" }));
            ok(&json!({ "secrets": names.collect::<Vec<_>>() }))
        }
        _ => shared.state().set_secrets(&request.body),
    }
}

fn create(shared: &Arc<Shared>, body: &Value) -> Answer {
    if let Err(what) = check_create(body) {
        shared.state().violations.push(format!("create: {what}"));
        return error(422, &format!("invalid machine: {what}"));
    }
    let (oddity, is_clash_422, full) = {
        let mut oddities = shared.oddities();
        let region = body["region"].as_str().unwrap_or_default();
        let full = oddities.full_regions.get(region).copied();
        let oddity = if full.is_none() {
            oddities.creates.pop_front()
        } else {
            None
        };
        (oddity, oddities.is_clash_422, full)
    };
    if let Some((status, body)) = full {
        return Some((status, Vec::new(), body.to_owned()));
    }
    if let Some(Create::TooSoon(seconds)) = oddity {
        return too_soon(seconds);
    }
    let is_made = !matches!(
        oddity,
        Some(
            Create::TimesOut { is_made: false }
                | Create::Closes { is_made: false }
                | Create::Fails { is_made: false }
        )
    );
    let mut made = Value::Null;
    if is_made {
        let mut state = shared.state();
        let name = body["name"].as_str().unwrap_or_default();
        let living = state
            .machines
            .iter()
            .find(|other| other.is_living() && other.name == name);
        if let Some(other) = living {
            let code = if is_clash_422 { 422 } else { 409 };
            let id = &other.id;
            return error(
                code,
                &format!(
                    "already_exists: unique machine name violation, machine ID {id} already exists with name \"{name}\""
                ),
            );
        }
        let version = body["min_secrets_version"].as_u64().unwrap_or_default();
        if version > state.secrets_version {
            return error(
                412,
                &format!("min_secrets_version {version} is not yet available on this app"),
            );
        }
        let machine = Machine::new(state.machines.len(), body, &state.secrets, DIGEST);
        made = machine.describe();
        let number = state.machines.len();
        state.machines.push(machine);
        drop(state);
        match oddity {
            Some(Create::Stuck) => {}
            Some(Create::Late(time)) => machines::start(shared, number, time),
            _ => machines::start(shared, number, Duration::ZERO),
        }
    }
    match oddity {
        Some(Create::TimesOut { .. }) => error(408, "deadline_exceeded: request timed out"),
        Some(Create::Fails { .. }) => error(500, "internal: server error"),
        Some(Create::Closes { .. }) => None,
        Some(Create::Garbage) => Some((201, Vec::new(), "<html>made</html>".to_owned())),
        _ => ok(&made),
    }
}

fn list(shared: &Arc<Shared>, request: &Request) -> Answer {
    {
        let mut oddities = shared.oddities();
        if oddities.empty_lists > 0 {
            oddities.empty_lists -= 1;
            return ok(&json!([]));
        }
    }
    let parameter = |name: &str| request.query.iter().find(|(known, _)| known == name);
    let with_destroyed = parameter("include_deleted").is_some_and(|(_, value)| value == "true");
    let filters = request.query.iter().filter_map(|(name, value)| {
        let key = name.strip_prefix("metadata.")?;
        Some((key.to_owned(), value.clone()))
    });
    let filters: Vec<(String, String)> = filters.collect();
    let state = shared.state();
    let machines = state.machines.iter().filter(|machine| {
        (with_destroyed || machine.is_living()) && machine.has_metadata(&filters)
    });
    ok(&machines.map(Machine::describe).collect())
}

fn wait(shared: &Arc<Shared>, connection: &Connection, request: &Request, id: &str) -> Answer {
    let parameter = |name: &str| request.query.iter().find(|(known, _)| known == name);
    let seconds = parameter("timeout").and_then(|(_, value)| value.parse().ok());
    let seconds: u64 = seconds.unwrap_or(60);
    let state = parameter("state").map_or("started", |(_, value)| value.as_str());
    if !(1..=60).contains(&seconds) || state != "destroyed" {
        shared
            .state()
            .violations
            .push(format!("wait for {state} within {seconds} s"));
        return error(400, "invalid wait");
    }
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let is_over = shared.about(id, |machine| {
            if machine.is_living() {
                None
            } else {
                ok(&json!({ "ok": true }))
            }
        });
        if is_over.is_some() {
            return is_over;
        }
        if Instant::now() > deadline {
            return error(
                408,
                "deadline_exceeded: machine failed to reach desired state, destroyed",
            );
        }
        connection.pause(Duration::from_millis(10));
    }
}

fn stop(shared: &Arc<Shared>, body: &Value, id: &str) -> Answer {
    let known = body.as_object().is_some_and(|body| {
        let is_text = body.values().all(Value::is_string);
        is_text && body.keys().all(|key| key == "signal" || key == "timeout")
    });
    if !known || body["signal"] != "SIGTERM" {
        shared.state().violations.push(format!("stop: {body}"));
        return error(400, "invalid stop");
    }
    shared.about(id, |machine| {
        if machine.state != "started" {
            return error(412, "failed_precondition: machine is not started");
        }
        machine.terminate();
        ok(&json!({ "ok": true }))
    })
}

impl Shared {
    fn about(&self, id: &str, act: impl FnOnce(&mut Machine) -> Answer) -> Answer {
        let mut state = self.state();
        match state.machines.iter_mut().find(|machine| machine.id == id) {
            Some(machine) => act(machine),
            None => error(404, "machine not found"),
        }
    }
}

impl State {
    fn set_secrets(&mut self, body: &Value) -> Answer {
        let values = body.as_object().filter(|body| body.len() == 1);
        let Some(values) = values.and_then(|body| body.get("values")?.as_object()) else {
            self.violations.push(format!("set secrets: {body}"));
            return error(400, "invalid secrets");
        };
        for (name, value) in values {
            match value.as_str() {
                Some(value) => self.secrets.insert(name.clone(), value.to_owned()),
                None => self.secrets.remove(name),
            };
        }
        self.secrets_version += 1;
        ok(&json!({ "secrets": [], "version": self.secrets_version }))
    }

    /// How many seconds a request must wait, if it comes too soon.
    fn limit(&mut self, action: &str, id: &str) -> Option<u64> {
        let (per_second, burst) = match action {
            "get" | "app" => (5, 10),
            "wait" => return None,
            _ => (1, 3),
        };
        let interval = Duration::from_secs(1) / per_second;
        let key = if matches!(action, "get" | "app") {
            action.to_owned()
        } else {
            format!("{action} {id}")
        };
        let now = Instant::now();
        let full_at = self
            .limits
            .get(&key)
            .map_or(now, |full_at| (*full_at).max(now))
            + interval;
        if full_at > now + interval * burst + TOLERANCE {
            self.violations
                .push(format!("{action} {id}: too many requests"));
            return Some(1);
        }
        self.limits.insert(key, full_at);
        None
    }
}

fn ok(body: &Value) -> Answer {
    Some((200, Vec::new(), body.to_string()))
}

fn error(status: u16, what: &str) -> Answer {
    Some((status, Vec::new(), json!({ "error": what }).to_string()))
}

fn too_soon(seconds: u64) -> Answer {
    let headers = vec![("retry-after", seconds.to_string())];
    let body = json!({ "error": "rate limit exceeded" });
    Some((429, headers, body.to_string()))
}

/// Reads one request; `None` if the connection ends.
fn read_request(connection: &Connection, buffer: &mut Vec<u8>) -> Option<Request> {
    let more = |buffer: &mut Vec<u8>| {
        let mut chunk = [0; 8 * 1024];
        let count = (&*connection.stream)
            .read(&mut chunk)
            .ok()
            .filter(|count| *count > 0)?;
        buffer.extend_from_slice(&chunk[..count]);
        Some(())
    };
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = request.parse(buffer) {
            let header = |name: &str| {
                let header = request
                    .headers
                    .iter()
                    .find(|header| header.name.eq_ignore_ascii_case(name));
                header.map(|header| String::from_utf8_lossy(header.value).into_owned())
            };
            let length = header("content-length").map_or(0, |text| text.parse().expect("a length"));
            let target = request.path.expect("a path").to_owned();
            let (method, authorization) = (
                request.method.expect("a method").to_owned(),
                header("authorization"),
            );
            while buffer.len() < head + length {
                more(buffer)?;
            }
            let rest = buffer.split_off(head + length);
            let body = serde_json::from_slice(&buffer[head..]).unwrap_or_default();
            *buffer = rest;
            let url = reqwest::Url::parse(&format!("http://x{target}")).expect("a target");
            return Some(Request {
                method,
                path: url.path().to_owned(),
                query: url.query_pairs().into_owned().collect(),
                authorization: authorization.unwrap_or_default(),
                body,
            });
        }
        more(buffer)?;
    }
}
