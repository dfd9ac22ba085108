//! The embedded orchestrator: receives what workers report and checks it against docs/protocol.md.
//!
//! Grants every first claim, refuses a second run of a task while the first one has a lease, and refuses
//! tasks that ended for good.
//! Keeps everything in memory and starts no workers: it is for trying things out, and for seeing
//! what a worker reports.

mod answers;
mod envelope;
mod leases;
mod ledger;
mod notice;
mod route;
mod signature;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::webhook::SigningKey;
pub use answers::ScriptedAnswers;
use ledger::Ledger;
pub use ledger::Repetition;
use notice::Answer;
pub use notice::{Notice, Received};
use route::Route;

/// The protocol's maximum size of a body, in bytes.
const MAX_BODY_SIZE: usize = 256 * 1024;
/// How often to look for leases that are over. A person watches, so this need not be exact.
const LEASE_CHECK: Duration = Duration::from_millis(200);

/// How the orchestrator behaves. By default it grants claims, accepts events and checks no signatures.
#[derive(Debug, Default)]
pub struct Settings {
    /// A request must be signed with one of these; empty if signatures do not count.
    pub signing_keys: Vec<SigningKey>,
    /// Task ids and run ids whose heartbeats are answered with a cancellation.
    pub cancelled: Vec<String>,
    pub answers: ScriptedAnswers,
    /// The length of every lease, if it does not follow from the heartbeat interval.
    pub lease: Option<Duration>,
    /// What happens to a claim of a task that ended for good.
    pub repetition: Repetition,
}

/// A listening orchestrator.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    settings: Settings,
}

impl Receiver {
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            settings: Settings::default(),
        })
    }

    pub fn with(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// The base URL for workers.
    pub fn url(&self) -> String {
        match self.listener.local_addr() {
            Ok(address) => format!("http://{address}/api/agents/callback"),
            Err(_) => "an unknown address".to_owned(),
        }
    }

    /// Serves forever and sends a notice for everything that happens.
    pub async fn serve(self, notices: mpsc::UnboundedSender<Notice>) {
        let service = Rc::new(Service {
            ledger: RefCell::new(Ledger::new(
                self.settings.lease,
                self.settings.cancelled,
                self.settings.repetition,
            )),
            answers: RefCell::new(self.settings.answers),
            signing_keys: self.settings.signing_keys,
            notices,
        });
        let watched = service.clone();
        let accept = async {
            tokio::select! {
                () = accept(&self.listener, service) => {}
                () = watched.watch_leases() => {}
            }
        };
        LocalSet::new().run_until(accept).await;
    }
}

async fn accept(listener: &TcpListener, service: Rc<Service>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                let answer = service_fn(move |request| {
                    let service = service.clone();
                    async move { Ok::<_, Infallible>(service.answer(request).await) }
                });
                tokio::task::spawn_local(async move {
                    // An error means that the worker broke the connection off.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What all connections share.
struct Service {
    ledger: RefCell<Ledger>,
    answers: RefCell<ScriptedAnswers>,
    signing_keys: Vec<SigningKey>,
    notices: mpsc::UnboundedSender<Notice>,
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let answer = match Limited::new(body, MAX_BODY_SIZE).collect().await {
            _ if parts.method != Method::POST => {
                Answer::new(StatusCode::METHOD_NOT_ALLOWED, "workers use POST")
            }
            Ok(body) => self.receive(path, &parts.headers, &body.to_bytes()),
            Err(error) => Answer::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        };
        let response = Response::builder()
            .status(answer.status)
            .header(CONTENT_TYPE, "application/json");
        let body = Full::from(answer.body().to_string());
        response.body(body).expect("a valid response")
    }

    /// Answers one request and sends a notice about it.
    fn receive(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let last = path.rsplit('/').next().unwrap_or_default();
        let result = self.check(last, headers, body).map(|route| {
            let scripted = self.answers.borrow_mut().next(route);
            let mut ledger = self.ledger.borrow_mut();
            ledger.receive(route, body, scripted, Instant::now())
        });
        let (answer, notice) = match result {
            Ok(Ok(mut received)) => {
                received
                    .problems
                    .extend(webhook_id_problem(headers, &received));
                (received.answer.clone(), Notice::Received(received))
            }
            Ok(Err(answer)) | Err(answer) => {
                let why = answer.message.clone();
                let path = path.to_owned();
                (answer, Notice::Refused { path, why })
            }
        };
        self.notify(notice);
        answer
    }

    /// Verifies the signature, then the route.
    fn check(&self, last: &str, headers: &HeaderMap, body: &[u8]) -> Result<Route, Answer> {
        if !self.signing_keys.is_empty() {
            signature::verify(&self.signing_keys, headers, body, Timestamp::now())
                .map_err(|why| Answer::new(StatusCode::UNAUTHORIZED, why))?;
        }
        Route::parse(last).ok_or_else(|| {
            Answer::new(StatusCode::NOT_FOUND, format!("there is no route {last:?}"))
        })
    }

    async fn watch_leases(&self) {
        loop {
            tokio::time::sleep(LEASE_CHECK).await;
            let ended = self.ledger.borrow_mut().report_ended_leases(Instant::now());
            for notice in ended {
                self.notify(notice);
            }
        }
    }

    fn notify(&self, notice: Notice) {
        // An error means that nothing reads the notices any more.
        let _ = self.notices.send(notice);
    }
}

/// A signed request must name its event in `webhook-id`.
fn webhook_id_problem(headers: &HeaderMap, received: &Received) -> Option<String> {
    let id = headers.get("webhook-id")?;
    let event_id = received.text("/event_id");
    (id.as_bytes() != event_id.as_bytes())
        .then(|| format!("webhook-id is {id:?}, not the event_id {event_id:?}"))
}
