//! The engine against a scripted API: answers at chosen moments.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use super::*;
use crate::dispatch::engine::calls::StartFailure;
use crate::dispatch::engine::clean_up::remove_all;
use crate::dispatch::engine::remote::Remote;
use crate::dispatch::engine::settings::CpuKind;
use crate::dispatch::engine::{Spec, TaskNeeds};
use crate::environment::variable;

/// An answer of the scripted API.
struct Answer {
    status: u16,
    body: String,
    /// The answer comes when as many requests wait for it as the barrier says.
    barrier: Option<Arc<Barrier>>,
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer {
        status,
        body: body.to_string(),
        barrier: None,
    }
}

fn error(status: u16, what: &str) -> Answer {
    answer(status, &json!({ "error": what }))
}

/// The machine m1 of the run d1-a-1.
fn described(state: &str) -> Value {
    json!({
        "id": "m1",
        "state": state,
        "config": { "metadata": { DISPATCH: "d1", RUN: "d1-a-1" } },
        "events": [{ "type": "start", "timestamp": 1 }],
    })
}

/// A request, such as `POST machines`, and its body.
type Request = (String, Value);

/// An engine, the requests that it has sent, and a directory for outputs.
struct Scripted {
    fly: Fly,
    requests: Arc<Mutex<Vec<Request>>>,
    _dir: tempfile::TempDir,
}

impl Scripted {
    /// `script` answers a request, whose number among the same ones is the last argument.
    async fn new(
        regions: &[&str],
        script: impl Fn(&str, &Value, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (heard, script) = (Arc::clone(&requests), Arc::new(script));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&heard), Arc::clone(&script)));
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
            has_own_url: true,
            private_ip: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let (window, path) = (Duration::from_secs(5), dir.path().to_owned());
        let mut fly = Fly::new(settings, "d1".to_owned(), window, path).unwrap();
        fly.stop_margin = Duration::from_millis(300);
        Self {
            fly,
            requests,
            _dir: dir,
        }
    }

    fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(line, _)| line.clone()).collect()
    }

    fn count(&self, line: &str) -> usize {
        self.requests()
            .iter()
            .filter(|other| *other == line)
            .count()
    }

    async fn stop(&self, grace: Duration) -> Result<(), String> {
        self.fly.stop(&handle(), grace).await
    }
}

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
    let number = {
        let mut requests = requests.lock().unwrap();
        let number = requests.iter().filter(|(other, _)| *other == line).count();
        requests.push((line.clone(), body));
        number
    };
    let body = requests.lock().unwrap().last().unwrap().1.clone();
    let Answer {
        status,
        body,
        barrier,
    } = script(&line, &body, number);
    if let Some(barrier) = barrier {
        barrier.wait().await;
    }
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

fn handle() -> Handle {
    Handle::Fly {
        machine: "m1".to_owned(),
    }
}

fn spec() -> Spec {
    Spec {
        variables: vec![
            variable("TASK_ID", "a"),
            variable("CALLBACK_SECRET", "whsec_1"),
        ],
        removed: Vec::new(),
        inherited: vec![variable("ANTHROPIC_API_KEY", "sk-1")],
        memory: None,
        needs: TaskNeeds::default(),
    }
}

const NO_ROOM: &str = "aborted: no capacity";
const STOP: &str = "POST machines/m1/stop";
const WAIT: &str = "GET machines/m1/wait";
const GET: &str = "GET machines/m1";
const DESTROY: &str = "DELETE machines/m1";

#[tokio::test]
async fn a_machine_that_runs_has_its_grace_period_before_it_is_destroyed_whatever_the_api_answers()
{
    let statuses = [200, 400, 408, 409, 412, 422, 500, 503];
    join_all(statuses.map(|status| async move {
        let api = Scripted::new(&[], move |line, _, _| match line {
            STOP => error(status, "says the API"),
            GET => answer(200, &described("started")),
            WAIT => error(500, "internal"),
            DESTROY => answer(200, &json!({ "ok": true })),
            _ => panic!("{line}"),
        });
        let api = api.await;
        let began = Instant::now();
        let grace = Duration::from_millis(200);
        assert_eq!(api.stop(grace).await, Ok(()), "{status}");
        let margin = api.fly.stop_margin;
        assert!(began.elapsed() >= grace + margin, "{status}");
        assert_eq!(api.count(DESTROY), 1, "{status}");
        assert_eq!(api.count(WAIT), 1, "{status}: no pause between requests");
    }))
    .await;
}

#[tokio::test]
async fn a_machine_without_a_process_is_destroyed_at_once() {
    for state in ["created", "starting", "stopped"] {
        let api = Scripted::new(&[], move |line, _, _| match line {
            STOP => error(412, "machine is not started"),
            GET => answer(200, &described(state)),
            DESTROY => answer(200, &json!({ "ok": true })),
            _ => panic!("{line}"),
        });
        let api = api.await;
        assert_eq!(api.stop(Duration::from_secs(600)).await, Ok(()));
        assert_eq!(api.requests(), [STOP, GET, DESTROY], "{state}");
    }
}

#[tokio::test]
async fn a_stop_that_is_repeated_does_not_begin_a_new_grace_period() {
    let api = Scripted::new(&[], |line, _, number| match line {
        DESTROY if number > 0 => answer(200, &json!({ "ok": true })),
        GET => answer(200, &described("started")),
        _ => error(500, "internal"),
    });
    let api = api.await;
    let grace = Duration::from_millis(100);
    let why = api.stop(grace).await.unwrap_err();
    assert!(why.contains("internal"), "{why}");
    // It would wait for an hour.
    let limit = Duration::from_secs(60);
    let again = tokio::time::timeout(limit, api.stop(Duration::from_secs(3600)));
    assert_eq!(again.await, Ok(Ok(())));
}

#[tokio::test]
async fn the_body_of_a_stop_has_no_longer_time_than_the_api_allows() {
    let api = Scripted::new(&[], |line, _, _| match line {
        STOP | WAIT => answer(200, &json!({ "ok": true })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    assert_eq!(api.stop(Duration::from_secs(305)).await, Ok(()));
    assert_eq!(api.requests.lock().unwrap()[0].1["timeout"], "300s");
}

#[tokio::test]
async fn a_wait_that_the_api_answers_too_early_is_not_repeated_at_once() {
    let api = Scripted::new(&[], |line, _, number| match (line, number) {
        (WAIT, 0) => error(408, "deadline_exceeded"),
        (WAIT, _) => answer(200, &json!({ "ok": true })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    let began = Instant::now();
    assert_eq!(api.fly.ended(&handle()).await, Ok(()));
    assert!(began.elapsed() >= WAIT_PAUSE);
    assert_eq!(api.count(WAIT), 2);
}

#[tokio::test]
async fn one_answer_that_the_api_does_not_know_a_machine_is_not_its_end() {
    let api = Scripted::new(&[], |line, _, number| match (line, number) {
        (WAIT, 0) => error(404, "machine not found"),
        (WAIT, _) => answer(200, &json!({ "ok": true })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    assert_eq!(api.fly.ended(&handle()).await, Ok(()));
    assert_eq!(api.count(WAIT), 2);
}

#[tokio::test]
async fn a_machine_that_is_listed_after_the_api_did_not_know_it_is_destroyed() {
    let api = Scripted::new(&[], |line, _, number| match line {
        "GET machines" => answer(200, &json!([described("started")])),
        DESTROY if number == 0 => error(404, "machine not found"),
        DESTROY => answer(200, &json!({ "ok": true })),
        "GET secrets" => answer(200, &json!({ "secrets": [] })),
        _ => error(404, "machine not found"),
    });
    let api = api.await;
    assert_eq!(api.stop(Duration::from_secs(600)).await, Ok(()));
    assert_eq!(api.requests(), [STOP, DESTROY]);
    let looks = api.fly.look(&[("d1-a-1".to_owned(), handle())]).await;
    assert_eq!(looks, Ok(vec![("d1-a-1".to_owned(), Seen::Running)]));
    assert!(!api.fly.is_destroyed("m1"));
    api.fly.note_destroyed("m1");
    let count = Arc::clone(&api.requests);
    remove_all(&Remote::Fly(Box::new(api.fly))).await.unwrap();
    let requests = count.lock().unwrap();
    let destroys = requests.iter().filter(|(line, _)| line == DESTROY);
    assert_eq!(destroys.count(), 2);
}

#[tokio::test]
async fn the_clean_up_goes_on_after_an_error_and_is_tried_again() {
    let list = |ids: &[&str]| {
        let machine = |id: &&str| {
            let mut machine = described("started");
            machine["id"] = json!(id);
            machine
        };
        json!(ids.iter().map(machine).collect::<Vec<_>>())
    };
    join_all([false, true].map(|is_hopeless| async move {
        let api = Scripted::new(&[], move |line, _, number| match line {
            "GET machines" => answer(200, &list(&["m1", "m2"])),
            "DELETE machines/m1" if is_hopeless || number == 0 => error(500, "cannot destroy m1"),
            "GET secrets" => {
                let secret = json!({ "name": "DESCARTES_RUN_D1_KEY" });
                answer(200, &json!({ "secrets": [secret] }))
            }
            "POST secrets" => error(500, "cannot set secrets"),
            GET => answer(200, &described("started")),
            _ => answer(200, &json!({ "ok": true })),
        });
        let api = api.await;
        let requests = Arc::clone(&api.requests);
        let why = remove_all(&Remote::Fly(Box::new(api.fly))).await;
        let why = why.unwrap_err();
        let words = if is_hopeless {
            "cannot destroy m1"
        } else {
            "cannot set secrets"
        };
        assert!(why.contains(words), "{why}");
        let requests = requests.lock().unwrap();
        let count = |line: &str| requests.iter().filter(|(other, _)| other == line).count();
        assert!(count("DELETE machines/m2") >= 1);
        assert_eq!(count("POST secrets"), 4);
    }))
    .await;
}

#[tokio::test]
async fn two_starts_at_the_same_time_both_try_the_region_after_the_full_one() {
    let barrier = Arc::new(Barrier::new(2));
    let api = Scripted::new(&["fra", "ams"], move |line, body, number| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        "POST machines" if body["region"] == "fra" => Answer {
            // Both have asked for the first region before one of them has an answer.
            barrier: Some(Arc::clone(&barrier)),
            ..error(409, NO_ROOM)
        },
        "POST machines" => answer(200, &json!({ "id": format!("m{number}") })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    let spec = spec();
    let (one, two) = tokio::join!(
        api.fly.start("d1-a-1", &spec),
        api.fly.start("d1-b-1", &spec)
    );
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    // The next one begins where there was room.
    let third = api.fly.start("d1-c-1", &spec).await;
    assert!(third.is_ok(), "{third:?}");
    let requests = api.requests.lock().unwrap();
    let regions = requests.iter().filter(|(line, _)| line == "POST machines");
    let regions: Vec<&str> = regions
        .filter_map(|(_, body)| body["region"].as_str())
        .collect();
    assert_eq!(regions, ["fra", "fra", "ams", "ams", "ams"]);
}

#[tokio::test]
async fn starts_that_find_no_room_at_the_same_time_make_one_pause() {
    let barrier = Arc::new(Barrier::new(3));
    let api = Scripted::new(&["fra"], move |line, _, _| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        _ => Answer {
            barrier: Some(Arc::clone(&barrier)),
            ..error(409, NO_ROOM)
        },
    });
    let api = api.await;
    let spec = spec();
    let start = |run| api.fly.start(run, &spec);
    let _ = tokio::join!(start("d1-a-1"), start("d1-b-1"), start("d1-c-1"));
    let (_, pause) = api.fly.full.get().unwrap();
    assert_eq!(pause, Duration::from_secs(1));
}

#[tokio::test]
async fn a_start_that_comes_too_soon_does_not_try_other_regions() {
    let api = Scripted::new(&["fra", "ams"], |line, _, _| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        _ => error(429, "rate limit exceeded"),
    });
    let mut api = api.await;
    api.fly.client.max_repeats = 0;
    let started = api.fly.start("d1-a-1", &spec()).await;
    assert!(matches!(started, Err(StartFailure::Full(_))), "{started:?}");
    let requests = api.requests.lock().unwrap();
    let mut regions = requests.iter().filter(|(line, _)| line == "POST machines");
    assert!(regions.all(|(_, body)| body["region"] == "fra"));
    assert_eq!(api.fly.full.get(), None);
}

#[tokio::test]
async fn a_run_that_waits_for_room_does_not_store_its_secrets_again() {
    let api = Scripted::new(&[], |line, _, number| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        _ if number == 0 => error(409, NO_ROOM),
        _ => answer(200, &json!({ "id": "m1" })),
    });
    let api = api.await;
    let started = api.fly.start("d1-a-1", &spec()).await;
    assert!(matches!(started, Err(StartFailure::Full(_))), "{started:?}");
    api.fly.full.set(None);
    assert_eq!(api.fly.start("d1-a-1", &spec()).await, Ok(handle()));
    assert_eq!(api.count("POST secrets"), 1);
    let body = &api.requests.lock().unwrap()[2].1;
    let secrets = body["config"]["processes"][0]["secrets"].as_array();
    assert_eq!(secrets.unwrap().len(), 2, "{body}");
}

#[tokio::test]
async fn a_machine_whose_request_had_no_clear_answer_is_found_although_no_region_has_room() {
    let api = Scripted::new(&[], |line, _, number| match (line, number) {
        ("POST secrets", _) => answer(200, &json!({ "version": 1 })),
        ("POST machines", 0) => error(503, "unavailable"),
        ("GET machines", _) => answer(200, &json!([described("started")])),
        _ => panic!("{line}"),
    });
    let api = api.await;
    let started = api.fly.start("d1-a-1", &spec()).await;
    assert!(matches!(started, Err(StartFailure::Full(_))), "{started:?}");
    assert!(api.fly.full.get().is_some());
    assert_eq!(api.fly.start("d1-a-1", &spec()).await, Ok(handle()));
}

#[tokio::test]
async fn a_taken_name_without_the_machine_is_searched_for_in_the_list() {
    for status in [409, 422] {
        let api = Scripted::new(&[], move |line, _, number| match (line, number) {
            ("POST secrets", _) => answer(200, &json!({ "version": 1 })),
            ("POST machines", 0) => error(status, "already_exists: the name is taken"),
            ("GET machines", _) => answer(200, &json!([described("started")])),
            _ => panic!("{line}"),
        });
        let api = api.await;
        let started = api.fly.start("d1-a-1", &spec()).await;
        let is_unknown = matches!(started, Err(StartFailure::Unknown(_)));
        assert!(is_unknown, "{status}: {started:?}");
        assert_eq!(api.fly.start("d1-a-1", &spec()).await, Ok(handle()));
    }
}

#[tokio::test]
async fn a_machine_that_exists_is_preferred_to_a_destroyed_one_of_the_same_run() {
    let machine = |id: &str, state: &str, event: &str| {
        let mut machine = described(state);
        machine["id"] = json!(id);
        machine["events"] = json!([{ "type": event, "timestamp": 1 }]);
        machine
    };
    let never_started = machine("m9", "destroyed", "launch");
    let destroyed = machine("m8", "destroyed", "exit");
    let living = machine("m1", "started", "start");
    let lists = [
        (json!([never_started, destroyed, living]), Some("m1"), 2),
        (json!([never_started, destroyed]), Some("m8"), 1),
        (json!([never_started]), None, 0),
    ];
    for (list, expected, count) in lists {
        let api = Scripted::new(&[], move |line, _, _| match line {
            "GET machines" => answer(200, &list),
            _ => panic!("{line}"),
        });
        let api = api.await;
        let found = api.fly.sweep().await.unwrap();
        assert_eq!(found.len(), count);
        let expected = expected.map(|id| Handle::Fly {
            machine: id.to_owned(),
        });
        assert_eq!(found.into_iter().next().map(|found| found.handle), expected);
        assert_eq!(api.fly.find("d1-a-1").await, Ok(expected));
    }
}
