//! The HTTP contract with the orchestrator: claim, heartbeats, exactly one terminal event.
//!
//! docs/protocol.md is what this implements. Runs nothing and decides nothing about the task: it
//! is told an [`Outcome`] and says whether it could be delivered.

mod answer;
pub mod credentials;
mod retries;
mod transport;
mod wire;

use std::cell::Cell;
use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use tokio::time::{Instant, sleep};

use crate::progress::Progress;
use crate::redact::Redactor;
use crate::shutdown::Stop;
use crate::task::{AgentKind, Outcome, Verdict};
use answer::Answer;
use retries::Retries;
pub use transport::SetupError;
use transport::Transport;
pub use wire::{Event, Kind};

#[derive(Debug, Clone)]
pub struct Settings {
    /// The base; `/started` and the others are appended to its path.
    pub url: Url,
    /// How long one request may take.
    pub request_timeout: Duration,
    pub claim_deadline: Duration,
    pub finish_deadline: Duration,
    /// Between two heartbeats; `None` for none.
    pub heartbeat: Option<Duration>,
    /// How requests prove who sends them.
    pub credentials: credentials::Settings,
    /// Private authorities to trust beside the public ones, as PEM.
    pub authorities: Option<PathBuf>,
    pub identity: Identity,
}

/// Who speaks, about what.
#[derive(Debug, Clone)]
pub struct Identity {
    pub task_id: String,
    pub project_id: String,
    pub run_id: String,
    /// What will work on the task, as far as the settings say.
    pub agent: Option<AgentKind>,
    pub hostname: String,
    /// What this worker was built from, where its image knows.
    pub revision: Option<String>,
    pub machine: Option<Machine>,
}

/// The platform's facts about the machine.
#[derive(Debug, Clone)]
pub struct Machine {
    pub id: Option<String>,
    pub app: Option<String>,
    pub region: Option<String>,
    pub image: Option<String>,
    pub memory_mb: Option<u64>,
}

/// What became of the claim.
#[derive(Debug)]
pub enum Claim {
    /// The task is this worker's.
    Granted,
    /// Somebody else has it, or nobody shall: no work, and nothing went wrong.
    Refused { why: String },
    /// The orchestrator does not want to hear this worker at all.
    Rejected { why: String },
    /// No answer that counts came in time.
    Unanswered { why: String },
    /// The worker was told to stop before it was granted.
    Stopped,
}

/// What became of the terminal event.
#[derive(Debug)]
pub enum Delivery {
    Delivered,
    /// The orchestrator does not want it, and would not want it later.
    Rejected {
        why: String,
    },
    /// Nobody took it in time.
    OutOfTime {
        why: String,
    },
}

/// One run's conversation with the orchestrator.
#[derive(Debug)]
pub struct Callback {
    settings: Settings,
    transport: Transport,
    redactor: Redactor,
    sequence: Cell<u64>,
}

impl Callback {
    /// Opens nothing yet; the first connection is made by the claim.
    ///
    /// # Errors
    /// Where the authorities that the settings name cannot be read.
    pub fn new(settings: Settings, redactor: Redactor) -> Result<Self, SetupError> {
        let transport = Transport::new(&settings)?;
        Ok(Self {
            settings,
            transport,
            redactor,
            sequence: Cell::new(0),
        })
    }

    /// Claims the task: no work before this says [`Claim::Granted`].
    ///
    /// Being told to stop ends the retries, but not the request under way: its answer decides
    /// whether the orchestrator is owed a terminal event.
    pub async fn claim(&self, stop: &Stop) -> Claim {
        let event = self.event(Kind::Started, "claiming the task");
        let mut retries = Retries::within(self.settings.claim_deadline);
        loop {
            let request = self.transport.post("started", &event, retries.deadline());
            let answer = tokio::select! {
                answer = request => answer,
                () = stop.window_over() => return Claim::Stopped,
            };
            let (why, after) = match answer {
                Answer::Accepted { .. } => return Claim::Granted,
                Answer::Known { why } => return Claim::Refused { why },
                Answer::Rejected { why } | Answer::TooLarge { why } => {
                    return Claim::Rejected { why };
                }
                Answer::NoRoute { why, .. } => (why, None),
                Answer::Later { why, after } => (why, after),
            };
            tracing::warn!(why, "the claim was not granted, trying again");
            if retries.pause(after, stop).await.is_err() {
                return Claim::Unanswered { why };
            }
            if stop.why().is_some() {
                return Claim::Stopped;
            }
        }
    }

    /// Tells the orchestrator how the run goes until it is dropped, or until the orchestrator
    /// cancels the task: then this returns, with the reason if one was given.
    pub async fn heartbeats(&self, progress: &Progress) -> Option<String> {
        let Some(interval) = self.settings.heartbeat else {
            return pending().await;
        };
        let mut with_output = true;
        let mut complained = false;
        loop {
            // Counted from the last answer, so that a slow receiver gets fewer of them.
            sleep(interval).await;
            let window = with_output.then(|| progress.take_window());
            let snapshot = progress.snapshot();
            let mut event = self.event(Kind::Progress, &snapshot.message());
            event.progress = Some(wire::Progress::new(
                &snapshot,
                window.as_ref(),
                &self.redactor,
            ));
            let deadline = Instant::now() + self.settings.request_timeout;
            let answer = self.transport.post("progress", &event, deadline).await;
            if let (Some(window), false) = (&window, matches!(answer, Answer::Accepted { .. })) {
                progress.untold(window);
            }
            with_output = !matches!(answer, Answer::TooLarge { .. });
            match answer {
                Answer::Accepted { body } => {
                    if let Some(cancel) = wire::cancellation(&body) {
                        return cancel.reason;
                    }
                }
                Answer::Known { why } => return Some(why),
                Answer::NoRoute { why, .. } => {
                    tracing::info!(
                        why,
                        "the orchestrator knows no heartbeats, so there will be none"
                    );
                    return pending().await;
                }
                Answer::Rejected { why } | Answer::Later { why, .. } | Answer::TooLarge { why } => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(
                            why,
                            "a heartbeat was not taken; further ones will not be mentioned"
                        );
                    }
                }
            }
        }
    }

    /// The terminal event, which stays the same however often it is sent.
    pub fn conclude(&self, outcome: &Outcome) -> Event {
        let kind = match outcome.verdict {
            Verdict::Completed { .. } => Kind::Completed,
            Verdict::Failed(_) => Kind::Failed,
        };
        let mut event = self.event(kind, outcome.message());
        event.tell(outcome, &self.redactor);
        event
    }

    /// Delivers a terminal event: until it is taken, or rejected, or the time is up.
    ///
    /// Being told to stop does not end this; it only leaves what is left of the stop window.
    pub async fn finish(&self, event: &Event, stop: &Stop) -> Delivery {
        let mut last = String::from("the stop window was over before there was an answer");
        tokio::select! {
            delivery = self.deliver(event, stop, &mut last) => delivery,
            () = stop.window_over() => Delivery::OutOfTime { why: last.clone() },
        }
    }

    async fn deliver(&self, event: &Event, stop: &Stop, last: &mut String) -> Delivery {
        let mut retries = Retries::within(self.settings.finish_deadline);
        let mut route = event.kind().route();
        let mut event = event.clone();
        loop {
            let answer = self.transport.post(route, &event, retries.deadline()).await;
            let (why, after) = match answer {
                Answer::Accepted { .. } | Answer::Known { .. } => return Delivery::Delivered,
                Answer::NoRoute { why, .. } if route != Kind::Completed.route() => {
                    // An orchestrator that knows only the original two routes reads the status.
                    tracing::info!(why, "no route for failures, saying it at the other one");
                    route = Kind::Completed.route();
                    continue;
                }
                Answer::TooLarge { why } => match event.without_bulk() {
                    Some(smaller) => {
                        tracing::warn!(
                            why,
                            "the event is too large for the orchestrator, leaving out the bulk"
                        );
                        event = smaller;
                        continue;
                    }
                    None => return Delivery::Rejected { why },
                },
                Answer::NoRoute { why } | Answer::Rejected { why } => {
                    return Delivery::Rejected { why };
                }
                Answer::Later { why, after } => (why, after),
            };
            tracing::warn!(why, "the outcome was not delivered, trying again");
            last.clone_from(&why);
            if retries.pause(after, stop).await.is_err() {
                return Delivery::OutOfTime { why };
            }
        }
    }

    fn event(&self, kind: Kind, message: &str) -> Event {
        let sequence = self.sequence.replace(self.sequence.get() + 1);
        Event::new(
            kind,
            &self.settings.identity,
            sequence,
            &self.redactor.text(message),
        )
    }
}
