//! The HTTP contract with the orchestrator: claim, heartbeats, exactly one terminal event.
//!
//! docs/protocol.md is what this implements. Runs nothing and decides nothing about the task: it
//! is told an [`Outcome`] and says whether it could be delivered.

mod answer;
pub mod credentials;
mod heartbeats;
mod pause;
mod transport;
mod wire;

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use tokio::time::{Instant, sleep_until};

use crate::http::retries::Retries;
use crate::redact::Redactor;
use crate::shutdown::Stop;
use crate::task::{Outcome, Verdict};
use answer::Answer;
use pause::pause;
pub use transport::SetupError;
use transport::Transport;
pub use wire::{Event, Kind};

/// What a terminal event gets even where the stop window is over before it is known: the platform
/// may be late, and there is nothing left to lose.
const LAST_WORD: Duration = Duration::from_millis(500);

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
    pub agent: Option<&'static str>,
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

/// How long a terminal event is tried again where there is no route for it: an orchestrator that
/// granted the claim knows its routes, so a 404 is most likely a proxy's while it restarts.
const NOT_FOUND: Duration = Duration::from_secs(60);

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
            if stop.why().is_some() {
                return Claim::Stopped;
            }
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
                Answer::NotFound { why } | Answer::NoRoute { why } => (why, None),
                Answer::Later { why, after } => (why, after),
            };
            tracing::warn!(why, "the claim was not answered, trying again");
            if pause(&mut retries, after, stop).await.is_err() {
                return Claim::Unanswered { why };
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
        let at_least = Instant::now() + LAST_WORD;
        let time_is_up = async {
            stop.window_over().await;
            sleep_until(at_least).await;
        };
        let delivery = tokio::select! {
            biased;
            delivery = self.deliver(event, stop, &mut last) => Some(delivery),
            () = time_is_up => None,
        };
        delivery.unwrap_or(Delivery::OutOfTime { why: last })
    }

    async fn deliver(&self, event: &Event, stop: &Stop, last: &mut String) -> Delivery {
        let mut retries = Retries::within(self.settings.finish_deadline);
        // Counted from the first one: there may have been minutes of other trouble before it.
        let mut not_found = None;
        let mut route = event.kind().route();
        let last_route = Kind::Completed.route();
        let mut event = event.clone();
        loop {
            let answer = self.transport.post(route, &event, retries.deadline()).await;
            let (why, after) = match answer {
                Answer::Accepted { .. } | Answer::Known { .. } => return Delivery::Delivered,
                Answer::NotFound { why } | Answer::NoRoute { why } if route != last_route => {
                    // An orchestrator that knows only the original two routes reads the status.
                    tracing::info!(why, "no route for failures, saying it at the other one");
                    route = last_route;
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
                Answer::NotFound { why } => {
                    tracing::warn!(why, "the outcome found no route, trying again for a while");
                    let left = retries.deadline().saturating_duration_since(Instant::now());
                    let patience =
                        not_found.get_or_insert_with(|| Retries::within(NOT_FOUND.min(left)));
                    if pause(patience, None, stop).await.is_err() {
                        return Delivery::Rejected { why };
                    }
                    continue;
                }
                Answer::Later { why, after } => (why, after),
            };
            tracing::warn!(why, "the outcome was not delivered, trying again");
            last.clone_from(&why);
            if pause(&mut retries, after, stop).await.is_err() {
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
