//! An HTTP/1 server with limits for the number of connections, and for the time and the size of a request. The caller
//! answers the requests.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::notice::Answer;

/// The protocol's maximum size of a body, in bytes.
const MAX_BODY_SIZE: usize = 256 * 1024;
/// The most connections at a time: far more than the workers on one machine need. More connections wait.
const MAX_CONNECTIONS: usize = 1024;
/// How long the head of a request, and then its body, may take to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A request that has arrived completely.
pub struct ArrivedRequest {
    pub path: String,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

/// Serves forever; `answer` answers each request. Must run in a [`tokio::task::LocalSet`].
pub async fn serve<F, A>(listener: &TcpListener, answer: F)
where
    F: Fn(ArrivedRequest) -> A + 'static,
    A: Future<Output = Answer> + 'static,
{
    let answer = Rc::new(answer);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(respond(request, &*answer).await) }
                });
                tokio::task::spawn_local(async move {
                    // An error means that the worker closed the connection early.
                    let _ = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(ARRIVAL_TIMEOUT)
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Reads one request completely, and answers it.
async fn respond<F, A>(request: Request<Incoming>, answer: &F) -> Response<Full<Bytes>>
where
    F: Fn(ArrivedRequest) -> A,
    A: Future<Output = Answer>,
{
    let (parts, body) = request.into_parts();
    let body = timeout(ARRIVAL_TIMEOUT, Limited::new(body, MAX_BODY_SIZE).collect());
    let answer = match body.await {
        _ if parts.method != Method::POST => {
            Answer::new(StatusCode::METHOD_NOT_ALLOWED, "workers use POST")
        }
        Ok(Ok(body)) => {
            let arrived = ArrivedRequest {
                path: parts.uri.path().to_owned(),
                headers: parts.headers,
                body: body.to_bytes(),
            };
            answer(arrived).await
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Answer::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
        }
        Ok(Err(error)) => Answer::new(StatusCode::BAD_REQUEST, error.to_string()),
        Err(_) => Answer::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive"),
    };
    let response = Response::builder()
        .status(answer.status)
        .header(CONTENT_TYPE, "application/json");
    let body = Full::from(answer.body().to_string());
    response.body(body).expect("a valid response")
}
