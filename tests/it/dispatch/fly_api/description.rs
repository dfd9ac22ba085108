//! The request for a machine, as Fly's description of the API defines it. Unknown fields are rejected.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the description has more fields than the checks below look at"
)]
struct CreateMachine {
    name: Option<String>,
    region: Option<String>,
    config: Config,
    min_secrets_version: Option<u64>,
    lease_ttl: Option<u64>,
    lsvd: Option<bool>,
    skip_launch: Option<bool>,
    skip_secrets: Option<bool>,
    skip_service_registration: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the description has more fields than the checks below look at"
)]
struct Config {
    image: String,
    auto_destroy: Option<bool>,
    env: Option<BTreeMap<String, String>>,
    files: Option<Vec<File>>,
    guest: Option<Guest>,
    init: Option<Init>,
    metadata: Option<BTreeMap<String, String>>,
    processes: Option<Vec<Process>>,
    restart: Option<Restart>,
    schedule: Option<String>,
    stop_config: Option<StopConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the description has more fields than the checks below look at"
)]
struct File {
    guest_path: String,
    raw_value: Option<String>,
    secret_name: Option<String>,
    mode: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guest {
    cpu_kind: String,
    cpus: u64,
    memory_mb: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the description has more fields than the checks below look at"
)]
struct Init {
    exec: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    tty: Option<bool>,
    swap_size_mb: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the description has more fields than the checks below look at"
)]
struct Process {
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
    exec: Option<Vec<String>>,
    ignore_app_secrets: Option<bool>,
    secrets: Option<Vec<Secret>>,
    user: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    env_var: String,
    #[expect(dead_code, reason = "the name may be left out")]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the description has more fields than the checks below look at"
)]
struct Restart {
    policy: String,
    max_retries: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopConfig {
    signal: String,
    timeout: String,
}

/// Checks a request for a machine; the error says which part is not allowed.
pub fn check_create(body: &Value) -> Result<(), String> {
    let request: CreateMachine =
        serde_json::from_value(body.clone()).map_err(|error| error.to_string())?;
    let name = request.name.unwrap_or_default();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    require(name.len() <= 63 && name.chars().all(is_name), "the name")?;
    let config = request.config;
    require(!config.image.is_empty(), "the image")?;
    // Without `auto_destroy`, the machine would stay after its end; without this restart policy, the worker would run twice.
    require(config.auto_destroy == Some(true), "auto_destroy")?;
    require(
        config.restart.is_some_and(|restart| restart.policy == "no"),
        "restart",
    )?;
    let stop = config.stop_config.ok_or("there is no stop_config")?;
    require(stop.signal == "SIGTERM", "the stop signal")?;
    let seconds = stop
        .timeout
        .strip_suffix('s')
        .and_then(|text| text.parse::<u64>().ok());
    require(
        seconds.is_some_and(|seconds| (1..=300).contains(&seconds)),
        "the stop timeout",
    )?;
    let guest = config.guest.ok_or("there is no guest")?;
    let (counts, per_cpu): (&[u64], _) = match guest.cpu_kind.as_str() {
        "shared" => (&[1, 2, 4, 6, 8], 256..=2048),
        "performance" => (&[1, 2, 4, 6, 8, 10, 12, 14, 16], 2048..=8192),
        other => return Err(format!("the kind of CPUs {other}")),
    };
    require(counts.contains(&guest.cpus), "the number of CPUs")?;
    let range = per_cpu.start() * guest.cpus..=per_cpu.end() * guest.cpus;
    require(
        range.contains(&guest.memory_mb) && guest.memory_mb % 256 == 0,
        "the memory",
    )?;
    let secrets = config.processes.into_iter().flatten();
    let secrets = secrets.flat_map(|process| process.secrets.unwrap_or_default());
    let is_variable = |c: char| c.is_ascii_alphanumeric() || c == '_';
    require(
        { secrets }.all(|secret| secret.env_var.chars().all(is_variable)),
        "a variable of a secret",
    )
}

fn require(is_right: bool, what: &str) -> Result<(), String> {
    is_right
        .then_some(())
        .ok_or_else(|| format!("{what} is not allowed"))
}
