//! For people who rely on "exactly one terminal event": hundreds of workers with random faults, and the rules
//! that every run must keep.
//!
//! A seed decides the faults of each run (its [`Scenario`]). The first seed is printed: `CHAOS_SEED=… CHAOS_RUNS=1` repeats it.

mod scenario;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::support::patience::Deadline;
use crate::support::receiver::ReceivedRequest;
use crate::support::worker::{FinishedWorker, RunningWorker};
use crate::support::{Project, Receiver, Reply, Worker, describe_processes_in, wait_until};
use scenario::{AgentBehavior, Fault, Scenario};

/// The default number of runs; two cores need a minute for them.
const DEFAULT_RUNS: u64 = 500;
/// How many runs there are at the same time. More than cores, because a run waits most of the time.
const PARALLEL_RUNS: usize = 12;

#[expect(
    clippy::disallowed_methods,
    reason = "the environment configures this test"
)]
/// The number in an environment variable, if it is set.
fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

#[test]
fn every_granted_claim_ends_in_exactly_one_terminal_event_under_random_faults() {
    let seed =
        number_from_environment("CHAOS_SEED").unwrap_or_else(|| getrandom::u64().unwrap() >> 16);
    let runs = number_from_environment("CHAOS_RUNS").unwrap_or(DEFAULT_RUNS);
    // This writes to the file descriptor, because the test harness captures `eprintln!`.
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "chaos: CHAOS_SEED={seed} CHAOS_RUNS={runs}");
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new(BTreeMap::<String, u32>::new());
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..PARALLEL_RUNS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= runs {
                        return;
                    }
                    let outcome = run_with_random_faults(seed.wrapping_add(index));
                    *outcomes.lock().unwrap().entry(outcome).or_default() += 1;
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    let duration = begin.elapsed().as_secs_f32();
    let _ = writeln!(
        stderr,
        "chaos: {runs} runs in {duration:.1} s: {outcomes:?}"
    );
}

/// Runs one worker with random faults; returns its outcome in words.
fn run_with_random_faults(seed: u64) -> String {
    let scenario = Scenario::from_seed(seed);
    let (receiver, project) = (Receiver::listen(&address_for(seed)), Project::new());
    for answers in &scenario.answers {
        receiver.script(answers.route, answers.first.clone());
        receiver.set_default_reply(answers.route, answers.later.clone());
    }
    let mut worker = Worker::new(&receiver, &project).agent(scenario.agent.script());
    for (name, value) in &scenario.settings {
        worker = worker.env(name, value);
    }
    let worker = cause_faults_and_wait(seed, worker.start(), |running| {
        let begin = Instant::now();
        for timed in &scenario.faults {
            pause((begin + timed.time).saturating_duration_since(Instant::now()));
            match timed.fault {
                Fault::Signal(signal) => running.signal(signal),
                Fault::CloseReceiver => receiver.close(),
                Fault::ReopenReceiver => receiver.reopen(),
            }
        }
    });
    receiver.close();
    let run = Run {
        seed,
        requests: receiver.requests(),
        scenario,
        worker,
        project,
    };
    run.check().unwrap_or_else(|violation| {
        panic!(
            "CHAOS_SEED={seed} CHAOS_RUNS=1: {violation}\n{:#?}\n{:#?}\n{:#?}",
            run.scenario, run.requests, run.worker
        )
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the faults come at random moments"
)]
fn pause(time: Duration) {
    thread::sleep(time);
}

/// The address at which the receiver of a run listens. Each run has a separate IP address, so that no other run can get the port
/// while the receiver is closed for a moment.
fn address_for(seed: u64) -> String {
    if cfg!(target_os = "linux") {
        let [low, middle, high, ..] = seed.to_le_bytes();
        format!("127.{}.{middle}.{low}:0", high | 1)
    } else {
        "127.0.0.1:0".to_owned()
    }
}

/// Runs `cause_faults`, and waits for the end of the worker. Kills the worker and fails if it hangs.
fn cause_faults_and_wait(
    seed: u64,
    running: RunningWorker,
    cause_faults: impl FnOnce(&RunningWorker),
) -> FinishedWorker {
    let pid = running.pid();
    // Dropping the sender ends the watchdog.
    let (end_watchdog, end_of_worker) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let deadline = Deadline::start();
        loop {
            let left = deadline.left();
            if left.is_zero() {
                return Some(kill_process(pid, Signal::KILL));
            }
            if end_of_worker.recv_timeout(left) != Err(mpsc::RecvTimeoutError::Timeout) {
                return None;
            }
        }
    });
    cause_faults(&running);
    let ended = running.wait();
    drop(end_watchdog);
    let hung = watchdog.join().unwrap().is_some();
    assert!(
        !hung,
        "CHAOS_SEED={seed} CHAOS_RUNS=1: the worker hung: {ended:#?}"
    );
    ended
}

/// A finished run.
struct Run {
    seed: u64,
    scenario: Scenario,
    requests: Vec<ReceivedRequest>,
    worker: FinishedWorker,
    project: Project,
}

/// The error says which rule a run has broken.
type CheckResult<T> = Result<T, String>;

/// An error with this violation if a rule does not hold.
fn ensure(holds: bool, violation: &str) -> CheckResult<()> {
    if holds {
        Ok(())
    } else {
        Err(violation.to_owned())
    }
}

impl Run {
    fn requests_to(&self, route: &str) -> Vec<&ReceivedRequest> {
        self.requests
            .iter()
            .filter(|request| request.route == route)
            .collect()
    }

    /// The replies that requests on a route got, including those that broke the connection.
    fn replies(&self, route: &str) -> Vec<&Reply> {
        let count = self.requests_to(route).len();
        self.scenario.answers_of(route).take(count).collect()
    }

    /// The requests with a terminal event; more than one if the worker repeated it.
    fn terminal_requests(&self) -> Vec<&ReceivedRequest> {
        let terminal =
            |request: &&ReceivedRequest| matches!(request.route.as_str(), "completed" | "failed");
        self.requests.iter().filter(terminal).collect()
    }

    /// Checks all rules; returns the outcome as a text.
    fn check(&self) -> CheckResult<String> {
        self.check_claim()?;
        let line = self.result_line()?;
        self.check_terminal(line.as_ref())?;
        let Some(code) = self.worker.code else {
            ensure(
                self.scenario.is_signalled(),
                "a signal that the test did not send killed the worker",
            )?;
            ensure(
                self.requests.is_empty(),
                "a signal killed the worker after it had sent a request",
            )?;
            return Ok("killed before the first request".to_owned());
        };
        match code {
            0 => self.check_delivered(line.as_ref(), "completed")?,
            1 => self.check_delivered(line.as_ref(), "failed")?,
            3 => ensure(line.is_some(), "exit code 3 without a result line")?,
            4 => {
                ensure(line.is_none(), "refused, but there is a result line")?;
                ensure(
                    self.terminal_requests().is_empty(),
                    "refused, but there is a terminal event",
                )?;
                ensure(!self.agent_ran(), "refused, but the agent ran")?;
                ensure(
                    self.was_answered_with("started", &[409, 410]),
                    "exit code 4 without a refusal",
                )?;
            }
            other => return Err(format!("exit code {other}")),
        }
        self.check_agent_is_dead()?;
        let reason = line.as_ref().map(reason_of).unwrap_or_default();
        let is_undelivered = code == 3 && self.terminal_requests().is_empty();
        let note = if is_undelivered {
            " (terminal event not received)"
        } else {
            ""
        };
        Ok(format!("{code} {reason}{note}").trim_end().to_owned())
    }

    fn agent_ran(&self) -> bool {
        self.project.path("pid").exists()
    }

    /// Whether one of the replies on a route had one of these statuses.
    fn was_answered_with(&self, route: &str, statuses: &[u16]) -> bool {
        let answers = self.replies(route).into_iter();
        answers
            .filter_map(scenario::status)
            .any(|status| statuses.contains(&status))
    }

    /// Checks that all claims are the same event, and that there is no work before a claim is granted.
    fn check_claim(&self) -> CheckResult<()> {
        let claims = self.requests_to("started");
        let are_same = claims.iter().all(|claim| claim.body == claims[0].body);
        ensure(are_same, "two different claims")?;
        let is_first = self
            .requests
            .first()
            .is_none_or(|request| request.route == "started");
        ensure(is_first, "something was sent before the claim")?;
        let granted = self.was_answered_with("started", &[200]);
        ensure(granted || !self.agent_ran(), "work without a granted claim")?;
        ensure(
            granted || self.terminal_requests().is_empty(),
            "a terminal event without a granted claim",
        )?;
        let has_outcome = matches!(self.worker.code, Some(0 | 1 | 3));
        ensure(
            !granted || has_outcome,
            "a granted claim without an outcome",
        )
    }

    /// The event on the result line; checks that there is at most one line.
    fn result_line(&self) -> CheckResult<Option<Value>> {
        let mut lines = self.worker.stdout.lines();
        let line = lines.next();
        ensure(lines.next().is_none(), "more than one line on stdout")?;
        line.map(|line| {
            let json = line
                .strip_prefix("descartes-result ")
                .ok_or("no result line")?;
            serde_json::from_str(json).map_err(|error| error.to_string())
        })
        .transpose()
    }

    /// Checks that all terminal requests send one event, which is also on the result line.
    fn check_terminal(&self, line: Option<&Value>) -> CheckResult<()> {
        let attempts = self.terminal_requests();
        let Some(first) = attempts.first() else {
            return Ok(());
        };
        ensure(
            line == Some(&first.event),
            "the terminal event differs from the result line",
        )?;
        let too_large =
            self.was_answered_with("completed", &[413]) || self.was_answered_with("failed", &[413]);
        for request in &attempts {
            let is_same = request.body == first.body
                || too_large
                    && without_large_fields(&request.event) == without_large_fields(&first.event);
            ensure(is_same, "two different terminal events")?;
        }
        let status = first.event["status"].as_str().unwrap_or_default();
        ensure(
            status == first.route,
            "the terminal event arrived on the wrong route",
        )?;
        let fallback = status == "failed" && self.was_answered_with("failed", &[404, 405, 501]);
        let elsewhere = attempts.iter().any(|request| request.route != status);
        ensure(
            !elsewhere || fallback,
            "the terminal event arrived on the other route although its own route works",
        )?;
        self.check_outcome(&first.event)
    }

    /// Checks that the outcome matches the behavior of the agent and the faults of the run.
    fn check_outcome(&self, event: &Value) -> CheckResult<()> {
        let holds = match (reason_of(event), self.scenario.agent) {
            ("completed", agent) => agent == AgentBehavior::Succeed && self.agent_ran(),
            ("interrupted", _) => self.scenario.is_signalled(),
            ("cancelled", _) => self
                .replies("progress")
                .into_iter()
                .any(scenario::is_cancellation),
            ("agent_failed", agent) => agent == AgentBehavior::Fail,
            ("timed_out", agent) => agent == AgentBehavior::Continue,
            _ => false,
        };
        ensure(holds, "a wrong outcome")
    }

    fn check_delivered(&self, line: Option<&Value>, status: &str) -> CheckResult<()> {
        ensure(
            !self.terminal_requests().is_empty(),
            "reported as delivered, but no terminal event arrived",
        )?;
        let reported = line.and_then(|event| event["status"].as_str());
        ensure(
            reported == Some(status),
            "the exit code does not fit the status on the result line",
        )?;
        let accepted = |route| self.was_answered_with(route, &[200, 409, 410]);
        let is_accepted = accepted(status) || accepted("completed");
        ensure(
            is_accepted,
            "reported as delivered, but no answer accepted it",
        )
    }

    fn check_agent_is_dead(&self) -> CheckResult<()> {
        // In a stop window of milliseconds the worker does not wait until the killed processes are dead; the kernel may
        // still be ending them.
        if self.worker.stderr.contains("survived SIGKILL") {
            ensure(
                self.scenario.is_signalled(),
                "the worker gave up killing although it had time",
            )?;
            let what = format!("the processes of CHAOS_SEED={} to end", self.seed);
            wait_until(&what, || describe_processes_in(&self.project).is_empty());
            return Ok(());
        }
        let alive = describe_processes_in(&self.project);
        ensure(
            alive.is_empty(),
            &format!("the agent is still alive: {alive:?}"),
        )
    }
}

/// The reason of a failed event; `completed` for a completed one.
fn reason_of(event: &Value) -> &str {
    event["failure"]["reason"].as_str().unwrap_or("completed")
}

/// An event without the fields that the worker leaves out after an answer 413.
fn without_large_fields(event: &Value) -> Value {
    let mut event = event.clone();
    for text in ["tail", "head", "dropped_bytes"] {
        event["result"]["output"][text].take();
    }
    event["result"]["prompts"].take();
    event
}
