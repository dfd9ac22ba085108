//! The embedded orchestrator: receives what workers report, and verifies it against the protocol.
//!
//! Grants every first claim and refuses a second run of a task that is being worked on. Keeps
//! everything in memory and schedules nothing: it is for trying things out, and for seeing what a
//! worker says.

mod ledger;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use ledger::Ledger;
pub use ledger::Received;

/// The protocol's limit of one body.
const BODY: usize = 256 * 1024;

/// A listening orchestrator.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
}

impl Receiver {
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
        })
    }

    /// Where workers reach it.
    pub fn url(&self) -> String {
        match self.listener.local_addr() {
            Ok(address) => format!("http://{address}/api/agents/callback"),
            Err(_) => "nowhere".to_owned(),
        }
    }

    /// Serves for ever; what is heard goes to `received`.
    pub async fn serve(self, received: mpsc::UnboundedSender<Received>) {
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        let connections = LocalSet::new();
        let accept = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let (ledger, received) = (ledger.clone(), received.clone());
                        let service = service_fn(move |request| {
                            answer(request, ledger.clone(), received.clone())
                        });
                        tokio::task::spawn_local(async move {
                            // A worker that breaks off is its own business.
                            let _ = http1::Builder::new()
                                .serve_connection(TokioIo::new(stream), service)
                                .await;
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        };
        connections.run_until(accept).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    ledger: Rc<RefCell<Ledger>>,
    received: mpsc::UnboundedSender<Received>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let route = parts
        .uri
        .path()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (status, words) = match Limited::new(body, BODY).collect().await {
        _ if parts.method != Method::POST => {
            (StatusCode::METHOD_NOT_ALLOWED, "workers POST".to_owned())
        }
        Ok(body) => {
            let (reply, said) = ledger.borrow_mut().hear(&route, &body.to_bytes());
            if let Some(said) = said {
                // Nobody listens any more: then nobody misses it.
                let _ = received.send(said);
            }
            reply
        }
        Err(error) => (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
    };
    let body = serde_json::json!({ "message": words }).to_string();
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json");
    Ok(response.body(Full::from(body)).expect("a valid response"))
}
