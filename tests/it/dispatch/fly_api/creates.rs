//! The request for a machine, and what can go wrong with it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::description::check_create;
use super::machines::{self, Machine};
use super::requests::{error, ok, send, too_soon};
use super::{Answer, CreateFault, DIGEST, Lists, Shared};

/// Creates a machine, unless an oddity prevents that.
pub fn create(shared: &Arc<Shared>, body: &Value) -> Answer {
    if let Err(violation) = check_create(body) {
        shared
            .state()
            .violations
            .push(format!("create: {violation}"));
        return error(422, &format!("invalid machine: {violation}"));
    }
    let (fault, is_clash_422, full_region_answer) = {
        let mut oddities = shared.oddities();
        if oddities.lists == Lists::BreakSoon {
            oddities.lists = Lists::Broken;
        }
        let region = body["region"].as_str().unwrap_or_default();
        let full_region_answer = oddities.full_regions.get(region).copied();
        let fault = if full_region_answer.is_none() {
            oddities.creates.pop_front()
        } else {
            None
        };
        (fault, oddities.is_clash_422, full_region_answer)
    };
    if let Some((status, body)) = full_region_answer {
        return send(status, body);
    }
    if let Some(CreateFault::TooSoon(seconds)) = fault {
        return too_soon(seconds);
    }
    let is_created = !matches!(
        fault,
        Some(
            CreateFault::TimesOut { is_created: false }
                | CreateFault::Closes { is_created: false }
                | CreateFault::Fails { is_created: false }
        )
    );
    let mut description = Value::Null;
    if is_created {
        match add_machine(shared, body, is_clash_422) {
            Ok((number, new_description)) => {
                description = new_description;
                match fault {
                    Some(CreateFault::Stuck) => {}
                    Some(CreateFault::Late(time)) => machines::start(shared, number, time),
                    _ => machines::start(shared, number, Duration::ZERO),
                }
            }
            Err(rejection) => return rejection,
        }
    }
    match fault {
        Some(CreateFault::TimesOut { .. }) => error(408, "deadline_exceeded: request timed out"),
        Some(CreateFault::Fails { .. }) => error(500, "internal: server error"),
        Some(CreateFault::Closes { .. }) => Answer::Close,
        Some(CreateFault::Garbage) => send(201, "<html>made</html>"),
        _ => ok(&description),
    }
}

/// Adds a machine to the state; returns its number and its description, or the answer that rejects it.
fn add_machine(
    shared: &Arc<Shared>,
    body: &Value,
    is_clash_422: bool,
) -> Result<(usize, Value), Answer> {
    let mut state = shared.state();
    let name = body["name"].as_str().unwrap_or_default();
    let mut living = state.machines.iter().filter(|other| other.is_living());
    if let Some(Machine { id, .. }) = living.find(|other| other.name == name) {
        let what = format!(
            "already_exists: unique machine name violation, machine ID {id} already exists with name \"{name}\""
        );
        return Err(error(if is_clash_422 { 422 } else { 409 }, &what));
    }
    let version = body["min_secrets_version"].as_u64().unwrap_or_default();
    if version > state.secrets_version {
        let what = format!("min_secrets_version {version} is not yet available on this app");
        return Err(error(412, &what));
    }
    let number = state.machines.len();
    let machine = Machine::new(number, body, &state.secrets, DIGEST);
    let description = machine.describe();
    state.machines.push(machine);
    Ok((number, description))
}
