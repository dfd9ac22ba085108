//! The request for a machine, and what can go wrong with it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::description::check_create;
use super::machines::{self, Machine};
use super::requests::{error, ok, send, too_soon};
use super::{Answer, Create, DIGEST, Lists, Shared};

/// Makes a machine, unless an oddity is switched on.
pub fn create(shared: &Arc<Shared>, body: &Value) -> Answer {
    if let Err(what) = check_create(body) {
        shared.state().violations.push(format!("create: {what}"));
        return error(422, &format!("invalid machine: {what}"));
    }
    let (oddity, is_clash_422, full) = {
        let mut oddities = shared.oddities();
        if oddities.lists == Lists::BreakSoon {
            oddities.lists = Lists::Broken;
        }
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
        return send(status, body);
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
    let mut described = Value::Null;
    if is_made {
        match make(shared, body, is_clash_422) {
            Ok((number, made)) => {
                described = made;
                match oddity {
                    Some(Create::Stuck) => {}
                    Some(Create::Late(time)) => machines::start(shared, number, time),
                    _ => machines::start(shared, number, Duration::ZERO),
                }
            }
            Err(rejection) => return rejection,
        }
    }
    match oddity {
        Some(Create::TimesOut { .. }) => error(408, "deadline_exceeded: request timed out"),
        Some(Create::Fails { .. }) => error(500, "internal: server error"),
        Some(Create::Closes { .. }) => Answer::Close,
        Some(Create::Garbage) => send(201, "<html>made</html>"),
        _ => ok(&described),
    }
}

/// The new machine's number and description.
fn make(shared: &Arc<Shared>, body: &Value, is_clash_422: bool) -> Result<(usize, Value), Answer> {
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
    let described = machine.describe();
    state.machines.push(machine);
    Ok((number, described))
}
