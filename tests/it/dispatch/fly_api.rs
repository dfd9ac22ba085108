//! The Machines API of Fly as its description and its users say that it behaves. Machines are real workers.
//!
//! Each of its oddities can be switched on. Requests that the description does not allow are rejected and fail the
//! test, as do requests that come more often than the limits allow.

mod creates;
mod description;
mod http;
mod machines;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::server::{Connection, Server};
use crate::support::wait_until;
use creates::create;
use http::{Request, serve};
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
    /// How many questions about a machine are answered with 404 although it is there.
    pub lost_machines: usize,
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
    rate: u32,
}

/// A listening API; its machines end when it is dropped.
pub struct FlyApi {
    server: Server,
    shared: Arc<Shared>,
}

enum Answer {
    /// The connection is closed.
    Close,
    Send {
        status: u16,
        /// `Retry-After`
        pause: Option<u64>,
        body: String,
    },
}

impl FlyApi {
    /// `rate` is how many requests of a kind are allowed in a second.
    pub fn start(rate: u32) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            oddities: Mutex::default(),
            rate,
        });
        let serving = Arc::clone(&shared);
        let server = Server::listen("127.0.0.1:0", move |connection| serve(&serving, connection));
        Self { server, shared }
    }

    /// `FLY_FLAPS_BASE_URL`
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// How many empty lists and unknown machines are left.
    pub fn oddities_left(&self) -> usize {
        let oddities = self.shared.oddities();
        oddities.empty_lists + oddities.lost_machines
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

    /// Kills all machines that run; the API says nothing about how they ended.
    pub fn lose_machines(&self) {
        for machine in &mut self.shared.state().machines {
            machine.lose();
        }
    }

    /// Kills one of the machines that run; says whether there was one.
    pub fn lose_a_machine(&self, number: usize) -> bool {
        let mut state = self.shared.state();
        let running = state
            .machines
            .iter_mut()
            .filter(|machine| machine.is_running());
        let mut running: Vec<&mut Machine> = running.collect();
        let count = running.len().max(1);
        running
            .get_mut(number % count)
            .map(|machine| machine.lose())
            .is_some()
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

fn answer(shared: &Arc<Shared>, connection: &Connection, request: &Request) -> Answer {
    if shared.oddities().is_away {
        return Answer::Close;
    }
    let whole = shared.oddities().answer;
    if let Some((status, body)) = whole {
        return send(status, body);
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
    let pause = shared.state().limit(action, id, shared.rate);
    let answer = match pause {
        Some(seconds) => too_soon(seconds),
        None => act(shared, connection, request, action, id),
    };
    let status = match &answer {
        Answer::Send { status, .. } => *status,
        Answer::Close => 0,
    };
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
        "create" => create(shared, &request.body),
        "list" => list(shared, request),
        "get" => {
            let lost = shared.oddities().lost_machines;
            shared.oddities().lost_machines = lost.saturating_sub(1);
            if lost > 0 {
                return error(404, "machine not found");
            }
            shared.about(id, |machine| ok(&machine.describe()))
        }
        "wait" => wait(shared, connection, request, id),
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
        let mut is_living = false;
        let answer = shared.about(id, |machine| {
            is_living = machine.is_living();
            ok(&json!({ "ok": true }))
        });
        if !is_living {
            return answer;
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
    fn limit(&mut self, action: &str, id: &str, rate: u32) -> Option<u64> {
        let (per_second, burst) = match action {
            "get" | "app" => (5, 10),
            "wait" => return None,
            _ => (1, 3),
        };
        let (per_second, burst) = (per_second * rate, burst * rate);
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
    send(200, &body.to_string())
}

fn error(status: u16, what: &str) -> Answer {
    send(status, &json!({ "error": what }).to_string())
}

fn send(status: u16, body: &str) -> Answer {
    Answer::Send {
        status,
        pause: None,
        body: body.to_owned(),
    }
}

fn too_soon(seconds: u64) -> Answer {
    Answer::Send {
        status: 429,
        pause: Some(seconds),
        body: json!({ "error": "rate limit exceeded" }).to_string(),
    }
}
