//! A run with random faults. Its seed decides everything beforehand: how the agent behaves, what the receiver
//! answers, which other faults happen, and when.

use std::iter;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::Reply;

/// How the agent behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentBehavior {
    Succeed,
    Fail,
    /// Works until the worker stops it or the task's time limit is over.
    Continue,
}

impl AgentBehavior {
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
pub enum Fault {
    Signal(Signal),
    CloseReceiver,
    ReopenReceiver,
}

/// A fault, and the time from the start of the worker to it.
#[derive(Debug)]
pub struct TimedFault {
    pub time: Duration,
    pub fault: Fault,
}

/// The receiver's answers on one route.
#[derive(Debug)]
pub struct RouteAnswers {
    pub route: &'static str,
    /// The answers to the first requests, in order.
    pub first: Vec<Reply>,
    /// The answer to all later requests.
    pub later: Reply,
}

#[derive(Debug)]
pub struct Scenario {
    pub agent: AgentBehavior,
    pub answers: Vec<RouteAnswers>,
    /// Sorted by time.
    pub faults: Vec<TimedFault>,
    pub settings: Vec<(&'static str, String)>,
}

impl Scenario {
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random(seed);
        let agent = match random.below(10) {
            0..6 => AgentBehavior::Succeed,
            6..8 => AgentBehavior::Fail,
            _ => AgentBehavior::Continue,
        };
        let milliseconds = |count: u64| format!("{count}ms");
        let settings = vec![
            ("DESCARTES_CALLBACK_TIMEOUT", milliseconds(300)),
            (
                "DESCARTES_CLAIM_DEADLINE",
                milliseconds(1000 + random.below(2000)),
            ),
            (
                "DESCARTES_FINISH_DEADLINE",
                milliseconds(1000 + random.below(2000)),
            ),
            (
                "DESCARTES_STOP_WINDOW",
                milliseconds(1 + random.below(1500)),
            ),
            ("DESCARTES_HEARTBEAT", milliseconds(5 + random.below(50))),
            ("DESCARTES_TASK_TIMEOUT", task_timeout(agent).to_owned()),
        ];
        let answers = vec![
            claim_answers(&mut random),
            heartbeat_answers(&mut random),
            outcome_answers("completed", &mut random),
            outcome_answers("failed", &mut random),
        ];
        Self {
            agent,
            answers,
            faults: random_faults(&mut random),
            settings,
        }
    }

    pub fn is_signalled(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|timed| matches!(timed.fault, Fault::Signal(_)))
    }

    /// The answers on a route in order; an infinite iterator.
    pub fn answers_of(&self, route: &str) -> impl Iterator<Item = &Reply> {
        let mut answers = self.answers.iter();
        let answers = answers.find(|answers| answers.route == route).unwrap();
        answers.first.iter().chain(iter::repeat(&answers.later))
    }
}

/// The body of an answer to a heartbeat that cancels the task.
const CANCELLATION: &str = r#"{"cancel": true, "reason": "a bad scenario"}"#;

/// Whether an answer to a heartbeat cancels the task.
pub fn is_cancellation(reply: &Reply) -> bool {
    match reply {
        Reply::Answer { status, body, .. } => matches!(status, 409 | 410) || body == CANCELLATION,
        _ => false,
    }
}

/// The status of an answer; `None` if the connection breaks instead.
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

/// The value of `DESCARTES_TASK_TIMEOUT`. An agent that ends by itself must have enough time.
fn task_timeout(agent: AgentBehavior) -> &'static str {
    match agent {
        AgentBehavior::Continue => "300ms",
        AgentBehavior::Succeed | AgentBehavior::Fail => "1h",
    }
}

/// The answers to claims. Most claims are granted, some are refused or rejected.
fn claim_answers(random: &mut Random) -> RouteAnswers {
    let later = match random.below(20) {
        0 => Reply::status(random.one_of(&[409, 410])),
        1 => Reply::status(random.one_of(&[400, 401, 403, 413, 422, 302, 308])),
        _ => Reply::json(200, "{}"),
    };
    RouteAnswers {
        route: "started",
        first: faulty_answers(random, &later, &[404, 405, 501]),
        later,
    }
}

/// The answers to terminal faults on a route.
fn outcome_answers(route: &'static str, random: &mut Random) -> RouteAnswers {
    let later = match random.below(20) {
        0 => Reply::status(random.one_of(&[409, 410])),
        1 => Reply::status(random.one_of(&[400, 401, 403, 404, 405, 422, 501, 302])),
        2 => Reply::status(503),
        _ => Reply::json(200, "{}"),
    };
    RouteAnswers {
        route,
        first: faulty_answers(random, &later, &[413]),
        later,
    }
}

/// The answers to heartbeats. Some of them cancel the task.
fn heartbeat_answers(random: &mut Random) -> RouteAnswers {
    let (count, success) = (random.below(8), Reply::json(200, "{}"));
    let replies = (0..count).map(|_| match random.below(24) {
        0 => Reply::json(200, CANCELLATION),
        1 => Reply::status(random.one_of(&[409, 410])),
        2 => Reply::status(random.one_of(&[404, 405, 501])),
        3..10 => faulty_answer(random, &success, &[400, 401, 403, 413, 422, 302]),
        _ => success.clone(),
    });
    RouteAnswers {
        route: "progress",
        first: replies.collect(),
        later: success.clone(),
    }
}

/// Up to three faulty answers. `later` is the answer that the receiver gives afterwards, and `rejections` are the statuses that
/// mean a rejection on this route.
fn faulty_answers(random: &mut Random, later: &Reply, rejections: &[u16]) -> Vec<Reply> {
    let count = random.one_of(&[0, 0, 0, 1, 1, 2, 3]);
    (0..count)
        .map(|_| faulty_answer(random, later, rejections))
        .collect()
}

/// A random faulty answer; see [`faulty_answers`].
fn faulty_answer(random: &mut Random, later: &Reply, rejections: &[u16]) -> Reply {
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
        8 => later.clone().then_close(),
        // Sometimes slower than the request timeout.
        _ => later
            .clone()
            .after(Duration::from_millis(random.below(450))),
    }
}

/// Signals, and a receiver that is closed for some time.
fn random_faults(random: &mut Random) -> Vec<TimedFault> {
    let mut faults = Vec::new();
    let signals = random.one_of(&[0, 0, 0, 1, 1, 2]);
    for _ in 0..signals {
        let signal = random.one_of(&[Signal::TERM, Signal::INT, Signal::HUP]);
        let time = Duration::from_millis(random.below(400));
        let fault = Fault::Signal(signal);
        faults.push(TimedFault { time, fault });
    }
    if random.below(5) == 0 {
        let close_time = Duration::from_millis(random.below(300));
        let reopen_time = close_time + Duration::from_millis(20 + random.below(500));
        faults.extend([
            TimedFault {
                time: close_time,
                fault: Fault::CloseReceiver,
            },
            TimedFault {
                time: reopen_time,
                fault: Fault::ReopenReceiver,
            },
        ]);
    }
    faults.sort_by_key(|timed| timed.time);
    faults
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
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).unwrap()].clone()
    }
}
