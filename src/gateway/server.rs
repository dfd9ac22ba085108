//! The gateway's process: reads the keys from standard input, listens on loopback, and ends when the worker closes
//! standard input.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use eyre::{WrapErr, eyre};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, LocalSet};

use super::forward;
use super::ledger::Ledger;
use super::reports::Reports;
use super::route::Endpoint;
use super::shared::{Service, Shared};
use super::wire::{Configuration, Report};
use crate::http::tls;
use crate::model::{KeyHeader, Limits, Provider};

/// The most connections at a time. More connections wait. An agent needs only a few.
const MAX_CONNECTIONS: usize = 128;
/// How long a connection may be idle, or take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The longest head of a request, in bytes.
const MAX_HEAD_SIZE: usize = 64 * 1024;
/// The longest configuration, in bytes: a few keys and URLs.
const MAX_CONFIGURATION_SIZE: u64 = 1024 * 1024;
/// How long a connection to the service may take to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the service may send nothing. It is longer than any client waits.
const READ_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// The number of random bytes in each secret path.
const SECRET_PATH_BYTES: usize = 16;

/// The settings in the environment of the gateway's process. The worker sends all other settings on a pipe.
#[derive(Debug)]
pub struct Settings {
    /// A PEM file with private certificate authorities to trust next to the public ones.
    pub authorities: Option<PathBuf>,
}

/// Serves until the worker closes standard input. The caller must have made the memory of this process unreadable for
/// other processes: the first report says so, and only then does the worker send the keys.
///
/// # Errors
/// If the configuration cannot be read, or the gateway cannot listen on any port.
pub async fn serve(settings: &Settings) -> eyre::Result<()> {
    // The worker ends the gateway after the agent. A signal that the terminal or the system sends to all processes
    // must not end it earlier.
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let _ignored: Vec<_> = kinds.into_iter().map(signal).collect();
    let (stdin, mut stdout) = standard_pipes().wrap_err(
        "only the worker can start this command: standard input and output must be pipes",
    )?;
    let mut stdin = BufReader::new(stdin);
    let ready = serde_json::to_string(&Report::Ready)? + "\n";
    stdout.write_all(ready.as_bytes()).await?;
    let shared = Rc::new(read_configuration(settings, &mut stdin).await?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.wrap_err("cannot listen on 127.0.0.1")?;
    shared.reports.add(&Report::Listening {
        port: listener.local_addr()?.port(),
        paths: shared
            .endpoints
            .iter()
            .map(|endpoint| endpoint.secret_path.clone())
            .collect(),
    });
    let worker_ended = async {
        let mut ignored = [0; 64];
        while let Ok(1..) = stdin.read(&mut ignored).await {}
    };
    let serving = async {
        tokio::select! {
            () = worker_ended => {}
            () = shared.reports.write_to(&mut stdout) => {}
            () = accept(&listener, &shared) => {}
        }
    };
    // When `serving` ends, all open requests are dropped, which settles their cost.
    LocalSet::new().run_until(serving).await;
    shared.report_totals();
    // An error means that the worker has ended.
    let _ = shared.reports.flush_to(&mut stdout).await;
    Ok(())
}

/// Standard input and standard output, which must be pipes.
fn standard_pipes() -> io::Result<(pipe::Receiver, pipe::Sender)> {
    use std::os::fd::AsFd;
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    Ok((
        pipe::Receiver::from_owned_fd(stdin)?,
        pipe::Sender::from_owned_fd(stdout)?,
    ))
}

/// Reads the worker's line with the services, their keys and the limits.
async fn read_configuration(
    settings: &Settings,
    worker: &mut BufReader<pipe::Receiver>,
) -> eyre::Result<Shared> {
    let mut line = String::new();
    worker
        .take(MAX_CONFIGURATION_SIZE)
        .read_line(&mut line)
        .await?;
    let line = SecretString::from(line);
    let configuration: Configuration = serde_json::from_str(line.expose_secret())
        // The cause could show a part of a key.
        .map_err(|_| eyre!("the worker's line with the keys cannot be read"))?;
    let mut services = Vec::new();
    let mut endpoints = Vec::new();
    for service in configuration.services {
        let provider = Provider::named(&service.provider);
        let provider = provider.ok_or_else(|| eyre!("unknown provider {:?}", service.provider))?;
        let url: Url = service.url.parse().wrap_err_with(|| {
            format!("the URL of the service {} is not valid", service.provider)
        })?;
        let client = client(&url, settings)?;
        let mut credentials = Vec::new();
        if let Some(key) = service.key {
            credentials.push(match provider.key_header {
                KeyHeader::XApiKey => (HeaderName::from_static("x-api-key"), secret_header(&key)?),
                KeyHeader::Bearer => (AUTHORIZATION, secret_header(&format!("Bearer {key}"))?),
            });
        }
        if let Some(token) = service.token {
            credentials.push((AUTHORIZATION, secret_header(&format!("Bearer {token}"))?));
        }
        endpoints.push(Endpoint {
            provider,
            secret_path: random_secret_path()?,
        });
        services.push(Service {
            provider,
            url,
            client,
            credentials,
        });
    }
    let limits = Limits {
        turns: None,
        usd: configuration.max_budget_usd,
        tokens: configuration.max_tokens,
    };
    Ok(Shared {
        services,
        endpoints,
        ledger: RefCell::new(Ledger::new(limits)),
        settlement: Notify::new(),
        has_refused: Cell::new(false),
        buffered_size: Cell::new(0),
        requests: Cell::new(0),
        reports: Reports::default(),
    })
}

/// The HTTP client for a service.
fn client(url: &Url, settings: &Settings) -> eyre::Result<Client> {
    Client::builder()
        .tls_backend_preconfigured(tls::config(url, settings.authorities.as_deref())?)
        // A redirect would send the key to another server.
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .wrap_err("the HTTP client cannot be set up")
}

/// The value of a header with a credential, which is never shown in messages.
fn secret_header(text: &str) -> eyre::Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        eyre!("a key or token contains a character that no HTTP header can contain")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A path that no other process can guess.
fn random_secret_path() -> eyre::Result<String> {
    let mut bytes = [0; SECRET_PATH_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| eyre!("cannot get random numbers: {error}"))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// Accepts and serves connections forever.
async fn accept(listener: &TcpListener, shared: &Rc<Shared>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // When this future is dropped, all connections are dropped too.
    let mut connections = JoinSet::new();
    loop {
        // Cannot fail: the semaphore is never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = serve_connection(stream, shared.clone());
                connections.spawn_local(async move {
                    connection.await;
                    drop(permit);
                });
                while connections.try_join_next().is_some() {}
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of the agent could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers the requests on one connection, one after another.
async fn serve_connection(stream: TcpStream, shared: Rc<Shared>) {
    // Without this, the kernel may delay small events, to send them together.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| forward::answer(shared.clone(), request));
    // An error means that the client closed the connection or sent no HTTP, or that the service gave no answer.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}
