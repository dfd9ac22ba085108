//! For people who restart their orchestrator: requests are repeated after temporary failures, until a deadline.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use rustix::process::Signal;

use crate::support::receiver::ReceivedRequest;
use crate::support::{
    Hold, Project, Receiver, Reply, Worker, assert_within, duration_setting, each, with_enough_time,
};

/// The answers after which a claim and a terminal event are repeated.
fn temporary_failures() -> Vec<Reply> {
    let statuses = [408, 425, 429, 500, 502, 503, 504, 599];
    let mut replies: Vec<Reply> = statuses.map(Reply::status).into();
    replies.extend([Reply::Reset, Reply::BreakInHead, Reply::BreakInBody]);
    replies
}

/// Asserts that all attempts send the same event.
#[track_caller]
fn assert_same_event(attempts: &[ReceivedRequest]) {
    for request in attempts {
        assert_eq!(request.body, attempts[0].body);
        let key = &request.headers["idempotency-key"];
        assert_eq!(*key, attempts[0].headers["idempotency-key"]);
        assert_eq!(request.event["event_id"], **key);
    }
}

/// The times between consecutive attempts.
fn waits(attempts: &[ReceivedRequest]) -> Vec<Duration> {
    let pairs = attempts.windows(2);
    pairs.map(|pair| pair[1].at - pair[0].at).collect()
}

#[test]
fn a_claim_is_repeated_after_every_temporary_failure() {
    let mut replies = temporary_failures();
    // While an orchestrator starts, its port may be open before the route exists.
    replies.extend([404, 405, 501].map(Reply::status));
    each(&replies, |reply| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.script("started", [reply]);
        let ended = Worker::new(&receiver, &project).agent("true").run();
        ended.assert_code(0);
        assert_eq!(receiver.routes(), ["started", "started", "completed"]);
        assert_same_event(&receiver.requests_to("started"));
    });
}

#[test]
fn a_success_is_repeated_after_every_temporary_failure() {
    each(&temporary_failures(), |reply| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.script("completed", [reply.clone(), reply]);
        let ended = Worker::new(&receiver, &project).agent("true").run();
        ended.assert_code(0);
        let attempts = receiver.requests_to("completed");
        assert_eq!(attempts.len(), 3);
        assert_same_event(&attempts);
        assert_eq!(receiver.requests_to("failed").len(), 0);
        assert_eq!(ended.result_line(), attempts[2].event);
    });
}

#[test]
fn a_failure_is_repeated_after_every_temporary_failure() {
    each(&temporary_failures(), |reply| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.script("failed", [reply]);
        let ended = Worker::new(&receiver, &project).agent("exit 7").run();
        ended.assert_code(1);
        let attempts = receiver.requests_to("failed");
        assert_eq!(attempts.len(), 2);
        assert_same_event(&attempts);
        assert_eq!(receiver.requests_to("completed").len(), 0);
    });
}

#[test]
fn a_claim_without_a_usable_answer_is_repeated_until_its_deadline_and_no_work_is_done() {
    let replies = [
        Reply::status(503),
        Reply::status(404),
        Reply::status(200).after(Duration::MAX),
        Reply::BreakInBody,
    ];
    each(&replies, |reply| {
        with_enough_time(Duration::from_millis(1500), |limit| {
            claim_until_the_deadline(limit, &reply)
        });
    });
}

/// Runs a worker whose claims all get this reply, until the claim deadline; an error if the machine was too slow.
fn claim_until_the_deadline(limit: Duration, reply: &Reply) -> Result<(), String> {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.set_default_reply("started", reply.clone());
    let ended = Worker::new(&receiver, &project)
        .env("DESCARTES_CLAIM_DEADLINE", duration_setting(limit))
        .env("DESCARTES_CALLBACK_TIMEOUT", duration_setting(limit / 4))
        .agent("touch touched")
        .run();
    ended.assert_code(3);
    let line = ended.result_line();
    assert_eq!(line["failure"]["reason"], "unclaimed");
    assert_eq!(line["failure"]["retryable"], true);
    assert!(!project.path("touched").exists());
    let claims = receiver.requests_to("started");
    assert_same_event(&claims);
    assert!(receiver.routes().iter().all(|route| route == "started"));
    if claims.len() < 2 {
        return Err(format!("{} attempts instead of several", claims.len()));
    }
    Ok(())
}

#[test]
fn a_claim_ends_after_one_attempt_if_retry_after_is_longer_than_its_deadline() {
    // 600 s are as long as the deadline, but the last attempt needs time, too.
    each(&["3600", "600", "99999999999999999999"], |retry_after| {
        for status in [429, 503, 404] {
            let (receiver, project) = (Receiver::start(), Project::new());
            let busy = Reply::status(status).with_header("retry-after", retry_after);
            receiver.set_default_reply("started", busy);
            let ended = Worker::new(&receiver, &project)
                .env("DESCARTES_CLAIM_DEADLINE", "10m")
                .agent("touch touched")
                .run();
            ended.assert_code(3);
            assert_eq!(
                receiver.routes(),
                ["started"],
                "the worker repeated the claim too early"
            );
            let message = ended.result_line()["failure"]["message"].to_string();
            assert!(message.contains("it asks to wait "), "{message}");
            assert!(!project.path("touched").exists());
        }
    });
}

#[test]
fn a_refused_connection_is_named_with_its_url() {
    // This socket reserves the port and does not listen, so no other server can answer there.
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = getsockname(&socket).expect("the address");
    let address = SocketAddrV4::try_from(address).expect("an IPv4 address");
    with_enough_time(Duration::from_millis(500), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = Worker::new(&receiver, &project)
            .env("CALLBACK_URL", format!("http://{address}"))
            .env("DESCARTES_CLAIM_DEADLINE", duration_setting(limit))
            .agent("true")
            .run();
        ended.assert_code(3);
        let message = ended.result_line()["failure"]["message"].to_string();
        if message.contains("no answer within") {
            return Err(message);
        }
        let expected = format!("http://{address}/started: connection refused\"");
        assert!(message.ends_with(&expected), "{message}");
        Ok(())
    });
}

#[test]
fn a_request_without_an_answer_is_repeated_after_its_timeout() {
    with_enough_time(Duration::from_millis(400), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let no_answer = || Reply::status(200).after(Duration::MAX);
        receiver.script("started", [no_answer()]);
        receiver.script("completed", [no_answer()]);
        let mut before = Instant::now();
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_CALLBACK_TIMEOUT", duration_setting(limit))
            .agent("true")
            .run();
        ended.assert_code(0);
        for route in ["started", "completed"] {
            let attempts = receiver.requests_to(route);
            assert_same_event(&attempts);
            if attempts.len() > 2 {
                return Err(format!("the receiver's answer on /{route} came too late"));
            }
            assert_eq!(attempts.len(), 2);
            assert_ne!(attempts[0].connection, attempts[1].connection);
            // The time between the two attempts is not measured: the receiver may have read the first one late.
            let wait = attempts[1].at - before;
            assert!(wait + Duration::from_millis(5) >= limit, "{wait:?}");
            before = attempts[1].at;
        }
        let expected = ["started", "started", "completed", "completed"];
        assert_eq!(receiver.routes(), expected);
        Ok(())
    });
}

#[test]
fn the_worker_waits_for_a_retry_after_in_seconds_or_as_a_date() {
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    // A date has whole seconds.
    let at = jiff::Timestamp::from_second(later.as_second()).unwrap();
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let date = printer.timestamp_to_rfc9110_string(&at).unwrap();
    each(&["1".to_owned(), date], |after| {
        for route in ["started", "completed"] {
            let (receiver, project) = (Receiver::start(), Project::new());
            let busy = Reply::status(429).with_header("retry-after", after.clone());
            receiver.script(route, [busy]);
            let ended = Worker::new(&receiver, &project).agent("true").run();
            ended.assert_code(0);
            let attempts = receiver.requests_to(route);
            let wait = waits(&attempts)[0];
            if after == "1" {
                assert!(wait >= Duration::from_secs(1), "{wait:?}");
            } else {
                let arrival = jiff::Timestamp::now() - attempts[1].at.elapsed();
                assert!(arrival >= at, "{arrival} is before {at}");
            }
            assert_within(Duration::from_secs(60), wait);
        }
    });
}

#[test]
fn workers_that_repeat_a_claim_wait_for_different_times() {
    let project = Project::new();
    let first_waits: Vec<Duration> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let receiver = Receiver::start();
                    receiver.script("started", [Reply::status(503), Reply::status(409)]);
                    let ended = Worker::new(&receiver, &project).agent("true").run();
                    ended.assert_code(4);
                    waits(&receiver.requests_to("started"))[0]
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let shortest = *first_waits.iter().min().unwrap();
    let longest = *first_waits.iter().max().unwrap();
    // Each wait is a random time between 0 and 250 ms, so eight waits differ. The answers to the requests take some time, too.
    assert_within(Duration::from_secs(10), shortest);
    assert!(
        longest > shortest + Duration::from_millis(10),
        "{first_waits:?}"
    );
}

#[test]
fn an_outcome_without_an_accepting_answer_before_the_deadline_is_on_stdout_unchanged() {
    with_enough_time(Duration::from_secs(1), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.set_default_reply("completed", Reply::status(503));
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_FINISH_DEADLINE", duration_setting(limit))
            .agent("true")
            .run();
        ended.assert_code(3);
        assert_eq!(ended.result_line()["status"], "completed");
        assert_eq!(receiver.requests_to("failed").len(), 0);
        let attempts = receiver.requests_to("completed");
        if attempts.len() < 2 {
            return Err("there was one attempt only".to_owned());
        }
        assert_same_event(&attempts);
        assert_eq!(ended.result_line(), attempts[0].event);
        assert!(ended.stderr.contains("503"), "{}", ended.stderr);
        Ok(())
    });
}

#[test]
fn an_outcome_is_sent_once_if_retry_after_is_longer_than_the_finish_deadline() {
    each(
        &[("completed", "true"), ("failed", "false")],
        |(route, agent)| {
            let (receiver, project) = (Receiver::start(), Project::new());
            let busy = Reply::status(503).with_header("retry-after", "3600");
            receiver.set_default_reply(route, busy);
            let ended = Worker::new(&receiver, &project)
                .env("DESCARTES_FINISH_DEADLINE", "30m")
                .agent(agent)
                .run();
            ended.assert_code(3);
            assert_eq!(receiver.routes(), ["started", route]);
            assert_eq!(ended.result_line(), receiver.only_event(route));
            let words = "answered 503 Service Unavailable (it asks to wait 3600 s, but";
            assert!(ended.stderr.contains(words), "{}", ended.stderr);
        },
    );
}

#[test]
fn a_stop_signal_during_the_delivery_shortens_the_waits_and_changes_nothing_else() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let busy = || Reply::status(503).with_header("retry-after", "600");
    receiver.script("completed", [busy(), busy(), busy()]);
    let running = Worker::new(&receiver, &project).agent("true").start();
    receiver.wait_for_first("completed");
    let signal_time = Instant::now();
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(0);
    // Without the signal, each wait would take the 600 s that the receiver asks for.
    assert_within(Duration::from_secs(60), signal_time.elapsed());
    let attempts = receiver.requests_to("completed");
    assert_eq!(attempts.len(), 4);
    assert_same_event(&attempts);
    assert_eq!(receiver.requests_to("failed").len(), 0);
}

#[test]
fn a_stop_signal_ends_the_wait_for_a_claim() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let busy = Reply::status(503).with_header("retry-after", "50");
    receiver.set_default_reply("started", busy);
    let running = Worker::new(&receiver, &project)
        .agent("touch touched")
        .start();
    receiver.wait_for_first("started");
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(3);
    assert_eq!(ended.result_line()["failure"]["reason"], "interrupted");
    // Without the signal, the wait would take the 50 s that the receiver asks for.
    assert_within(Duration::from_secs(40), ended.duration);
    assert_eq!(receiver.routes(), ["started"]);
    assert!(!project.path("touched").exists());
}

#[test]
fn a_worker_whose_claim_is_granted_after_a_stop_signal_sends_a_terminal_event() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let hold = Hold::default();
    receiver.script("started", [Reply::status(200).after_release(&hold)]);
    let running = Worker::new(&receiver, &project)
        .agent("touch touched")
        .start();
    receiver.wait_for_first("started");
    running.signal(Signal::INT);
    running.wait_for_log("stopping; a second signal");
    hold.release();
    let ended = running.wait();
    ended.assert_code(1);
    assert_eq!(receiver.routes(), ["started", "failed"]);
    let failed = receiver.only_event("failed");
    assert_eq!(failed["failure"]["reason"], "interrupted");
    assert!(!project.path("touched").exists());
}
