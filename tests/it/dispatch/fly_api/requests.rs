//! What the API does with each request, and how often it allows one.

use std::sync::Arc;

use serde_json::{Value, json};

use super::creates::create;
use super::http::Request;
use super::machines::Machine;
use super::{
    APP, Answer, Connection, Duration, Exchange, Instant, Lists, Shared, State, TOKEN, TOLERANCE,
};

pub(super) fn answer(shared: &Arc<Shared>, connection: &Connection, request: &Request) -> Answer {
    if shared.oddities().is_away {
        return Answer::Close;
    }
    let fixed_answer = shared.oddities().answer;
    if let Some((status, body)) = fixed_answer {
        return send(status, body);
    }
    let (action, id) = match action_of(request) {
        Ok(found) => found,
        Err(violation) => {
            let line = format!("{} {}: {violation}", request.method, request.path);
            shared.state().violations.push(line);
            return error(404, "not found");
        }
    };
    if request.authorization != format!("Bearer {TOKEN}") {
        return error(401, "Authenticate: token validation error");
    }
    let retry_after = shared.state().limit_rate(action, id, shared.rate);
    let answer = match retry_after {
        Some(seconds) => too_soon(seconds),
        None => perform(shared, connection, request, action, id),
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

/// Does what an allowed request asks for.
fn perform(
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
            let left = shared.oddities().false_404s;
            shared.oddities().false_404s = left.saturating_sub(1);
            if left > 0 {
                return error(404, "machine not found");
            }
            shared.with_machine(id, |machine| ok(&machine.describe()))
        }
        "wait" => wait(shared, connection, request, id),
        "stop" => stop(shared, &request.body, id),
        "destroy" => shared.with_machine(id, |machine| {
            machine.destroy();
            ok(&json!({ "ok": true }))
        }),
        "secrets" => {
            let pause = shared.oddities().secrets_pause;
            connection.pause(pause);
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
        if oddities.lists == Lists::Broken {
            return error(500, "internal: no lists");
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
        let answer = shared.with_machine(id, |machine| {
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
    let is_valid = body.as_object().is_some_and(|body| {
        let is_text = body.values().all(Value::is_string);
        is_text && body.keys().all(|key| key == "signal" || key == "timeout")
    });
    if !is_valid || body["signal"] != "SIGTERM" {
        shared.state().violations.push(format!("stop: {body}"));
        return error(400, "invalid stop");
    }
    shared.with_machine(id, |machine| {
        if machine.state != "started" {
            return error(412, "failed_precondition: machine is not started");
        }
        machine.terminate();
        ok(&json!({ "ok": true }))
    })
}

impl Shared {
    /// Calls the function with a machine; answers 404 if there is none with this id.
    fn with_machine(&self, id: &str, act: impl FnOnce(&mut Machine) -> Answer) -> Answer {
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

    /// Counts a request; returns how many seconds it must wait if it comes too soon. Each action has the rate limit of the
    /// real API, multiplied by `rate`.
    fn limit_rate(&mut self, action: &str, id: &str, rate: u32) -> Option<u64> {
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
            .full_burst_times
            .get(&key)
            .map_or(now, |full_at| (*full_at).max(now))
            + interval;
        if full_at > now + interval * burst + TOLERANCE {
            self.violations
                .push(format!("{action} {id}: too many requests"));
            return Some(1);
        }
        self.full_burst_times.insert(key, full_at);
        None
    }
}

pub(super) fn ok(body: &Value) -> Answer {
    send(200, &body.to_string())
}

pub(super) fn error(status: u16, message: &str) -> Answer {
    send(status, &json!({ "error": message }).to_string())
}

pub(super) fn send(status: u16, body: &str) -> Answer {
    Answer::Send {
        status,
        retry_after: None,
        body: body.to_owned(),
    }
}

pub(super) fn too_soon(seconds: u64) -> Answer {
    Answer::Send {
        status: 429,
        retry_after: Some(seconds),
        body: json!({ "error": "rate limit exceeded" }).to_string(),
    }
}
