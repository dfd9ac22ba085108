//! The start of the gateway's process: its command line, the keys that the worker sends to it, and its address.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::settings::{COMMAND, Settings};
use super::wire::{self, Configuration, Report};
use crate::environment::{Variables, value_of};
use crate::model::{Limits, ServiceAccess, service_url};
use crate::process::{Program, Stderr};
use crate::programs;

/// How long the gateway may take to start: a few milliseconds, but longer on a busy machine.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last lines of standard error may take to arrive after an error.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);
/// How many of the last lines of standard error an error message contains.
const MAX_STDERR_LINES: usize = 5;

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the model gateway cannot be started")]
    NotStarted(#[source] io::Error),
    #[error("the model gateway ended before it was ready: {message}")]
    Ended { message: String },
    #[error("the model gateway was not ready within {} s", START_TIMEOUT.as_secs())]
    Late,
}

/// The gateway's command line and environment.
pub fn gateway_program(settings: &Settings, environment: &Variables) -> io::Result<Program> {
    // The gateway needs the proxies and the private certificate authorities to reach the services.
    let authorities = value_of(environment, "SSL_CERT_FILE");
    let authorities = authorities.map(|path| ("SSL_CERT_FILE".into(), path.to_owned()));
    Ok(Program {
        program: programs::own_executable()?.into(),
        args: vec![COMMAND.into()],
        dir: "/".into(),
        env: settings
            .proxies
            .iter()
            .cloned()
            .chain(authorities)
            .collect(),
        stdin: None,
        stderr: Stderr::Separate,
        inherited: None,
        launch: None,
    })
}

/// The line with the services, their keys and the limits.
pub fn configuration_line(services: &[&ServiceAccess], limits: Limits) -> SecretString {
    let expose = |secret: &Option<SecretString>| {
        let secret = secret.as_ref();
        secret.map(|secret| secret.expose_secret().to_owned())
    };
    let service = |service: &&ServiceAccess| {
        let url = service.base_url.as_ref();
        // The settings were validated, so this is a URL.
        let url = url.and_then(|url| url.to_str()?.parse::<Url>().ok());
        wire::Service {
            provider: service.provider.name.to_owned(),
            url: url.unwrap_or_else(|| service_url(service.provider)).into(),
            key: expose(&service.api_key),
            token: expose(&service.auth_token),
        }
    };
    let configuration = Configuration {
        services: services.iter().map(service).collect(),
        max_budget_usd: limits.usd,
        max_tokens: limits.tokens,
    };
    let mut line =
        serde_json::to_string(&configuration).expect("texts and numbers are always JSON");
    line.push('\n');
    line.into()
}

/// The lines that arrive in a pipe.
pub type PipeLines = Lines<BufReader<pipe::Receiver>>;

/// Where the gateway listens.
pub struct Listening {
    pub port: u16,
    /// The secret path of each service, in the order of the configuration.
    pub paths: Vec<String>,
}

/// Waits until the gateway reports that no other process can read its memory, sends it the keys, and waits until it
/// reports its port and its secret paths.
pub async fn send_keys(
    keys_pipe: &mut pipe::Sender,
    reports: &mut PipeLines,
    configuration: &SecretString,
) -> Result<Listening, String> {
    let closed = || "it closed its standard output".to_owned();
    let mut next_report = async || -> Result<Report, String> {
        let line = reports
            .next_line()
            .await
            .map_err(|error| error.to_string())?;
        serde_json::from_str(&line.ok_or_else(closed)?).map_err(|error| error.to_string())
    };
    if !matches!(next_report().await?, Report::Ready) {
        return Err("it did not report that it is ready".to_owned());
    }
    let keys = configuration.expose_secret().as_bytes();
    keys_pipe
        .write_all(keys)
        .await
        .map_err(|error| error.to_string())?;
    match next_report().await? {
        Report::Listening { port, paths } => Ok(Listening { port, paths }),
        _ => Err("it did not report its port".to_owned()),
    }
}

/// The last lines that the gateway printed to standard error before it ended; `error` if there are none.
pub async fn stderr_text_or(stderr: &mut PipeLines, error: &str) -> String {
    let mut last = VecDeque::new();
    let read = async {
        while let Ok(Some(line)) = stderr.next_line().await {
            last.push_back(line);
            if last.len() > MAX_STDERR_LINES {
                last.pop_front();
            }
        }
    };
    let _ = timeout(LAST_LINES_TIMEOUT, read).await;
    let text = Vec::from(last).join(" ");
    if text.is_empty() {
        error.to_owned()
    } else {
        text
    }
}
