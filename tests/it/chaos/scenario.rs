//! A run with random faults. Its seed decides everything beforehand: what the agent does, what the receiver
//! answers, which other faults happen, and when.

use std::iter;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::Reply;

/// What the agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Succeed,
    Fail,
    /// Works until the worker stops it or the task's time limit is over.
    Continue,
}

impl Work {
    pub fn script(self) -> &'static str {
        match self {
            Self::Succeed => "echo $$ > pid; echo working; sleep 0.05",
            Self::Fail => "echo $$ > pid; echo working; sleep 0.02; exit 3",
            Self::Continue => "echo $$ > pid; while :; do echo working; sleep 0.05; done",
        }
    }
}

/// A fault that is not an answer.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    Signal(Signal),
    CloseReceiver,
    ReopenReceiver,
}

#[derive(Debug)]
pub struct Scenario {
    pub work: Work,
    /// For each route: its name, the answers to the first requests in order, and the answer to all later requests.
    pub answers: Vec<(&'static str, Vec<Reply>, Reply)>,
    /// Sorted by time.
    pub events: Vec<(Duration, Event)>,
    pub settings: Vec<(&'static str, String)>,
}

impl Scenario {
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random(seed);
        let work = match random.below(10) {
            0..6 => Work::Succeed,
            6..8 => Work::Fail,
            _ => Work::Continue,
        };
        let ms = |ms: u64| format!("{ms}ms");
        let settings = vec![
            ("DESCARTES_CALLBACK_TIMEOUT", ms(300)),
            ("DESCARTES_CLAIM_DEADLINE", ms(1000 + random.below(2000))),
            ("DESCARTES_FINISH_DEADLINE", ms(1000 + random.below(2000))),
            ("DESCARTES_STOP_WINDOW", ms(1 + random.below(1500))),
            ("DESCARTES_HEARTBEAT", ms(5 + random.below(50))),
            ("DESCARTES_TASK_TIMEOUT", timeout(work).to_owned()),
        ];
        let answers = vec![
            claims(&mut random),
            heartbeats(&mut random),
            outcomes("completed", &mut random),
            outcomes("failed", &mut random),
        ];
        Self {
            work,
            answers,
            events: events(&mut random),
            settings,
        }
    }

    pub fn is_signalled(&self) -> bool {
        let mut events = self.events.iter();
        events.any(|(_, event)| matches!(event, Event::Signal(_)))
    }

    /// The answers on a route in order; an infinite iterator.
    pub fn answers_of(&self, route: &str) -> impl Iterator<Item = &Reply> {
        let (_, script, then) = self
            .answers
            .iter()
            .find(|(known, ..)| *known == route)
            .unwrap();
        script.iter().chain(iter::repeat(then))
    }
}

const CANCEL: &str = r#"{"cancel": true, "reason": "a bad scenario"}"#;

/// Whether an answer to a heartbeat cancels the task.
pub fn is_cancellation(reply: &Reply) -> bool {
    match reply {
        Reply::Answer { status, body, .. } => matches!(status, 409 | 410) || body == CANCEL,
        _ => false,
    }
}

/// The status of an answer that does not break off.
pub fn status(reply: &Reply) -> Option<u16> {
    match reply {
        Reply::Answer { status, .. } => Some(*status),
        Reply::After(_, reply) | Reply::AfterRelease(_, reply) | Reply::ThenClose(reply) => {
            status(reply)
        }
        Reply::Reset
        | Reply::BreakInHead
        | Reply::BreakInBody
        | Reply::BreakInBodyWithStatus(_) => None,
    }
}

/// The task's time limit. An agent that ends by itself must have enough time.
fn timeout(work: Work) -> &'static str {
    match work {
        Work::Continue => "300ms",
        Work::Succeed | Work::Fail => "1h",
    }
}

/// The answers to claims. Most claims are granted, some are refused or rejected.
fn claims(random: &mut Random) -> (&'static str, Vec<Reply>, Reply) {
    let then = match random.below(20) {
        0 => Reply::status(random.one_of(&[409, 410])),
        1 => Reply::status(random.one_of(&[400, 401, 403, 413, 422, 302, 308])),
        _ => Reply::json(200, "{}"),
    };
    (
        "started",
        faulty_answers(random, &then, &[404, 405, 501]),
        then,
    )
}

/// The answers to terminal events on a route.
fn outcomes(route: &'static str, random: &mut Random) -> (&'static str, Vec<Reply>, Reply) {
    let then = match random.below(20) {
        0 => Reply::status(random.one_of(&[409, 410])),
        1 => Reply::status(random.one_of(&[400, 401, 403, 404, 405, 422, 501, 302])),
        2 => Reply::status(503),
        _ => Reply::json(200, "{}"),
    };
    (route, faulty_answers(random, &then, &[413]), then)
}

/// The answers to heartbeats. Some of them cancel the task.
fn heartbeats(random: &mut Random) -> (&'static str, Vec<Reply>, Reply) {
    let (count, success) = (random.below(8), Reply::json(200, "{}"));
    let replies = (0..count).map(|_| match random.below(24) {
        0 => Reply::json(200, CANCEL),
        1 => Reply::status(random.one_of(&[409, 410])),
        2 => Reply::status(random.one_of(&[404, 405, 501])),
        3..10 => faulty_answer(random, &success, &[400, 401, 403, 413, 422, 302]),
        _ => success.clone(),
    });
    ("progress", replies.collect(), success.clone())
}

/// Some faulty answers, after which the receiver answers with `then`. `rejections` are the statuses that mean a rejection on this
/// route.
fn faulty_answers(random: &mut Random, then: &Reply, rejections: &[u16]) -> Vec<Reply> {
    let count = random.one_of(&[0, 0, 0, 1, 1, 2, 3]);
    (0..count)
        .map(|_| faulty_answer(random, then, rejections))
        .collect()
}

fn faulty_answer(random: &mut Random, then: &Reply, rejections: &[u16]) -> Reply {
    let temporary = [408, 425, 429, 500, 502, 503, 504];
    match random.below(10) {
        0..3 => Reply::status(random.one_of(&temporary)),
        3 => {
            let seconds = random.one_of(&["0", "1", "3600", "soon"]);
            Reply::status(503).with_header("retry-after", seconds)
        }
        4 => Reply::status(random.one_of(rejections)),
        5 => Reply::Reset,
        6 => Reply::BreakInHead,
        7 => Reply::BreakInBody,
        8 => then.clone().then_close(),
        // Sometimes slower than the request timeout.
        _ => then.clone().after(Duration::from_millis(random.below(450))),
    }
}

/// Signals, and a receiver that is closed for some time.
fn events(random: &mut Random) -> Vec<(Duration, Event)> {
    let mut events = Vec::new();
    let signals = random.one_of(&[0, 0, 0, 1, 1, 2]);
    for _ in 0..signals {
        let signal = random.one_of(&[Signal::TERM, Signal::INT, Signal::HUP]);
        let at = Duration::from_millis(random.below(400));
        events.push((at, Event::Signal(signal)));
    }
    if random.below(5) == 0 {
        let close_time = Duration::from_millis(random.below(300));
        let reopen_time = close_time + Duration::from_millis(20 + random.below(500));
        events.extend([
            (close_time, Event::CloseReceiver),
            (reopen_time, Event::ReopenReceiver),
        ]);
    }
    events.sort_by_key(|(at, _)| *at);
    events
}

/// Random numbers from a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        let index = self.next() % choices.len() as u64;
        choices[usize::try_from(index).unwrap()].clone()
    }
}
