//! How requests to a receiver prove who sent them: signatures, bearer tokens, the platform's identity
//! token. Also: these secrets appear nowhere else, and the trace context is sent.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::Webhook;
use tempfile::TempDir;

use crate::support::patience::MAX_WAIT;
use crate::support::receiver::ReceivedRequest;
use crate::support::{
    Project, Receiver, Reply, Worker, assert_within, duration_setting, each, with_enough_time,
};

/// The secret that signs the worker's requests.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// A second secret, as during the rotation of secrets.
const OLD_SECRET: &str = "whsec_YW4gb2xkZXIgc2VjcmV0IG9mIGEgZ29vZCBsZW5ndGg=";

/// The headers of a request, in the type of the library that verifies signatures.
fn headers(request: &ReceivedRequest) -> HeaderMap {
    let pairs = request.headers.iter().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    });
    pairs.collect()
}

/// Whether the official library accepts a signature of the request as one by this secret.
fn has_valid_signature(request: &ReceivedRequest, secret: &str) -> bool {
    let webhook = Webhook::new(secret).unwrap();
    webhook.verify(&request.body, &headers(request)).is_ok()
}

#[test]
fn every_request_is_signed_as_standard_webhooks_specifies() {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.script("failed", [Reply::status(405)]);
    let running = Worker::new(&receiver, &project)
        .agent("echo grüße; until [ -e go ]; do sleep 0.02; done; exit 1")
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .env("DESCARTES_HEARTBEAT", "50ms")
        .start();
    receiver.wait_for_first("progress");
    project.write("go", "");
    running.wait().assert_code(1);
    let requests = receiver.requests();
    let routes: Vec<&str> = requests
        .iter()
        .map(|request| request.route.as_str())
        .collect();
    for route in ["started", "progress", "failed", "completed"] {
        assert!(routes.contains(&route), "{routes:?}");
    }
    for request in &requests {
        assert!(has_valid_signature(request, SECRET), "{request:#?}");
        assert!(!has_valid_signature(request, OLD_SECRET));
        assert_eq!(request.event["event_id"], *request.headers["webhook-id"]);
        let mut tampered = request.clone();
        tampered.body[20] ^= 1;
        assert!(!has_valid_signature(&tampered, SECRET));
    }
}

#[test]
fn each_of_several_secrets_gives_a_signature() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env(
            "DESCARTES_CALLBACK_SECRET",
            format!("{SECRET} {OLD_SECRET}"),
        )
        .run();
    ended.assert_code(0);
    for request in receiver.requests() {
        assert!(has_valid_signature(&request, SECRET) && has_valid_signature(&request, OLD_SECRET));
        assert_eq!(request.headers["webhook-signature"].split(' ').count(), 2);
    }
}

#[test]
fn a_retry_has_a_new_timestamp_and_signature_and_the_same_id() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let busy = Reply::status(503).with_header("retry-after", "2");
    receiver.script("completed", [busy]);
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .run();
    ended.assert_code(0);
    let attempts = receiver.requests_to("completed");
    assert!(
        attempts
            .iter()
            .all(|request| has_valid_signature(request, SECRET))
    );
    let header = |name: &str| {
        (
            attempts[0].headers[name].clone(),
            attempts[1].headers[name].clone(),
        )
    };
    let (first, second) = header("webhook-id");
    assert_eq!(first, second);
    let (first, second) = header("webhook-timestamp");
    assert!(second.parse::<i64>().unwrap() >= first.parse::<i64>().unwrap() + 2);
    let (first, second) = header("webhook-signature");
    assert_ne!(first, second);
    assert_eq!(attempts[0].body, attempts[1].body);
}

#[test]
fn without_secrets_requests_have_no_credentials() {
    let (receiver, project) = (Receiver::start(), Project::new());
    Worker::new(&receiver, &project).agent("true").run();
    for request in receiver.requests() {
        for name in [
            "authorization",
            "webhook-id",
            "webhook-signature",
            "traceparent",
        ] {
            assert!(!request.headers.contains_key(name), "{name}");
        }
    }
}

#[test]
fn the_bearer_token_is_in_every_request_and_nowhere_else() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // The receiver's answers contain the token, so that it could get into the log.
    let echo = r#"{"why": "not with token-of-the-callback or MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#;
    receiver.script("started", [Reply::json(503, echo)]);
    receiver.script("completed", [Reply::json(500, echo)]);
    let ended = Worker::new(&receiver, &project)
        .without_isolation()
        .agent("env; cat /proc/$PPID/environ; echo end")
        .env("DESCARTES_CALLBACK_TOKEN", "token-of-the-callback")
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .env("RUST_LOG", "trace")
        .run();
    ended.assert_code(0);
    for request in receiver.requests() {
        assert_eq!(
            request.headers["authorization"],
            "Bearer token-of-the-callback"
        );
    }
    let second_attempt = receiver.requests_to("completed").remove(1);
    let body = String::from_utf8(second_attempt.body).unwrap();
    for secret in ["token-of-the-callback", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
        for text in [&ended.stdout, &ended.stderr, &body] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn a_token_and_an_oidc_audience_together_are_rejected() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("DESCARTES_CALLBACK_TOKEN", "token-of-the-callback")
        .env("DESCARTES_CALLBACK_OIDC_AUDIENCE", "orchestrator")
        .run();
    ended.assert_code(2);
    for words in [
        "DESCARTES_CALLBACK_TOKEN",
        "DESCARTES_CALLBACK_OIDC_AUDIENCE",
    ] {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("token-of-the-callback"));
    assert!(receiver.requests().is_empty());
}

#[test]
fn a_valid_traceparent_is_sent_and_an_invalid_one_is_a_warning() {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = || Worker::new(&receiver, &project).agent("true");
    worker().env("TRACEPARENT", good).run().assert_code(0);
    let requests = receiver.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.headers["traceparent"] == good)
    );
    let bad = [
        "nonsense",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
    ];
    each(&bad, |bad| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker = Worker::new(&receiver, &project).agent("true");
        let ended = worker.env("TRACEPARENT", bad).run();
        ended.assert_code(0);
        assert!(ended.stderr.contains("TRACEPARENT"), "{}", ended.stderr);
        let requests = receiver.requests();
        let has_none = |request: &ReceivedRequest| !request.headers.contains_key("traceparent");
        assert!(requests.iter().all(has_none));
    });
}

/// A fake of the platform's API, which gives identity tokens at a Unix socket. Dropping it closes the socket.
struct Platform {
    _dir: TempDir,
    socket: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Platform {
    /// Each answer is a text `STATUS BODY`. The answers are given in order, and the last one again and again.
    fn listen(mut answers: Vec<&'static str>) -> Self {
        let dir = short_dir();
        let socket = dir.path().join("api.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (requests, closed) = (Arc::<Mutex<Vec<String>>>::default(), Arc::default());
        let (thread_requests, is_closed) =
            (Arc::clone(&requests), Arc::<AtomicBool>::clone(&closed));
        let thread = thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if is_closed.load(Ordering::Relaxed) {
                    return;
                }
                let Some(request) = read_request(&mut stream) else {
                    continue;
                };
                thread_requests.lock().unwrap().push(request);
                let answer = if answers.len() > 1 {
                    answers.remove(0)
                } else {
                    answers[0]
                };
                let (status, body) = answer.split_once(' ').unwrap();
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
                stream
                    .write_all(format!("{head}{body}").as_bytes())
                    .unwrap();
            }
        });
        Self {
            _dir: dir,
            socket,
            requests,
            closed,
            thread: Some(thread),
        }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // Ends the thread's wait for a connection.
        let is_awake = UnixStream::connect(&self.socket).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| is_awake) {
            let _ = thread.join();
        }
    }
}

/// A directory with a short path, for sockets: on some systems, the path of a socket may have at most 103 bytes.
fn short_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    if dir.path().as_os_str().len() < 80 {
        return dir;
    }
    tempfile::tempdir_in("/tmp").unwrap()
}

/// Reads a request whose body is a JSON object without inner objects; `None` if the connection ends before.
fn read_request(stream: &mut UnixStream) -> Option<String> {
    stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !request.ends_with(b"}") {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(request).ok()
}

/// A worker that gets its identity token from this socket.
fn worker_with_identity(receiver: &Receiver, project: &Project, socket: &Path) -> Worker {
    Worker::new(receiver, project)
        .agent("true")
        .env("DESCARTES_CALLBACK_OIDC_AUDIENCE", "https://orchestrator")
        .env("DESCARTES_CALLBACK_OIDC_SOCKET", socket)
}

#[test]
fn the_identity_token_is_requested_once_and_sent_in_every_request() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let platform = Platform::listen(vec!["200 eyJ.abc.def\n", "200 eyJ.later"]);
    let ended = worker_with_identity(&receiver, &project, &platform.socket)
        .env("RUST_LOG", "trace")
        .run();
    ended.assert_code(0);
    for request in receiver.requests() {
        assert_eq!(request.headers["authorization"], "Bearer eyJ.abc.def");
    }
    let requests = platform.requests.lock().unwrap();
    assert_eq!(requests.len(), 1);
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/tokens/oidc HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.to_lowercase().contains("host: localhost"), "{head}");
    assert_eq!(body, r#"{"aud":"https://orchestrator"}"#);
    assert!(!ended.stderr.contains("eyJ.abc.def"));
}

#[test]
fn after_an_invalid_identity_token_the_log_names_the_socket_and_the_request_is_repeated() {
    let cases = [
        ("500 busy", "answered 500 instead of an identity token"),
        ("200 no token", "is not an identity token"),
        ("200 ", "is not an identity token"),
    ];
    each(&cases, |(answer, words)| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let platform = Platform::listen(vec![answer, "200 eyJ.abc.def"]);
        let ended = worker_with_identity(&receiver, &project, &platform.socket).run();
        ended.assert_code(0);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        assert!(ended.stderr.contains("api.sock"), "{}", ended.stderr);
        assert_eq!(receiver.routes(), ["started", "completed"]);
    });
}

#[test]
fn without_the_platforms_socket_nothing_is_sent_and_the_failure_names_it() {
    with_enough_time(Duration::from_millis(300), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = worker_with_identity(&receiver, &project, Path::new("/nowhere/api"))
            .env("DESCARTES_CLAIM_DEADLINE", duration_setting(limit))
            .run();
        ended.assert_code(3);
        assert!(receiver.requests().is_empty());
        let message = ended.result_line()["failure"]["message"].to_string();
        if message.contains("no answer within") {
            return Err(message);
        }
        assert!(message.contains("/nowhere/api"), "{message}");
        Ok(())
    });
}

#[test]
fn a_socket_that_does_not_answer_does_not_outlast_the_claim_deadline() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let dir = short_dir();
    let socket = dir.path().join("silent.sock");
    let _silent = UnixListener::bind(&socket).unwrap();
    let ended = worker_with_identity(&receiver, &project, &socket)
        .env("DESCARTES_CALLBACK_TIMEOUT", "200ms")
        .env("DESCARTES_CLAIM_DEADLINE", "600ms")
        .run();
    ended.assert_code(3);
    // Without the claim deadline, the worker would wait forever.
    assert_within(Duration::from_secs(60), ended.duration);
    assert!(receiver.requests().is_empty());
}
