//! The worker's side: starts the gateway's process, sends it the keys, and reads its reports.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::timeout;

use super::launch::{
    Listening, PipeLines, START_TIMEOUT, StartError, configuration_line, gateway_program,
    send_keys, stderr_text_or,
};
use super::settings::{Mode, Settings};
use super::wire::{self, Report};
use crate::environment::Variables;
use crate::model::{ANTHROPIC, Access, Limits, ServiceAccess, Usage, UsageAndCost};
use crate::process::HelperProcess;
use crate::progress::Progress;

/// How long the gateway has to report its last totals.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// The reports of the gateway so far.
#[derive(Debug, Clone, Default)]
struct State {
    totals: wire::Totals,
    /// Why the gateway refused a request, if it did.
    refusal: Option<String>,
    /// Why a service could not be reached the last time that this happened.
    unreachable: Option<String>,
    has_ended: bool,
}

/// Why the agent cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayFailure {
    /// The gateway refused a request; the text says why.
    LimitReached(String),
    /// The gateway's process has ended before the agent.
    Ended,
}

/// The final report of the gateway.
#[derive(Debug)]
pub struct GatewayReport {
    /// The usage and the cost of the whole run.
    pub spent: UsageAndCost,
    /// Why the gateway refused a request, if it did.
    pub refusal: Option<String>,
}

/// A running gateway. It ends when this value is dropped.
#[derive(Debug)]
pub struct Gateway {
    process: HelperProcess,
    /// The gateway ends when this closes.
    keys_pipe: pipe::Sender,
    state: watch::Receiver<State>,
    access: Access,
}

/// The services whose credentials only the gateway gets; none if the agent gets the credentials itself.
pub fn services_behind_gateway(access: &Access, mode: Mode) -> Vec<&ServiceAccess> {
    let services = access.services.iter();
    let is_behind_gateway =
        |service: &&ServiceAccess| service.has_key() && !service.is_subscription();
    match mode {
        Mode::Auto => services.filter(is_behind_gateway).collect(),
        Mode::Off => Vec::new(),
    }
}

impl Gateway {
    /// Starts the gateway for the services that [`services_behind_gateway`] names. `environment` is the agent's.
    ///
    /// # Errors
    /// If the gateway cannot be started, or is not ready in time.
    pub async fn start(
        access: &Access,
        settings: &Settings,
        limits: Limits,
        environment: &Variables,
        progress: &Progress,
    ) -> Result<Self, StartError> {
        let services = services_behind_gateway(access, settings.mode);
        let (process, pipes) = HelperProcess::start(
            gateway_program(settings, environment).map_err(StartError::NotStarted)?,
        )
        .map_err(StartError::NotStarted)?;
        let pipes = || -> io::Result<_> {
            Ok((
                pipe::Sender::from_owned_fd(pipes.stdin.into())?,
                BufReader::new(pipe::Receiver::from_owned_fd(pipes.stdout.into())?).lines(),
                BufReader::new(pipe::Receiver::from_owned_fd(pipes.stderr.into())?).lines(),
            ))
        };
        let (mut keys_pipe, mut reports, mut stderr) = pipes().map_err(StartError::NotStarted)?;
        let configuration = configuration_line(&services, limits);
        let start = timeout(
            START_TIMEOUT,
            send_keys(&mut keys_pipe, &mut reports, &configuration),
        );
        let Listening { port, paths } = match start.await {
            Ok(Ok(listening)) => listening,
            Ok(Err(error)) => {
                let message = stderr_text_or(&mut stderr, &error).await;
                return Err(StartError::Ended { message });
            }
            Err(_) => return Err(StartError::Late),
        };
        let urls = paths
            .iter()
            .map(|path| format!("http://127.0.0.1:{port}/{path}"));
        let names: Vec<&str> = services
            .iter()
            .map(|service| service.provider.name)
            .collect();
        tracing::debug!(
            port,
            services = names.join(", "),
            "the model gateway is ready"
        );
        let services_with_urls = services.into_iter().zip(urls);
        let access = access_behind_gateway(access, services_with_urls);
        let (sender, state) = watch::channel(State::default());
        tokio::spawn(read_reports(reports, sender, progress.clone()));
        tokio::spawn(log_stderr(stderr));
        Ok(Self {
            process,
            keys_pipe,
            state,
            access,
        })
    }

    /// The addresses of the gateway and the placeholder credentials, for agents.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Why the agent cannot go on; `None` if it can.
    pub fn failure(&self) -> Option<GatewayFailure> {
        failure(&self.state.borrow())
    }

    /// Waits until the agent cannot go on.
    pub async fn wait_for_failure(&self) -> GatewayFailure {
        let mut state = self.state.clone();
        loop {
            if let Some(failure) = failure(&state.borrow_and_update()) {
                return failure;
            }
            if state.changed().await.is_err() {
                return GatewayFailure::Ended;
            }
        }
    }

    /// Why a service could not be reached the last time that this happened; `None` if it has not happened.
    pub fn unreachable(&self) -> Option<String> {
        self.state.borrow().unreachable.clone()
    }

    /// The usage and the cost that the gateway has counted so far.
    pub fn spent(&self) -> UsageAndCost {
        spent(self.state.borrow().totals)
    }

    /// Ends the gateway. Must be called after the agent has ended. Only the returned report contains the final totals.
    pub async fn end(mut self) -> GatewayReport {
        drop(self.keys_pipe);
        let ended = self.state.wait_for(|state| state.has_ended);
        if timeout(END_TIMEOUT, ended).await.is_err() {
            tracing::warn!("the model gateway did not end in time; its last totals may be missing");
        }
        self.process.end(END_TIMEOUT).await;
        let totals = self.state.borrow().totals;
        if totals.requests > 0 {
            let wire::Totals {
                requests, answers, ..
            } = totals;
            let spent = spent(totals);
            let tokens = spent.usage.map(Usage::short_text);
            let cost = spent.cost_usd;
            tracing::info!(
                requests,
                answers,
                tokens,
                cost_usd = cost,
                "the model gateway has ended"
            );
        }
        GatewayReport {
            spent: spent(totals),
            refusal: self.state.borrow().refusal.clone(),
        }
    }
}

/// The access with the gateway's URLs and placeholders for these services, instead of the services' own URLs and
/// credentials.
fn access_behind_gateway<'a>(
    access: &Access,
    services_with_urls: impl Iterator<Item = (&'a ServiceAccess, String)>,
) -> Access {
    let mut access = access.clone();
    for (service, url) in services_with_urls {
        let provider = service.provider;
        let mut services = access.services.iter_mut();
        if let Some(known) = services.find(|known| known.provider == provider) {
            *known = service.behind_gateway(&url);
        }
        if provider == &ANTHROPIC {
            // With the gateway, agents do not need the token of a subscription.
            access.oauth_token = None;
        }
    }
    access
}

/// The failure in a state, if there is one. A refusal has priority over the end of the process.
fn failure(state: &State) -> Option<GatewayFailure> {
    match &state.refusal {
        Some(why) => Some(GatewayFailure::LimitReached(why.clone())),
        None => state.has_ended.then_some(GatewayFailure::Ended),
    }
}

/// The usage and the cost in the totals. All numbers are `None` before the first answer.
fn spent(totals: wire::Totals) -> UsageAndCost {
    if totals.answers == 0 {
        return UsageAndCost::default();
    }
    UsageAndCost {
        turns: None,
        tool_calls: None,
        cost_usd: totals.cost_usd,
        usage: Some(Usage {
            input_tokens: totals.input_tokens,
            output_tokens: totals.output_tokens,
            cache_read_input_tokens: totals.cache_read_input_tokens,
            cache_creation_input_tokens: totals.cache_creation_input_tokens,
            // The gateway has calculated the cost, so no price depends on this number.
            one_hour_cache_creation_input_tokens: None,
        }),
    }
}

/// Logs the gateway's standard error as warnings.
async fn log_stderr(mut stderr: PipeLines) {
    while let Ok(Some(line)) = stderr.next_line().await {
        tracing::warn!("model gateway: {line}");
    }
}

/// Reads reports until the gateway closes its standard output, which is its end.
async fn read_reports(mut reports: PipeLines, state: watch::Sender<State>, progress: Progress) {
    while let Ok(Some(line)) = reports.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Report::Request(request)) => log_request(&request),
            Ok(Report::Totals(totals)) => {
                progress.set_gateway_totals(spent(totals));
                state.send_modify(|state| state.totals = totals);
            }
            Ok(Report::Refused { why }) => {
                tracing::warn!("the model gateway forwards no further request: {why}");
                state.send_modify(|state| state.refusal = Some(why));
            }
            Ok(Report::Unreachable { why }) => {
                tracing::warn!("the model's service gave no answer: {why}");
                state.send_modify(|state| state.unreachable = Some(why));
            }
            Ok(Report::Ready | Report::Listening { .. }) => {}
            Err(error) => tracing::warn!(%error, "a report of the model gateway cannot be read"),
        }
    }
    state.send_modify(|state| state.has_ended = true);
}

/// Logs a request, for debugging.
fn log_request(request: &wire::Request) {
    tracing::debug!(
        method = request.method,
        path = request.path,
        model = request.model,
        status = request.status,
        first_byte_ms = request.first_byte_ms,
        total_ms = request.total_ms,
        output_tokens = request.output_tokens,
        "a request went through the model gateway"
    );
}
