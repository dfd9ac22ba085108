//! The body of the request that creates a machine.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::settings::{CpuKind, FlySettings};
use super::super::spec::RunSpec;
use super::machine::{DISPATCH_KEY, RUN_KEY, TASK_KEY};
use crate::redact::names::is_secret;

/// The memory of a machine if no setting says it, in bytes.
pub const DEFAULT_MEMORY: u64 = 1 << 30;
/// The memory of a machine is a multiple of this, in MiB.
const MEMORY_STEP: u64 = 256;
/// The longest time between the stop signal and the kill that Fly allows.
pub const MAX_STOP_TIMEOUT: Duration = Duration::from_secs(300);

/// The size of a machine. The API calls it guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest {
    pub kind: CpuKind,
    pub cpus: u64,
    pub memory_mib: u64,
}

impl CpuKind {
    /// The numbers of CPUs that a machine may have, the smallest first.
    fn cpu_counts(self) -> &'static [u64] {
        match self {
            Self::Shared => &[1, 2, 4, 6, 8],
            Self::Performance => &[1, 2, 4, 6, 8, 10, 12, 14, 16],
        }
    }

    /// The minimum and the maximum memory for each CPU, in MiB.
    fn memory_per_cpu(self) -> (u64, u64) {
        match self {
            Self::Shared => (256, 2048),
            Self::Performance => (2048, 8192),
        }
    }
}

impl Guest {
    /// The smallest machine with at least this memory, in bytes, and at least these CPUs, in billionths of one. If no
    /// machine is large enough, the largest one.
    pub fn at_least(kind: CpuKind, memory: u64, nano_cpus: Option<u64>) -> Self {
        let (min_per_cpu, max_per_cpu) = kind.memory_per_cpu();
        let needed_cpus = nano_cpus.unwrap_or_default().div_ceil(1_000_000_000);
        let needed_memory = (memory.div_ceil(1 << 20)).next_multiple_of(MEMORY_STEP);
        let counts = kind.cpu_counts();
        let is_enough =
            |count: &&u64| **count >= needed_cpus && **count * max_per_cpu >= needed_memory;
        let cpus = *counts
            .iter()
            .find(is_enough)
            .unwrap_or(&counts[counts.len() - 1]);
        Self {
            kind,
            cpus,
            memory_mib: needed_memory.clamp(cpus * min_per_cpu, cpus * max_per_cpu),
        }
    }

    /// The guest as the API reads it.
    fn json(self) -> Value {
        json!({ "cpu_kind": self.kind.word(), "cpus": self.cpus, "memory_mb": self.memory_mib })
    }
}

/// The variables of a run. Everyone with access to the app can read the configurations of its machines, so these
/// contain only the `plain` variables.
#[derive(Debug, PartialEq, Eq)]
pub struct Variables {
    pub plain: Vec<(String, String)>,
    pub secret: Vec<Secret>,
}

/// A variable that becomes a secret of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// The name of the variable.
    pub variable: String,
    pub value: String,
    /// Whether the dispatcher has set the variable for this run. Otherwise all runs have the same value.
    pub is_for_one_run: bool,
}

impl Variables {
    /// The variables of the worker of a run.
    pub fn of(run: &str, spec: &RunSpec) -> Self {
        let (mut plain, mut secret) = (Vec::new(), Vec::new());
        for (variable, value) in spec.environment(run) {
            if is_secret(&variable) || may_hold_password(&value) {
                let is_for_one_run = spec.variables.iter().any(|(name, _)| *name == *variable);
                secret.push(Secret {
                    variable,
                    value,
                    is_for_one_run,
                });
            } else {
                plain.push((variable, value));
            }
        }
        Self { plain, secret }
    }
}

/// Whether the value contains a URL with a user or a query, which can hold a password or a token.
fn may_hold_password(value: &str) -> bool {
    let urls = value.split("://").skip(1);
    { urls }.any(|rest| {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        rest[..end].contains(['@', '?'])
    })
}

/// The facts for a request for a machine that the run's [`RunSpec`] does not have.
#[derive(Debug)]
pub struct MachineRequest<'a> {
    /// The id of the dispatch.
    pub dispatch: &'a str,
    pub settings: &'a FlySettings,
    /// The time between a stop signal and a kill.
    pub stop_window: Duration,
    /// The image of runs whose task needs no other one.
    pub image: &'a str,
    /// `None` if Fly chooses the region.
    pub region: Option<&'a str>,
    /// Names of variables, each with the name of the app's secret that has its value.
    pub secrets: &'a [(String, String)],
    /// The machine gets the secrets of this version or a later one.
    pub secrets_version: Option<u64>,
}

/// The body of the request that creates a machine. `plain` are the variables that are not secret.
pub fn machine_body(
    run: &str,
    spec: &RunSpec,
    plain: &[(String, String)],
    request: &MachineRequest,
) -> Value {
    let environment: Map<String, Value> = plain
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    let secrets: Vec<Value> = request
        .secrets
        .iter()
        .map(|(variable, name)| json!({ "env_var": variable, "name": name }))
        .collect();
    let task = spec.variables.iter().find(|(name, _)| name == "TASK_ID");
    let task = task.map(|(_, value)| value.to_string_lossy());
    let settings = request.settings;
    let memory = spec.memory.unwrap_or(DEFAULT_MEMORY);
    let guest = Guest::at_least(
        settings.cpu_kind,
        memory,
        spec.needs.nano_cpus.or(settings.nano_cpus),
    );
    let mut body = json!({
        "name": run,
        "config": {
            "image": spec.needs.image.as_deref().unwrap_or(request.image),
            "auto_destroy": true,
            // With the default policy, Fly would restart a worker that has failed.
            "restart": { "policy": "no" },
            "stop_config": { "signal": "SIGTERM", "timeout": stop_timeout(request.stop_window) },
            "metadata": { (DISPATCH_KEY): request.dispatch, (TASK_KEY): task, (RUN_KEY): run },
            "guest": guest.json(),
            "env": environment,
            // The worker gets the secrets of its run, and no other secrets of the app.
            "processes": [{ "ignore_app_secrets": true, "secrets": secrets }],
        },
    });
    if let Some(region) = request.region {
        body["region"] = region.into();
    }
    if let Some(version) = request.secrets_version {
        body["min_secrets_version"] = version.into();
    }
    body
}

/// The time between a stop signal and the kill, in the API's format, and in the range that the API allows.
pub fn stop_timeout(duration: Duration) -> String {
    format!("{}s", duration.min(MAX_STOP_TIMEOUT).as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn guest(kind: CpuKind, memory: u64, nano_cpus: Option<u64>) -> (u64, u64) {
        let guest = Guest::at_least(kind, memory, nano_cpus);
        (guest.cpus, guest.memory_mib)
    }

    #[test]
    fn a_machine_gets_more_cpus_when_its_memory_needs_them() {
        let shared = |memory| guest(CpuKind::Shared, memory, None);
        assert_eq!(shared(1), (1, 256));
        assert_eq!(shared(300 << 20), (1, 512));
        assert_eq!(shared(2 * GIB), (1, 2048));
        assert_eq!(shared(2 * GIB + 1), (2, 2304));
        assert_eq!(shared(16 * GIB), (8, 16_384));
        let performance = |memory| guest(CpuKind::Performance, memory, None);
        assert_eq!(performance(GIB), (1, 2048));
        assert_eq!(performance(9 * GIB), (2, 9216));
        assert_eq!(performance(128 * GIB), (16, 131_072));
    }

    #[test]
    fn a_machine_has_at_least_the_minimum_memory_of_its_cpus_and_at_most_the_size_of_the_largest_one()
     {
        assert_eq!(guest(CpuKind::Shared, 1, Some(3_500_000_000)), (4, 1024));
        assert_eq!(
            guest(CpuKind::Performance, 1, Some(3_000_000_000)),
            (4, 8192)
        );
        assert_eq!(guest(CpuKind::Shared, 99 * GIB, None), (8, 16_384));
        assert_eq!(guest(CpuKind::Shared, GIB, Some(99_000_000_000)), (8, 2048));
    }

    #[test]
    fn values_with_a_user_or_a_query_in_a_url_may_hold_a_password() {
        for secret in [
            "https://me:pw@host/x",
            "http://host/x?token=1",
            "a=b ssh://git@host",
        ] {
            assert!(may_hold_password(secret), "{secret}");
        }
        for plain in ["http://[::1]:80/api", "me@host", "what?", "https://a b@c"] {
            assert!(!may_hold_password(plain), "{plain}");
        }
    }

    #[test]
    fn the_stop_timeout_is_in_the_range_that_the_api_allows() {
        let text = |seconds| stop_timeout(Duration::from_secs(seconds));
        assert_eq!(
            [text(0), text(40), text(300), text(305)],
            ["1s", "40s", "300s", "300s"]
        );
    }
}
