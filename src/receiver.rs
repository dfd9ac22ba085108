//! The built-in orchestrator: receives the events of workers and checks them against docs/protocol.md.
//!
//! Grants the first claim of a task. Refuses another run while an earlier one has a lease, and refuses tasks that
//! ended for good. Stores everything in memory and starts no workers: it is for developers who want to try things
//! out and to see what a worker reports.

mod answers;
mod envelope;
mod leases;
mod ledger;
mod notice;
mod route;
mod server;
pub mod signature;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::{HeaderMap, StatusCode};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::webhook::SigningKey;
pub use answers::ScriptedAnswers;
pub use leases::{CANCELLED_RUN_TIME, lease_of_claim};
use ledger::Ledger;
pub use ledger::Repetition;
pub use notice::{Answer, Notice, ReceivedEvent};
pub use route::Route;
pub use server::{ArrivedRequest, serve};

/// How often to check for leases that have ended. The notice is only shown to the user, so it may be a little late.
const LEASE_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The behavior of the orchestrator. By default it grants claims, accepts events and checks no signatures.
#[derive(Debug, Default)]
pub struct Settings {
    /// A request must be signed with one of these keys. If there are none, signatures are not checked.
    pub signing_keys: Vec<SigningKey>,
    /// Task ids and run ids whose heartbeats are answered with a cancellation.
    pub cancelled_ids: Vec<String>,
    pub answers: ScriptedAnswers,
    /// The length of every lease; `None` if it follows from the claim's heartbeat interval.
    pub lease: Option<Duration>,
    /// Whether a task that ended for good can be claimed again.
    pub repetition: Repetition,
}

/// A listening orchestrator.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    settings: Settings,
}

impl Receiver {
    /// Opens the port, with the default settings.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            settings: Settings::default(),
        })
    }

    /// The same orchestrator with other settings.
    pub fn with_settings(self, settings: Settings) -> Self {
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
                self.settings.cancelled_ids,
                self.settings.repetition,
            )),
            answers: RefCell::new(self.settings.answers),
            signing_keys: self.settings.signing_keys,
            notices,
        });
        let lease_service = service.clone();
        let answer = move |arrived: ArrivedRequest| {
            let answer = service.receive(&arrived.path, &arrived.headers, &arrived.body);
            std::future::ready(answer)
        };
        let serving = async {
            tokio::select! {
                () = server::serve(&self.listener, answer) => {}
                () = lease_service.watch_leases() => {}
            }
        };
        LocalSet::new().run_until(serving).await;
    }
}

/// The state that all connections share.
struct Service {
    ledger: RefCell<Ledger>,
    answers: RefCell<ScriptedAnswers>,
    signing_keys: Vec<SigningKey>,
    notices: mpsc::UnboundedSender<Notice>,
}

impl Service {
    /// Answers one request and sends a notice about it.
    fn receive(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let last_segment = path.rsplit('/').next().unwrap_or_default();
        let result = self.check(last_segment, headers, body).map(|route| {
            let scripted_status = self.answers.borrow_mut().next(route);
            let mut ledger = self.ledger.borrow_mut();
            ledger.receive(route, body, scripted_status, Instant::now())
        });
        let (answer, notice) = match result {
            Ok(Ok(mut received)) => {
                received
                    .problems
                    .extend(webhook_id_problem(headers, &received));
                (received.answer.clone(), Notice::Event(received))
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

    /// Verifies the signature, then finds the route by the last segment of the path.
    fn check(&self, last_segment: &str, headers: &HeaderMap, body: &[u8]) -> Result<Route, Answer> {
        if !self.signing_keys.is_empty() {
            signature::verify(&self.signing_keys, headers, body, Timestamp::now())
                .map_err(|why| Answer::new(StatusCode::UNAUTHORIZED, why))?;
        }
        Route::parse(last_segment).ok_or_else(|| {
            Answer::new(
                StatusCode::NOT_FOUND,
                format!("there is no route {last_segment:?}"),
            )
        })
    }

    /// Sends a notice about each lease that ends.
    async fn watch_leases(&self) {
        loop {
            tokio::time::sleep(LEASE_CHECK_INTERVAL).await;
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

/// The problem of a signed request whose `webhook-id` is not the id of its event.
fn webhook_id_problem(headers: &HeaderMap, received: &ReceivedEvent) -> Option<String> {
    let id = headers.get("webhook-id")?;
    let event_id = received.text("/event_id");
    (id.as_bytes() != event_id.as_bytes())
        .then(|| format!("webhook-id is {id:?}, not the event_id {event_id:?}"))
}
