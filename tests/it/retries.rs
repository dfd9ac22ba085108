//! For those who restart their orchestrator: what may pass is tried again, within its time.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::receiver::Said;
use crate::support::{
    Project, Receiver, Reply, Worker, assert_within, each, setting, with_enough_time,
};

/// Everything that may be better next time, whatever was asked.
fn passing() -> Vec<Reply> {
    let statuses = [408, 425, 429, 500, 502, 503, 504, 599];
    let mut replies: Vec<Reply> = statuses.map(Reply::status).into();
    replies.extend([Reply::Reset, Reply::BreakInHead, Reply::BreakInBody]);
    replies
}

/// Later attempts are the first one again.
#[track_caller]
fn assert_the_same(attempts: &[Said]) {
    for said in attempts {
        assert_eq!(said.bytes, attempts[0].bytes);
        let key = &said.headers["idempotency-key"];
        assert_eq!(*key, attempts[0].headers["idempotency-key"]);
        assert_eq!(said.event["event_id"], **key);
    }
}

fn waits(attempts: &[Said]) -> Vec<Duration> {
    let pairs = attempts.windows(2);
    pairs.map(|pair| pair[1].at - pair[0].at).collect()
}

#[test]
fn a_claim_is_tried_again_after_everything_that_may_pass() {
    let mut replies = passing();
    // A route may come up later than the port.
    replies.extend([404, 405, 501].map(Reply::status));
    each(&replies, |reply| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.script("started", [reply]);
        let ended = Worker::new(&receiver, &project).agent("true").run();
        ended.assert_code(0);
        assert_eq!(receiver.story(), ["started", "started", "completed"]);
        assert_the_same(&receiver.said_to("started"));
    });
}

#[test]
fn a_success_is_told_again_after_everything_that_may_pass() {
    each(&passing(), |reply| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.script("completed", [reply.clone(), reply]);
        let ended = Worker::new(&receiver, &project).agent("true").run();
        ended.assert_code(0);
        let told = receiver.said_to("completed");
        assert_eq!(told.len(), 3);
        assert_the_same(&told);
        assert_eq!(receiver.said_to("failed").len(), 0);
        assert_eq!(ended.result_line(), told[2].event);
    });
}

#[test]
fn a_failure_is_told_again_after_everything_that_may_pass() {
    each(&passing(), |reply| {
        let (receiver, project) = (Receiver::start(), Project::new());
        receiver.script("failed", [reply]);
        let ended = Worker::new(&receiver, &project).agent("exit 7").run();
        ended.assert_code(1);
        let told = receiver.said_to("failed");
        assert_eq!(told.len(), 2);
        assert_the_same(&told);
        assert_eq!(receiver.said_to("completed").len(), 0);
    });
}

#[test]
fn a_claim_that_is_not_answered_in_time_leaves_the_task_alone() {
    let replies = [
        Reply::status(503),
        Reply::status(404),
        Reply::status(503).with_header("retry-after", "3600"),
        Reply::status(200).after(Duration::MAX),
        Reply::BreakInBody,
    ];
    each(&replies, |reply| {
        with_enough_time(Duration::from_millis(1500), |limit| {
            unanswered(limit, &reply)
        });
    });
}

/// A claim that always has this reply, until its deadline.
fn unanswered(limit: Duration, reply: &Reply) -> Result<(), String> {
    let (receiver, project) = (Receiver::start(), Project::new());
    receiver.always("started", reply.clone());
    let ended = Worker::new(&receiver, &project)
        .env("DESCARTES_CLAIM_DEADLINE", setting(limit))
        .env("DESCARTES_CALLBACK_TIMEOUT", setting(limit / 4))
        .agent("touch touched")
        .run();
    ended.assert_code(3);
    let line = ended.result_line();
    assert_eq!(line["failure"]["reason"], "unclaimed");
    assert_eq!(line["failure"]["retryable"], true);
    assert!(!project.path("touched").exists());
    let claims = receiver.said_to("started");
    assert_the_same(&claims);
    assert_eq!(receiver.story().len(), claims.len());
    if claims.len() < 2 {
        return Err(format!("{} attempts instead of several", claims.len()));
    }
    Ok(())
}

#[test]
fn a_claim_that_reaches_nobody_says_so() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .env("CALLBACK_URL", format!("http://{address}"))
        .env("DESCARTES_CLAIM_DEADLINE", "500ms")
        .agent("true")
        .run();
    ended.assert_code(3);
    let message = ended.result_line()["failure"]["message"].to_string();
    assert!(message.contains("Connection refused"), "{message}");
}

#[test]
fn a_receiver_that_hangs_costs_one_request_and_no_more() {
    with_enough_time(Duration::from_millis(400), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let hanging = || Reply::status(200).after(Duration::MAX);
        receiver.script("started", [hanging()]);
        receiver.script("completed", [hanging()]);
        let mut before = Instant::now();
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_CALLBACK_TIMEOUT", setting(limit))
            .agent("true")
            .run();
        ended.assert_code(0);
        for route in ["started", "completed"] {
            let attempts = receiver.said_to(route);
            assert_the_same(&attempts);
            if attempts.len() > 2 {
                return Err(format!(
                    "a receiver that answers at once on /{route} was not heard"
                ));
            }
            assert_eq!(attempts.len(), 2);
            assert_ne!(attempts[0].connection, attempts[1].connection);
            // Not between the two: the receiver may have noticed the first one late.
            let waited = attempts[1].at - before;
            assert!(waited + Duration::from_millis(5) >= limit, "{waited:?}");
            before = attempts[1].at;
        }
        let expected = ["started", "started", "completed", "completed"];
        assert_eq!(receiver.story(), expected);
        Ok(())
    });
}

#[test]
fn the_orchestrator_says_when_to_come_back() {
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    // The date has no fractions.
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
            let attempts = receiver.said_to(route);
            let waited = waits(&attempts)[0];
            if after == "1" {
                assert!(waited >= Duration::from_secs(1), "{waited:?}");
            } else {
                let came = jiff::Timestamp::now() - attempts[1].at.elapsed();
                assert!(came >= at, "{came} is before {at}");
            }
            assert_within(Duration::from_secs(8), waited);
        }
    });
}

#[test]
fn workers_do_not_come_back_all_at_once() {
    let project = Project::new();
    let receiver = Receiver::start();
    let firsts: Vec<Duration> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let receiver = Receiver::start();
                    receiver.script("started", [Reply::status(503), Reply::status(409)]);
                    let ended = Worker::new(&receiver, &project).agent("true").run();
                    ended.assert_code(4);
                    waits(&receiver.said_to("started"))[0]
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(receiver.story().len(), 0);
    let (first, last) = (*firsts.iter().min().unwrap(), *firsts.iter().max().unwrap());
    // Any time between 0 and 250 ms: eight of them are not the same.
    assert_within(Duration::from_millis(250), first);
    assert!(last > first + Duration::from_millis(10), "{firsts:?}");
}

#[test]
fn an_outcome_that_nobody_takes_in_time_is_on_stdout_and_stays_what_it_was() {
    with_enough_time(Duration::from_secs(1), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let busy = Reply::status(503).with_header("retry-after", "3600");
        receiver.always("completed", busy);
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_FINISH_DEADLINE", setting(limit))
            .agent("true")
            .run();
        ended.assert_code(3);
        assert_eq!(ended.result_line()["status"], "completed");
        assert_eq!(receiver.said_to("failed").len(), 0);
        // However long the orchestrator wanted to wait, there was a last attempt.
        let told = receiver.said_to("completed");
        if told.len() < 2 {
            return Err("there was no last attempt".to_owned());
        }
        assert_eq!(told.len(), 2);
        assert_the_same(&told);
        assert_eq!(ended.result_line(), told[0].event);
        assert!(ended.stderr.contains("503"), "{}", ended.stderr);
        Ok(())
    });
}

#[test]
fn a_signal_while_an_outcome_is_delivered_hurries_it_and_changes_nothing() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let busy = || Reply::status(503).with_header("retry-after", "3600");
    receiver.script("completed", [busy(), busy(), busy()]);
    let running = Worker::new(&receiver, &project).agent("true").start();
    receiver.wait_for_one("completed");
    let signalled = Instant::now();
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(0);
    assert_within(Duration::from_secs(5), signalled.elapsed());
    let told = receiver.said_to("completed");
    assert_eq!(told.len(), 4);
    assert_the_same(&told);
    assert_eq!(receiver.said_to("failed").len(), 0);
}

#[test]
fn a_signal_ends_the_wait_for_a_claim() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let busy = Reply::status(503).with_header("retry-after", "50");
    receiver.always("started", busy);
    let running = Worker::new(&receiver, &project)
        .agent("touch touched")
        .start();
    receiver.wait_for_one("started");
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(3);
    assert_eq!(ended.result_line()["failure"]["reason"], "interrupted");
    assert_within(Duration::from_secs(5), ended.took);
    assert_eq!(receiver.story(), ["started"]);
    assert!(!project.path("touched").exists());
}

#[test]
fn a_claim_that_is_granted_to_a_worker_being_stopped_gets_its_terminal_event() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let slow = Reply::status(200).after(Duration::from_secs(1));
    receiver.script("started", [slow]);
    let running = Worker::new(&receiver, &project)
        .agent("touch touched")
        .start();
    receiver.wait_for_one("started");
    running.signal(Signal::INT);
    let ended = running.wait();
    ended.assert_code(1);
    assert_eq!(receiver.story(), ["started", "failed"]);
    let failed = receiver.only("failed");
    assert_eq!(failed["failure"]["reason"], "interrupted");
    assert!(!project.path("touched").exists());
}
