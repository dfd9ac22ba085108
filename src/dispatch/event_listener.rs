//! The HTTP server of a dispatch. It accepts only events that are signed with the secret of their run.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use eyre::WrapErr;
use hyper::StatusCode;
use jiff::Timestamp;
use ring::hmac;
use serde_json::Value;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::receiver::{Answer, ArrivedRequest, Route, serve, signature};
use crate::webhook::SigningKey;

/// How many requests may wait for the dispatcher. Workers repeat requests that get no answer.
pub const MAX_WAITING_REQUESTS: usize = 512;

/// An event with a valid signature.
#[derive(Debug)]
pub struct Request {
    pub route: Route,
    pub event: Value,
    /// Sends the answer to the worker.
    pub answer: oneshot::Sender<Answer>,
}

/// The secret from which the secrets of all runs are derived.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// Reads the secret of a state directory, or creates it.
    pub fn read_or_create(dir: &Path) -> eyre::Result<Self> {
        let path = dir.join("secret");
        let error_context = || format!("cannot use the secret {}", path.display());
        let bytes = match fs::read(&path) {
            Ok(bytes) if bytes.len() == 32 => bytes,
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).wrap_err_with(error_context);
            }
            // The file is missing, or incomplete after a crash. No worker has a secret from an incomplete file, because
            // workers start only after it was written.
            _ => {
                let mut bytes = vec![0; 32];
                getrandom::fill(&mut bytes)
                    .map_err(|error| io::Error::other(error.to_string()))
                    .wrap_err_with(error_context)?;
                let mut options = fs::File::options();
                options.write(true).create(true).truncate(true).mode(0o600);
                let mut file = options.open(&path).wrap_err_with(error_context)?;
                file.write_all(&bytes)
                    .and_then(|()| file.sync_all())
                    .wrap_err_with(error_context)?;
                bytes
            }
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The secret of a run in the form of `DESCARTES_CALLBACK_SECRET`.
    pub fn of_run(&self, run: &str) -> String {
        let tag = hmac::sign(&self.0, run.as_bytes());
        format!("whsec_{}", STANDARD.encode(tag))
    }
}

/// Serves requests forever. Passes each event with a valid signature to the dispatcher, and sends the dispatcher's
/// answer to the worker.
pub async fn listen(listener: &TcpListener, secret: Secret, requests: mpsc::Sender<Request>) {
    let handle_request = move |arrived: ArrivedRequest| {
        let authenticated = authenticate(&secret, &arrived);
        let requests = requests.clone();
        async move {
            let busy = || Answer::new(StatusCode::SERVICE_UNAVAILABLE, "the dispatcher is busy");
            let (route, event) = match authenticated {
                Ok(authenticated) => authenticated,
                Err(answer) => return answer,
            };
            let (answer, answer_receiver) = oneshot::channel();
            let request = Request {
                route,
                event,
                answer,
            };
            if requests.send(request).await.is_err() {
                return busy();
            }
            answer_receiver.await.unwrap_or_else(|_| busy())
        }
    };
    serve(listener, handle_request).await;
}

/// Verifies the signature of a request, and reads its route and event.
///
/// # Errors
/// The answer to a request without a valid signature, or with an unknown route.
fn authenticate(secret: &Secret, arrived: &ArrivedRequest) -> Result<(Route, Value), Answer> {
    let unauthorized = |why: &str| Answer::new(StatusCode::UNAUTHORIZED, why);
    let event: Value =
        serde_json::from_slice(&arrived.body).map_err(|_| unauthorized("the body is not JSON"))?;
    let run = event.get("run_id").and_then(Value::as_str);
    let run = run.ok_or_else(|| unauthorized("run_id is missing"))?;
    let key = SigningKey::parse(&secret.of_run(run)).map_err(|why| unauthorized(&why))?;
    signature::verify(&[key], &arrived.headers, &arrived.body, Timestamp::now())
        .map_err(|why| unauthorized(&why))?;
    let last_part = arrived.path.rsplit('/').next().unwrap_or_default();
    let route = Route::parse(last_part).ok_or_else(|| {
        Answer::new(
            StatusCode::NOT_FOUND,
            format!("there is no route {last_part:?}"),
        )
    })?;
    Ok((route, event))
}
