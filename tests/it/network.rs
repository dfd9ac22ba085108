//! For people who set up networks: host names, IPv6, proxies, connections and certificate authorities.

use std::time::Duration;

use crate::support::receiver::assert_one_connection;
use crate::support::{Project, Receiver, Worker, duration_setting, with_enough_time};

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
fn a_missing_file_of_authorities_is_named_before_anything_is_sent() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("CALLBACK_URL", receiver.url().replace("http:", "https:"))
        .env("SSL_CERT_FILE", "/nowhere/ca.pem")
        .run();
    ended.assert_code(2);
    let words = "SSL_CERT_FILE: the certificate authorities in /nowhere/ca.pem cannot be read: \
                 No such file or directory";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    assert!(receiver.requests().is_empty());
}

#[test]
fn a_file_without_authorities_is_named_before_anything_is_sent() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.write("ca.pem", "no certificate\n");
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("CALLBACK_URL", "https://localhost:9")
        .env("SSL_CERT_FILE", project.path("ca.pem"))
        .run();
    ended.assert_code(2);
    let words = "SSL_CERT_FILE: there is no certificate authority in ";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    assert!(ended.stderr.contains("ca.pem"), "{}", ended.stderr);
}

#[test]
fn an_ipv6_address_works_as_the_host() {
    if let Err(no_ipv6) = std::net::TcpListener::bind("[::1]:0") {
        assert_unreachable_without_ipv6(&no_ipv6);
        return;
    }
    let (receiver, project) = (Receiver::listen("[::1]:0"), Project::new());
    assert!(receiver.url().contains("[::1]"));
    let ended = Worker::new(&receiver, &project).agent("true").run();
    ended.assert_code(0);
    let host = &receiver.requests()[0].headers["host"];
    assert!(host.starts_with("[::1]:"), "{host}");
}

/// Asserts that a worker on a machine without IPv6 reports in the system's words why it cannot reach an IPv6 address.
fn assert_unreachable_without_ipv6(no_ipv6: &std::io::Error) {
    let message = message_of_a_failed_claim("http://[::1]:9/cb", Duration::from_millis(300));
    assert!(message.contains(&no_ipv6.to_string()), "{message}");
}

/// The failure message of a worker that cannot claim its task at this callback URL. The message is about the last attempt. On a
/// slow machine, the claim deadline may end before this attempt has failed; then the test runs again with a longer deadline.
fn message_of_a_failed_claim(url: &str, deadline: Duration) -> String {
    with_enough_time(deadline, |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = Worker::new(&receiver, &project)
            .agent("true")
            .env("CALLBACK_URL", url)
            .env("DESCARTES_CLAIM_DEADLINE", duration_setting(limit))
            .run();
        ended.assert_code(3);
        let failure = &ended.result_line()["failure"];
        assert_eq!(failure["reason"], "unclaimed", "{failure}");
        let message = failure["message"].as_str().expect("a message");
        if message.contains("no answer within") {
            return Err(message.to_owned());
        }
        Ok(message.to_owned())
    })
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
    assert_eq!(receiver.requests()[0].target, "/cb/started?key=v");
}

#[test]
fn all_events_of_a_run_use_one_connection() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project).agent("exit 1").run();
    ended.assert_code(1);
    assert_one_connection(&receiver.requests());
}

#[test]
fn the_proxy_variables_of_other_programs_are_ignored() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let proxy = Receiver::start();
    let address = format!("http://{}", proxy.address());
    let mut worker = Worker::new(&receiver, &project).agent("true");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        worker = worker.env(name, &address);
    }
    worker.run().assert_code(0);
    assert!(proxy.requests().is_empty());
    assert_eq!(receiver.routes(), ["started", "completed"]);
}

#[test]
fn a_claim_whose_host_name_cannot_be_resolved_says_so() {
    let url = "http://orchestrator.invalid/cb";
    let message = message_of_a_failed_claim(url, Duration::from_millis(500));
    let words = "http://orchestrator.invalid/cb/started: the host name cannot be resolved (";
    assert!(message.contains(words), "{message}");
}
