//! The engine `docker` with a scripted server instead of a Docker Engine, for answers that a real one gives rarely.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::client::{Address, ApiClient};
use super::*;
use crate::dispatch::engine::TaskNeeds;
use crate::environment::variable;

/// What the scripted server does with a request.
#[derive(Clone, Copy)]
enum Script {
    /// It sends an answer with this status and body.
    Answer(u16, &'static str),
    /// It closes the connection without an answer.
    Close,
    /// It never answers, and leaves the connection open.
    Hang,
}

/// The request lines, or the bodies, of all requests that the scripted server has received.
type Received = Arc<Mutex<Vec<String>>>;

/// Starts a server that uses one script for each request; the last script is used for all further ones. Returns the
/// engine, the request lines that the server receives, and the directory of the runs.
async fn scripted(scripts: &[Script]) -> (Docker, Received, tempfile::TempDir) {
    let (docker, requests, _, dir) = scripted_with_bodies(scripts).await;
    (docker, requests, dir)
}

/// Like [`scripted`], and also returns the bodies of the requests.
async fn scripted_with_bodies(
    scripts: &[Script],
) -> (Docker, Received, Received, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let (requests, bodies) = (Received::default(), Received::default());
    let (server_requests, server_scripts) = (Arc::clone(&requests), scripts.to_vec());
    let server_bodies = Arc::clone(&bodies);
    tokio::spawn(async move {
        let mut count = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 64 * 1024];
            let length = stream.read(&mut bytes).await.unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let line = text.lines().next().unwrap_or_default();
            let line = line.trim_end_matches(" HTTP/1.1").to_owned();
            server_requests.lock().unwrap().push(line);
            let body = text.split_once("\r\n\r\n").unwrap_or_default().1;
            server_bodies.lock().unwrap().push(body.to_owned());
            match server_scripts[count.min(server_scripts.len() - 1)] {
                Script::Answer(status, body) => {
                    let length = body.len();
                    let text = format!(
                        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                    );
                    stream.write_all(text.as_bytes()).await.unwrap();
                }
                Script::Close => {}
                Script::Hang => {
                    tokio::spawn(async move {
                        let _stream = stream;
                        std::future::pending::<()>().await;
                    });
                }
            }
            count += 1;
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let address = Address::parse(&address).unwrap();
    // With `Hang`, the test waits until this time is over. With all other scripts, it must never be over.
    let hangs = scripts.iter().any(|script| matches!(script, Script::Hang));
    let timeout = Duration::from_millis(if hangs { 500 } else { 60_000 });
    let client = ApiClient::with_timeout(address.clone(), timeout).unwrap();
    let settings = DockerSettings {
        address,
        image: "worker:1".to_owned(),
        nano_cpus: Some(1_500_000_000),
        network: "bridge".to_owned(),
        has_configured_url: false,
    };
    let context = DispatchContext {
        dispatch: "d1".to_owned(),
        mounts: vec![Mount {
            dir: "/state/integration.git".into(),
            is_read_only: false,
        }],
        user: (1234, 100),
        stop_window: Duration::from_secs(5),
    };
    let docker = Docker::new(client, settings, context, dir.path().to_owned());
    let mut users = docker.image_users.0.lock().unwrap();
    users.insert("worker:1".to_owned(), "1000".to_owned());
    drop(users);
    (docker, requests, bodies, dir)
}

fn spec() -> RunSpec {
    RunSpec {
        variables: vec![variable("TASK_ID", "p:8")],
        removed_variables: Vec::new(),
        inherited_variables: Vec::new(),
        memory: Some(64 << 20),
        needs: TaskNeeds::default(),
    }
}

fn handle() -> Handle {
    Handle::Docker {
        container: "c1".to_owned(),
    }
}

use Script::{Answer, Close, Hang};

#[tokio::test]
async fn start_creates_and_starts_a_container() {
    let (docker, requests, _dir) =
        scripted(&[Answer(201, r#"{"Id":"c1"}"#), Answer(204, "")]).await;
    assert_eq!(docker.start("run-1", &spec()).await, Ok(handle()));
    assert_eq!(
        *requests.lock().unwrap(),
        [
            "POST /containers/create?name=run-1",
            "POST /containers/c1/start"
        ]
    );
}

#[tokio::test]
async fn start_adopts_an_existing_container_and_does_not_restart_one_that_has_ended() {
    let conflict = Answer(
        409,
        r#"{"message":"Conflict. The container name is in use"}"#,
    );
    let found = r#"{"Id":"c1","State":{"Status":"exited"},"Config":{"Labels":{"descartes-dispatch":"d1"}}}"#;
    let (docker, requests, _dir) = scripted(&[conflict, Answer(200, found)]).await;
    assert_eq!(docker.start("run-1", &spec()).await, Ok(handle()));
    assert_eq!(requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn start_starts_an_existing_container_that_was_only_created() {
    let conflict = Answer(409, "{}");
    let found = r#"{"Id":"c1","State":{"Status":"created"},"Config":{"Labels":{"descartes-dispatch":"d1"}}}"#;
    let (docker, requests, _dir) = scripted(&[conflict, Answer(200, found), Answer(204, "")]).await;
    assert_eq!(docker.start("run-1", &spec()).await, Ok(handle()));
    assert_eq!(requests.lock().unwrap()[2], "POST /containers/c1/start");
}

#[tokio::test]
async fn start_fails_if_a_container_with_the_name_belongs_to_another_dispatch() {
    let found = r#"{"Id":"c1","State":{"Status":"running"},"Config":{"Labels":{}}}"#;
    let (docker, _, _dir) = scripted(&[Answer(409, "{}"), Answer(200, found)]).await;
    let failure = docker.start("run-1", &spec()).await.unwrap_err();
    assert!(
        matches!(&failure, StartFailure::Failed(why) if why.contains("not of this dispatch")),
        "{failure:?}"
    );
}

#[tokio::test]
async fn the_result_of_a_start_without_a_clear_answer_is_unknown() {
    let unclear = [
        Hang,
        Close,
        Answer(500, r#"{"message":"server error"}"#),
        Answer(503, "<html>"),
        Answer(200, "garbage"),
        Answer(201, r#"{"Name":"no id"}"#),
    ];
    for script in unclear {
        let (docker, _, _dir) = scripted(&[script]).await;
        let failure = docker.start("run-1", &spec()).await.unwrap_err();
        assert!(matches!(failure, StartFailure::Unknown(_)), "{failure:?}");
    }
}

#[tokio::test]
async fn a_start_that_the_engine_rejects_is_refused_with_the_message_of_the_engine() {
    for code in [400, 401, 403] {
        let (docker, _, _dir) =
            scripted(&[Answer(code, r#"{"message":"invalid memory limit"}"#)]).await;
        let failure = docker.start("run-1", &spec()).await.unwrap_err();
        let expected = format!("invalid memory limit ({code})");
        assert_eq!(failure, StartFailure::Refused(expected));
    }
}

#[tokio::test]
async fn the_states_of_runs_are_an_error_if_the_engine_gives_no_clear_answer() {
    for script in [
        Hang,
        Close,
        Answer(500, "{}"),
        Answer(200, "[garbage"),
        Answer(200, "{}"),
    ] {
        let (docker, _, _dir) = scripted(&[script]).await;
        let runs = [("run-1".to_owned(), handle())];
        assert!(docker.states_of(&runs).await.is_err());
    }
}

#[tokio::test]
async fn a_container_that_the_list_lacks_is_gone_only_if_a_second_request_confirms_it() {
    let runs = [("run-1".to_owned(), handle())];
    let gone = [
        Answer(200, "[]"),
        Answer(404, r#"{"message":"No such container"}"#),
    ];
    let (docker, _, _dir) = scripted(&gone).await;
    assert_eq!(
        docker.states_of(&runs).await,
        Ok(vec![("run-1".to_owned(), WorkerState::Gone)])
    );
    let exists = [
        Answer(200, "[]"),
        Answer(200, r#"{"Id":"c1","State":{"Status":"running"}}"#),
    ];
    let (docker, _, _dir) = scripted(&exists).await;
    assert_eq!(
        docker.states_of(&runs).await,
        Ok(vec![("run-1".to_owned(), WorkerState::Running)])
    );
}

#[tokio::test]
async fn when_a_container_has_ended_its_output_is_in_the_files_of_the_run() {
    let list = r#"[{"Id":"c1","State":"exited"}]"#;
    let found = r#"{"Id":"c1","State":{"Status":"exited","ExitCode":137,"OOMKilled":true,"Error":"broke"},"HostConfig":{"Memory":67108864}}"#;
    let runs = [("run-1".to_owned(), handle())];
    let log = "\u{1}\0\0\0\0\0\0\u{4}out\n\u{2}\0\0\0\0\0\0\u{4}err\n";
    let (docker, _, dir) =
        scripted(&[Answer(200, list), Answer(200, found), Answer(200, log)]).await;
    let states = docker.states_of(&runs).await;
    assert_eq!(
        states,
        Ok(vec![(
            "run-1".to_owned(),
            WorkerState::Ended(WorkerEnd {
                code: Some(137),
                is_out_of_memory: true,
            })
        )])
    );
    let text = |name: &str| fs::read_to_string(dir.path().join("run-1").join(name)).unwrap();
    assert_eq!(text("stdout"), "out\n");
    assert_eq!(
        text("log"),
        "err\ndocker: the container ran out of memory; its limit is 64 MiB\ndocker: broke\n"
    );
}

#[tokio::test]
async fn a_run_whose_output_cannot_be_read_ends_without_output_after_five_attempts() {
    let list = r#"[{"Id":"c1","State":"exited"}]"#;
    let found = r#"{"Id":"c1","State":{"Status":"exited","ExitCode":0}}"#;
    let runs = [("run-1".to_owned(), handle())];
    let seen =
        |states: Result<Vec<RunState>, String>| -> WorkerState { states.unwrap().remove(0).1 };
    let ended = WorkerState::Ended(WorkerEnd {
        code: Some(0),
        is_out_of_memory: false,
    });
    // Half a frame: the output is not whole yet.
    let cut = Answer(200, "\u{1}\0\0\0\0\0\0\u{9}out");
    let refused = Answer(
        501,
        r#"{"message":"the logging driver does not support reading"}"#,
    );
    for (log, words) in [
        (cut, "the output of run-1 is not whole"),
        (refused, "the logging driver does not support reading"),
    ] {
        let answers = [Answer(200, list), Answer(200, found), log].repeat(5);
        let (docker, _, dir) = scripted(&answers).await;
        for _ in 0..4 {
            assert_eq!(seen(docker.states_of(&runs).await), WorkerState::Unknown);
        }
        assert_eq!(seen(docker.states_of(&runs).await), ended);
        let text = fs::read_to_string(dir.path().join("run-1/log")).unwrap();
        assert!(
            text.contains("docker: its output could not be read: "),
            "{text}"
        );
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn stop_wait_save_and_remove_succeed_if_the_container_does_not_exist() {
    let (docker, _, _dir) = scripted(&[Answer(404, "{}")]).await;
    assert_eq!(docker.stop(&handle(), Duration::from_secs(1)).await, Ok(()));
    assert_eq!(docker.wait_for_end(&handle()).await, Ok(()));
    assert_eq!(docker.save_output("run-1", &handle()).await, Ok(()));
    assert_eq!(docker.remove(&handle()).await, Ok(()));
    let (docker, _, _dir) = scripted(&[Answer(409, "{}")]).await;
    assert_eq!(docker.remove(&handle()).await, Ok(()));
}

#[tokio::test]
async fn containers_reach_this_machine_at_the_gateway_of_their_network() {
    let scripts = |network: &'static str| {
        [
            Answer(200, r#"{"ApiVersion":"1.41"}"#),
            Answer(200, r#"{"Config":{"User":"1000"}}"#),
            Answer(200, network),
        ]
    };
    let bridge = r#"{"IPAM":{"Config":[{"Subnet":"172.17.0.0/16","Gateway":"172.17.0.1"}]}}"#;
    let (docker, requests, _dir) = scripted(&scripts(bridge)).await;
    let ip = docker.prepare(&|_| {}).await.unwrap();
    assert_eq!(ip, Some("172.17.0.1".parse().unwrap()));
    assert_eq!(
        *requests.lock().unwrap(),
        [
            "GET /version",
            "GET /images/worker:1/json",
            "GET /networks/bridge"
        ]
    );
    let (docker, _, _dir) = scripted(&scripts(r#"{"IPAM":{"Config":[]}}"#)).await;
    let error = docker.prepare(&|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("has no gateway"), "{error}");
}

#[tokio::test]
async fn a_missing_image_is_pulled_and_the_progress_is_shown() {
    let scripts = [
        Answer(200, "{}"),
        Answer(404, r#"{"message":"No such image"}"#),
        Answer(200, "{\"status\":\"Pulling\"}\n{\"status\":\"Done\"}\n"),
        Answer(200, r#"{"Config":{"User":""}}"#),
        Answer(200, r#"{"IPAM":{"Config":[{"Gateway":"172.17.0.1"}]}}"#),
    ];
    let (docker, requests, _dir) = scripted(&scripts).await;
    let messages = Mutex::new(Vec::new());
    docker
        .prepare(&|text| messages.lock().unwrap().push(text.to_owned()))
        .await
        .unwrap();
    assert_eq!(
        requests.lock().unwrap()[2],
        "POST /images/create?fromImage=worker&tag=1"
    );
    assert_eq!(
        *messages.lock().unwrap(),
        ["pulling the image worker:1", "pulled the image worker:1"]
    );
}

#[tokio::test]
async fn the_body_for_a_container_has_limits_labels_the_repository_and_its_owner() {
    let (docker, _, _dir) = scripted(&[Hang]).await;
    let (settings, context) = (&docker.settings, &docker.context);
    let body = container_body("run-1", &spec(), settings, context, "1000");
    let expected = json!({
        "Image": "worker:1",
        "Env": ["TASK_ID=p:8", "DESCARTES_RUN_ID=run-1", "HOME=/tmp"],
        "User": "1234:100",
        "Labels": { "descartes-dispatch": "d1", "descartes-run": "run-1" },
        "StopSignal": "SIGTERM",
        "StopTimeout": 5,
        "HostConfig": {
            "NetworkMode": "bridge",
            "Memory": 67_108_864,
            "MemorySwap": 67_108_864,
            "NanoCpus": 1_500_000_000_u64,
            "Mounts": [{
                "Type": "bind",
                "Source": "/state/integration.git",
                "Target": "/state/integration.git",
                "ReadOnly": false,
            }],
            "RestartPolicy": { "Name": "no" },
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "64m", "max-file": "2" } },
            "ExtraHosts": ["host.docker.internal:host-gateway"],
        },
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn home_is_tmp_unless_the_user_of_the_needed_image_owns_the_repository() {
    let (created, started) = (Answer(201, r#"{"Id":"c1"}"#), Answer(204, ""));
    let found = Answer(200, r#"{"Config":{"User":"1234:1234"}}"#);
    let scripts = [created, started, found, created, started, created, started];
    let (docker, requests, bodies, _dir) = scripted_with_bodies(&scripts).await;
    let mut other = spec();
    other.needs.image = Some("other:1".to_owned());
    for spec in [&spec(), &other, &other] {
        assert_eq!(docker.start("run-1", spec).await, Ok(handle()));
    }
    let mut homes = Vec::new();
    for (request, body) in requests
        .lock()
        .unwrap()
        .iter()
        .zip(&*bodies.lock().unwrap())
    {
        if request.starts_with("POST /containers/create") {
            homes.push((
                body.contains(r#""Image":"other:1""#),
                body.contains("HOME=/tmp"),
            ));
        }
    }
    assert_eq!(homes, [(false, true), (true, false), (true, false)]);
    assert_eq!(requests.lock().unwrap()[2], "GET /images/other:1/json");
    assert_eq!(requests.lock().unwrap().len(), 7);
}
