//! The engine `fly` with a scripted API, for answers that depend on the order of requests.

mod starts;
mod stops;

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use secrecy::SecretString;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use super::*;
use crate::dispatch::engine::answers::StartFailure;
use crate::dispatch::engine::clean_up::remove_all;
use crate::dispatch::engine::remote::RemoteEngine;
use crate::dispatch::engine::settings::CpuKind;
use crate::dispatch::engine::{RunSpec, TaskNeeds};
use crate::environment::variable;

/// An answer of the scripted API.
struct Answer {
    status: u16,
    body: String,
    /// If set, the answer is sent when as many requests wait as the barrier requires.
    barrier: Option<Arc<Barrier>>,
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer {
        status,
        body: body.to_string(),
        barrier: None,
    }
}

/// An answer with an error status and a message.
fn error(status: u16, message: &str) -> Answer {
    answer(status, &json!({ "error": message }))
}

/// The API's description of the machine m1, which belongs to the run d1-a-1.
fn machine(state: &str) -> Value {
    json!({
        "id": "m1",
        "state": state,
        "config": { "metadata": { DISPATCH_KEY: "d1", RUN_KEY: "d1-a-1" } },
        "events": [{ "type": "start", "timestamp": 1 }],
    })
}

/// A request line without the beginning of the path, such as `POST machines`, and the body.
type Request = (String, Value);

/// An engine whose API is scripted.
struct ScriptedApi {
    fly: Fly,
    /// The requests that the engine has sent.
    requests: Arc<Mutex<Vec<Request>>>,
    _runs_dir: tempfile::TempDir,
}

impl ScriptedApi {
    /// `script` answers the requests. Its arguments are the request line, the body, and how many requests with the same
    /// line came before.
    async fn new(
        regions: &[&str],
        script: impl Fn(&str, &Value, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (server_requests, script) = (Arc::clone(&requests), Arc::new(script));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(
                    stream,
                    Arc::clone(&server_requests),
                    Arc::clone(&script),
                ));
            }
        });
        let settings = FlySettings {
            api: api.parse().unwrap(),
            token: SecretString::from("fo1_x"),
            app: "workers".to_owned(),
            regions: regions.iter().map(|region| (*region).to_owned()).collect(),
            image: "worker@sha256:1".to_owned(),
            cpu_kind: CpuKind::Shared,
            nano_cpus: None,
            rate: 100,
            has_configured_url: true,
            private_ip: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let (stop_window, runs_dir) = (Duration::from_secs(5), dir.path().to_owned());
        let mut fly = Fly::new(settings, "d1".to_owned(), stop_window, runs_dir).unwrap();
        fly.stop_margin = Duration::from_millis(300);
        Self {
            fly,
            requests,
            _runs_dir: dir,
        }
    }

    /// The request lines in the order of the requests.
    fn request_lines(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(line, _)| line.clone()).collect()
    }

    /// How many requests have this request line.
    fn count(&self, line: &str) -> usize {
        self.request_lines()
            .iter()
            .filter(|other| *other == line)
            .count()
    }

    /// Stops the machine m1.
    async fn stop(&self, grace: Duration) -> Result<(), String> {
        self.fly.stop(&handle(), grace).await
    }
}

/// Answers the one request of a connection.
async fn serve(
    mut stream: TcpStream,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<impl Fn(&str, &Value, usize) -> Answer>,
) {
    let mut text = String::new();
    let body = loop {
        let mut bytes = vec![0; 64 * 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        if count == 0 {
            return;
        }
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            break serde_json::from_str(body).unwrap_or_default();
        }
    };
    let line = text.lines().next().unwrap();
    let line = line.split(['?']).next().unwrap().replace(" HTTP/1.1", "");
    let line = line.replace("/v1/apps/workers/", "");
    let earlier = {
        let mut requests = requests.lock().unwrap();
        let earlier = requests.iter().filter(|(other, _)| *other == line).count();
        requests.push((line.clone(), body));
        earlier
    };
    let body = requests.lock().unwrap().last().unwrap().1.clone();
    let Answer {
        status,
        body,
        barrier,
    } = script(&line, &body, earlier);
    if let Some(barrier) = barrier {
        barrier.wait().await;
    }
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

/// The handle of the machine m1.
fn handle() -> Handle {
    Handle::Fly {
        machine: "m1".to_owned(),
    }
}

fn spec() -> RunSpec {
    RunSpec {
        variables: vec![
            variable("TASK_ID", "a"),
            variable("CALLBACK_SECRET", "whsec_1"),
        ],
        removed_variables: Vec::new(),
        inherited_variables: vec![variable("ANTHROPIC_API_KEY", "sk-1")],
        memory: None,
        needs: TaskNeeds::default(),
    }
}

/// The API's message if a region has no capacity.
const NO_CAPACITY: &str = "aborted: no capacity";
// Request lines about the machine m1.
const STOP: &str = "POST machines/m1/stop";
const WAIT: &str = "GET machines/m1/wait";
const GET: &str = "GET machines/m1";
const DESTROY: &str = "DELETE machines/m1";
