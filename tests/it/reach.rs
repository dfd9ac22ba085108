//! For those who set up networks: what a worker reaches, by which way, and what it needs for that.

use crate::support::receiver::assert_one_connection;
use crate::support::{Project, Receiver, Worker};

#[test]
fn plain_http_needs_no_authorities() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("SSL_CERT_FILE", "/nowhere/ca.pem")
        .run();
    ended.assert_code(0);
}

#[test]
fn https_with_authorities_that_are_not_there_says_so_before_anything_is_sent() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("CALLBACK_URL", receiver.url().replace("http:", "https:"))
        .env("SSL_CERT_FILE", "/nowhere/ca.pem")
        .run();
    ended.assert_code(2);
    assert!(ended.stderr.contains("/nowhere/ca.pem"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    assert!(receiver.said().is_empty());
}

#[test]
fn authorities_that_are_none_say_so_before_anything_is_sent() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.write("ca.pem", "no certificate\n");
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("CALLBACK_URL", "https://localhost:9")
        .env("SSL_CERT_FILE", project.path("ca.pem"))
        .run();
    ended.assert_code(2);
    assert!(ended.stderr.contains("no certificate authority"));
    assert!(ended.stderr.contains("ca.pem"), "{}", ended.stderr);
}

#[test]
fn an_ipv6_literal_is_an_address_like_any_other() {
    let (receiver, project) = (Receiver::listen("[::1]:0"), Project::new());
    assert!(receiver.url().contains("[::1]"));
    let ended = Worker::new(&receiver, &project).agent("true").run();
    ended.assert_code(0);
    let host = &receiver.said()[0].headers["host"];
    assert!(host.starts_with("[::1]:"), "{host}");
}

#[test]
fn a_host_name_is_looked_up() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let url = format!("http://localhost:{}/cb/?key=v", receiver.address().port());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("CALLBACK_URL", url)
        .run();
    ended.assert_code(0);
    assert_eq!(receiver.said()[0].target, "/cb/started?key=v");
}

#[test]
fn one_connection_is_enough() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project).agent("exit 1").run();
    ended.assert_code(1);
    assert_one_connection(&receiver.said());
}

#[test]
fn a_proxy_of_other_programs_is_not_asked() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let proxy = Receiver::start();
    let address = format!("http://{}", proxy.address());
    let mut worker = Worker::new(&receiver, &project).agent("true");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        worker = worker.env(name, &address);
    }
    worker.run().assert_code(0);
    assert!(proxy.said().is_empty());
    assert_eq!(receiver.story(), ["started", "completed"]);
}

#[test]
fn a_name_that_nobody_knows_is_an_orchestrator_that_does_not_answer() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("CALLBACK_URL", "http://orchestrator.invalid/cb")
        .env("DESCARTES_CLAIM_DEADLINE", "500ms")
        .run();
    ended.assert_code(3);
    assert_eq!(ended.result_line()["failure"]["reason"], "unclaimed");
}
