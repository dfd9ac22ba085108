//! The model gateway in a run: whether it is started, and what its failures mean for the run.

use std::time::Duration;

use super::agent;
use super::failures::stop_failure;
use super::run::Run;
use crate::environment::{Variables, value_of, variable};
use crate::gateway::{Gateway, GatewayFailure, Mode, services_behind_gateway};
use crate::model::ServiceAccess;
use crate::task::{Failure, Reason};

/// How long the agent may still run after its limit is used up: enough to save a session and to print why it ends.
const LIMIT_GRACE: Duration = Duration::from_secs(5);
/// The variables whose values are addresses of proxies.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// The variables with the hosts that need no proxy.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
const LOOPBACK: &str = "127.0.0.1";

/// Starts the gateway for an agent of this kind, if there is a credential for the gateway.
///
/// # Errors
/// If the run must end early, if the gateway cannot be started, or if `DESCARTES_MAX_TOKENS` is set and the gateway cannot
/// enforce it.
pub async fn start(run: &Run<'_>, kind: &str) -> Result<Option<Gateway>, Failure> {
    let settings = &run.settings.agent;
    check_limits(settings, kind)?;
    let access = &settings.model_access;
    let behind_gateway = services_behind_gateway(access, settings.gateway.mode);
    if behind_gateway.is_empty() {
        let mut services = access.services.iter();
        let has_subscription =
            access.oauth_token.is_some() || services.any(ServiceAccess::is_subscription);
        if settings.gateway.mode == Mode::Auto && has_subscription {
            tracing::info!(
                "the model gateway is off, because the token of a subscription is for Claude Code only; the agent can read it"
            );
        }
        return Ok(None);
    }
    let environment = &run.settings.environment;
    let started = Gateway::start(
        access,
        &settings.gateway,
        settings.limits,
        environment,
        run.progress,
    );
    let started = tokio::select! {
        started = started => started,
        reason = run.stop.wait_until_requested() => return Err(stop_failure(&reason)),
    };
    let gateway = started.map_err(|error| Failure {
        retryable: true,
        ..Failure::from_error(Reason::AgentFailed, &error)
    })?;
    Ok(Some(gateway))
}

/// Checks that a limit of tokens can be enforced. Only the gateway can enforce it, and only for the services whose
/// credentials it keeps.
///
/// # Errors
/// If `DESCARTES_MAX_TOKENS` is set, but there is no credential that a gateway can keep for the services that an agent
/// of this kind uses.
pub fn check_limits(settings: &agent::Settings, kind: &str) -> Result<(), Failure> {
    let behind_gateway = services_behind_gateway(&settings.model_access, settings.gateway.mode);
    let provider = agent::only_provider(kind);
    let is_enforced = match provider {
        Some(provider) => behind_gateway
            .iter()
            .any(|service| service.provider == provider),
        None => !behind_gateway.is_empty(),
    };
    if settings.limits.tokens.is_none() || is_enforced {
        return Ok(());
    }
    let why = match (settings.gateway.mode, provider) {
        (Mode::Off, _) => "DESCARTES_MODEL_GATEWAY is off".to_owned(),
        (Mode::Auto, Some(provider)) => format!(
            "there is no key or token of {} that the model gateway can keep, and the agent {kind} uses no other service",
            provider.name
        ),
        (Mode::Auto, None) => "there is no key or token that the model gateway can keep".to_owned(),
    };
    Err(Failure::new(
        Reason::AgentNotFound,
        format!("DESCARTES_MAX_TOKENS cannot be enforced, because {why}"),
    ))
}

/// Waits until the worker must end the agent because of its gateway. Waits forever if there is no gateway.
pub async fn wait_until_agent_cannot_go_on(gateway: Option<&Gateway>) {
    let Some(gateway) = gateway else {
        return std::future::pending().await;
    };
    match gateway.wait_for_failure().await {
        GatewayFailure::LimitReached(_) => tokio::time::sleep(LIMIT_GRACE).await,
        GatewayFailure::Ended => {}
    }
}

/// The failure of a run that a failure of the gateway ended.
pub fn failure(gateway_failure: GatewayFailure) -> Failure {
    match gateway_failure {
        GatewayFailure::LimitReached(why) => Failure::new(Reason::LimitReached, why),
        GatewayFailure::Ended => Failure {
            retryable: true,
            ..Failure::new(
                Reason::ApiError,
                "the model gateway ended before the agent did, so the agent could not reach its model any \
                 more; a process of the agent may have killed it",
            )
        },
    }
}

/// Adds to the causes of an API error why the gateway could not reach the model's service.
pub fn add_gateway_causes(failure: Failure, gateway: &Gateway) -> Failure {
    let mut failure = failure;
    if failure.reason == Reason::ApiError {
        failure.causes.extend(gateway.unreachable());
    }
    failure
}

/// Keeps the agent's requests to the gateway away from proxies.
pub fn exempt_from_proxies(environment: &mut Variables) {
    if PROXIES
        .iter()
        .all(|name| value_of(environment, name).is_none())
    {
        return;
    }
    for name in NO_PROXY {
        let hosts = value_of(environment, name).map(|hosts| hosts.to_string_lossy().into_owned());
        let hosts = hosts.filter(|hosts| !hosts.is_empty());
        let hosts = hosts.map_or_else(
            || LOOPBACK.to_owned(),
            |hosts| format!("{hosts},{LOOPBACK}"),
        );
        environment.retain(|(known, _)| known != name);
        environment.push(variable(name, hosts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_added_to_the_hosts_without_a_proxy() {
        let mut environment = vec![variable("PATH", "/bin")];
        exempt_from_proxies(&mut environment);
        assert_eq!(environment, [variable("PATH", "/bin")]);
        environment.push(variable("HTTP_PROXY", "http://proxy.example"));
        environment.push(variable("no_proxy", "a.example"));
        exempt_from_proxies(&mut environment);
        let value = |name| {
            value_of(&environment, name)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(value("NO_PROXY"), "127.0.0.1");
        assert_eq!(value("no_proxy"), "a.example,127.0.0.1");
    }
}
