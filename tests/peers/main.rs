//! For writers of receivers: the real worker with the example receivers, which verify signatures with the official libraries.
//!
//! Needs what examples/receivers/install.sh installs; fails if something is missing.

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "all tests share the support, and these tests need only a part of it"
)]
mod support;

mod peer;

use std::io::{Read, Write};
use std::net::TcpStream;

use peer::{PEERS, Peer};
use rustix::process::Signal;
use support::receiver::ReceivedRequest;
use support::{Project, Receiver, Worker, each, wait_until};

/// The secret with which the receivers of this suite verify signatures.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// A secret that these receivers do not know.
const OTHER_SECRET: &str = "whsec_YW5vdGhlciBzZWNyZXQgb2YgYSBnb29kIGxlbmd0aA==";
/// An agent that works until the file `go` exists.
const WAIT_FOR_GO: &str = "touch there; until [ -e go ]; do sleep 0.02; done";

/// A worker for task 8 that reports to this receiver.
fn worker(peer: &Peer, project: &Project) -> Worker {
    Worker::without_settings()
        .env("TASK_ID", "8")
        .env("PROJECT_ID", "proj-456")
        .env("CALLBACK_URL", peer.url())
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .env("DESCARTES_WORKSPACE", project.dir())
        .env("DESCARTES_HEARTBEAT", "50ms")
}

#[test]
fn a_run_is_granted_and_shown_and_its_finished_task_is_refused() {
    each(&PEERS, |kind| {
        for (agent, code, words) in [
            ("echo grüße; sleep 0.2", 0, "proj-456/8 completed: task 8"),
            ("exit 7", 1, "8 failed: the agent's command failed"),
        ] {
            let (peer, project) = (Peer::start(kind, SECRET), Project::new());
            let ended = worker(&peer, &project).agent(agent).run();
            ended.assert_code(code);
            peer.wait_for("8 started: claiming the task");
            peer.wait_for(words);
            // The task is finished, so another claim is refused.
            let again = worker(&peer, &project).agent("touch again").run();
            again.assert_code(4);
            assert!(!project.path("again").exists());
        }
    });
}

#[test]
fn every_rule_that_probe_can_try_alone_is_kept() {
    each(&PEERS, |kind| {
        let peer = Peer::start(kind, SECRET);
        let ended = Worker::without_settings()
            .args(["probe", &peer.url()])
            .env("DESCARTES_CALLBACK_SECRET", SECRET)
            .run();
        ended.assert_code(0);
        let summary = ended.stdout.lines().last().expect("a summary");
        let words = "0 could be better, 0 broken, 3 not tried";
        assert!(summary.ends_with(words), "{}", ended.stdout);
    });
}

#[test]
fn a_second_run_is_refused_while_the_first_one_works() {
    each(&PEERS, |kind| {
        let (peer, project) = (Peer::start(kind, SECRET), Project::new());
        let first = worker(&peer, &project).agent(WAIT_FOR_GO).start();
        peer.wait_for("8 running: agent");
        let second = worker(&peer, &project).agent("touch second").run();
        second.assert_code(4);
        project.write("go", "");
        first.wait().assert_code(0);
        peer.wait_for("8 completed");
        assert!(!project.path("second").exists());
    });
}

#[test]
fn tasks_with_the_same_id_in_two_projects_run_at_the_same_time() {
    each(&PEERS, |kind| {
        let (peer, project) = (Peer::start(kind, SECRET), Project::new());
        let first = worker(&peer, &project).agent(WAIT_FOR_GO).start();
        peer.wait_for("proj-456/8 running: agent");
        let other = Project::new();
        let second = worker(&peer, &other)
            .env("PROJECT_ID", "another-project")
            .agent("true")
            .run();
        second.assert_code(0);
        peer.wait_for("another-project/8 completed");
        project.write("go", "");
        first.wait().assert_code(0);
    });
}

#[test]
fn a_retryable_failure_may_be_claimed_again_and_a_finished_task_may_not() {
    each(&PEERS, |kind| {
        let (peer, project) = (Peer::start(kind, SECRET), Project::new());
        let killed = worker(&peer, &project).agent("kill -9 $$").run();
        killed.assert_code(1);
        assert_eq!(killed.result_line()["failure"]["retryable"], true);
        worker(&peer, &project).agent("true").run().assert_code(0);
        let refused = worker(&peer, &project).agent("touch again").run();
        refused.assert_code(4);
        assert!(refused.stderr.contains("answered 410"), "{refused:#?}");
        assert!(!project.path("again").exists());
    });
}

#[test]
fn a_dead_workers_task_may_be_claimed_again_after_its_lease() {
    each(&PEERS, |kind| {
        let peer = Peer::start_with_lease(kind, SECRET, "20");
        let project = Project::new();
        let dead = worker(&peer, &project).agent("sleep 600").start();
        peer.wait_for("8 running: agent");
        dead.signal(Signal::KILL);
        let refused = worker(&peer, &project).agent("true").run();
        refused.assert_code(4);
        assert!(refused.stderr.contains("answered 409"), "{refused:#?}");
        wait_until("the end of the lease", || {
            worker(&peer, &project).agent("true").run().code == Some(0)
        });
        peer.wait_for("8 completed");
    });
}

#[test]
fn a_run_is_cancelled_by_hand() {
    each(&PEERS, |kind| {
        let (mut peer, project) = (Peer::start(kind, SECRET), Project::new());
        let running = worker(&peer, &project).agent(WAIT_FOR_GO).start();
        peer.wait_for("8 running: agent");
        peer.type_line("cancel 8");
        let ended = running.wait();
        ended.assert_code(1);
        let failure = &ended.result_line()["failure"];
        assert_eq!(failure["reason"], "cancelled");
        assert!(failure["message"].to_string().contains("cancelled by hand"));
        peer.wait_for("8 failed: the orchestrator cancelled the task");
    });
}

#[test]
fn a_worker_with_another_secret_is_refused() {
    each(&PEERS, |kind| {
        let (peer, project) = (Peer::start(kind, SECRET), Project::new());
        let ended = worker(&peer, &project)
            .agent("touch touched")
            .env("DESCARTES_CALLBACK_SECRET", OTHER_SECRET)
            .run();
        ended.assert_code(3);
        assert!(!project.path("touched").exists());
        peer.wait_for("refused /cb/started");
        // During a rotation, the receiver knows both secrets.
        let both = worker(&peer, &project)
            .agent("true")
            .env(
                "DESCARTES_CALLBACK_SECRET",
                format!("{OTHER_SECRET} {SECRET}"),
            )
            .run();
        both.assert_code(0);
    });
}

#[test]
fn a_changed_event_is_refused_and_a_repeated_event_counts_once() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .run();
    ended.assert_code(0);
    let claim = receiver.requests_to("started").remove(0);
    let outcome = receiver.requests_to("completed").remove(0);
    each(&PEERS, |kind| {
        let mut peer = Peer::start(kind, SECRET);
        let mut tampered = claim.clone();
        let at = tampered.body.iter().position(|byte| *byte == b'8').unwrap();
        tampered.body[at] = b'9';
        assert_eq!(replay(&peer, &tampered), 401);
        assert_eq!(
            replay(&peer, &outcome),
            409,
            "a terminal event without a claim"
        );
        for request in [&claim, &claim, &outcome, &outcome, &claim] {
            assert_eq!(replay(&peer, request), 200);
        }
        // The receiver prints the answer to this line after everything that it has printed about the requests.
        peer.type_line("cancel nothing");
        peer.wait_for("cancelling nothing");
        assert_eq!(
            peer.log().matches("8 completed").count(),
            1,
            "{}",
            peer.log()
        );
    });
}

#[test]
fn a_run_that_lost_its_task_is_refused_also_when_it_repeats_its_claim() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let recorded = Worker::new(&receiver, &project)
        .agent("true")
        .env("DESCARTES_CALLBACK_SECRET", SECRET)
        .env("DESCARTES_HEARTBEAT", "50ms")
        .run();
    recorded.assert_code(0);
    let claim = receiver.requests_to("started").remove(0);
    each(&PEERS, |kind| {
        let (peer, project) = (Peer::start_with_lease(kind, SECRET, "1"), Project::new());
        assert_eq!(replay(&peer, &claim), 200);
        wait_until("the end of the lease", || {
            let retryable = worker(&peer, &project).agent("kill -9 $$").run();
            retryable.code == Some(1)
        });
        assert_eq!(replay(&peer, &claim), 409);
    });
}

/// Sends a recorded request to a receiver; returns the status of the answer.
fn replay(peer: &Peer, recorded: &ReceivedRequest) -> u16 {
    let mut request = format!("POST {} HTTP/1.1\r\nconnection: close\r\n", recorded.target);
    for (name, value) in &recorded.headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    let mut stream = TcpStream::connect(peer.address()).expect("a listening peer");
    stream.write_all(request.as_bytes()).unwrap();
    stream.write_all(&recorded.body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no answer but {answer:?}"))
}
