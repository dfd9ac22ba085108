//! The delivery of the terminal event: repeated until the orchestrator accepts it, rejects it, or
//! the time is up.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::answer::Answer;
use super::exchange::Exchange;
use super::pause::{next_delay, pause};
use super::wire::{Event, Kind};
use crate::http::retries::{NoRetry, Retries};
use crate::shutdown::Stop;

/// How long the worker tries to deliver a terminal event even if the stop window is already over: the platform may
/// kill the worker later than announced, and the worker has nothing else to do.
const MIN_DELIVERY_TIME: Duration = Duration::from_millis(500);
/// How long a route that answers 404 is retried: the orchestrator granted the claim, so the 404 is
/// most likely from a proxy while the orchestrator restarts.
const MISSING_ROUTE_TIMEOUT: Duration = Duration::from_secs(60);
/// After a stop signal, this many answers of 404 from `/failed` suffice to send the event to `/completed`.
const MISSING_ROUTE_ATTEMPTS_WHEN_STOPPED: u32 = 2;

/// The result of the delivery.
#[derive(Debug)]
pub enum Delivery {
    Delivered,
    /// The orchestrator rejects the event, and would reject it again.
    Rejected {
        why: String,
    },
    /// The orchestrator did not accept the event in time.
    OutOfTime {
        why: String,
    },
}

/// Delivers a terminal event. After a stop signal, the attempts end with the stop window, but not before
/// [`MIN_DELIVERY_TIME`].
pub async fn deliver(exchange: &Exchange, event: &Event, stop: &Stop) -> Delivery {
    let mut attempts = Attempts::new(exchange, event, stop);
    let earliest_end = Instant::now() + MIN_DELIVERY_TIME;
    let time_is_up = async {
        stop.wait_until_window_ends().await;
        sleep_until(earliest_end).await;
    };
    let delivery = tokio::select! {
        biased;
        delivery = attempts.run() => Some(delivery),
        () = time_is_up => None,
    };
    delivery.unwrap_or(Delivery::OutOfTime {
        why: attempts.last_answer,
    })
}

/// The attempts to deliver one terminal event.
struct Attempts<'a> {
    exchange: &'a Exchange,
    stop: &'a Stop,
    event: Event,
    route: &'static str,
    retries: Retries,
    /// `None` unless the last answer from the route was 404.
    missing_route: Option<MissingRoute>,
    /// A description of the last answer, which the result contains if the stop window is over.
    last_answer: String,
}

/// A route that answers 404.
struct MissingRoute {
    /// The retries of this route. Their deadline counts from the first 404, because earlier problems may have taken
    /// minutes before it.
    retries: Retries,
    /// How many answers in a row were 404.
    answers_in_a_row: u32,
}

impl<'a> Attempts<'a> {
    fn new(exchange: &'a Exchange, event: &Event, stop: &'a Stop) -> Self {
        Self {
            exchange,
            stop,
            event: event.clone(),
            route: event.kind().route(),
            retries: Retries::within(exchange.settings.finish_timeout),
            missing_route: None,
            last_answer: String::from("the stop window was over before there was an answer"),
        }
    }

    /// Sends the event until the result of the delivery is known. The functions for single answers return this result,
    /// or `None` if there is another attempt. They may change that attempt: another route, or a smaller event.
    async fn run(&mut self) -> Delivery {
        loop {
            let deadline = self.retries.deadline();
            let answer = self.exchange.post(self.route, &self.event, deadline).await;
            if !matches!(answer, Answer::NotFound { .. }) {
                self.missing_route = None;
            }
            let delivery = match answer {
                Answer::Accepted { .. } | Answer::ConflictOrGone { .. } => {
                    Some(Delivery::Delivered)
                }
                Answer::NoRoute { why } if self.can_use_completed() => {
                    self.switch_to_completed(&why)
                }
                Answer::NoRoute { why } | Answer::PermanentError { why } => {
                    Some(Delivery::Rejected { why })
                }
                Answer::TooLarge { why } => self.send_without_patch_prompts_and_output(why),
                Answer::NotFound { why, retry_after } => {
                    self.retry_missing_route(why, retry_after).await
                }
                Answer::TemporaryError { why, retry_after } => {
                    self.retry_later(why, retry_after).await
                }
            };
            if let Some(delivery) = delivery {
                return delivery;
            }
        }
    }

    /// Whether the event can go to `/completed` instead. An orchestrator that knows only the
    /// original two routes reads the event's status.
    fn can_use_completed(&self) -> bool {
        self.route != Kind::Completed.route()
    }

    /// Sends the event to `/completed` from now on.
    fn switch_to_completed(&mut self, why: &str) -> Option<Delivery> {
        tracing::info!(
            why,
            "the orchestrator has no route /{}: sending the event to /{}",
            self.route,
            Kind::Completed.route()
        );
        self.route = Kind::Completed.route();
        self.missing_route = None;
        None
    }

    /// Sends the event without the patch, the prompts and the output from now on. If the event has none of them, it
    /// counts as rejected.
    fn send_without_patch_prompts_and_output(&mut self, why: String) -> Option<Delivery> {
        let Some(smaller) = self.event.without_patch_prompts_and_output() else {
            return Some(Delivery::Rejected { why });
        };
        tracing::warn!(
            why,
            "the event is too large for the orchestrator: sending it without the patch, the prompts and the output"
        );
        self.event = smaller;
        None
    }

    /// Retries a route that answers 404 for a while, then uses the other route, if there is one.
    async fn retry_missing_route(
        &mut self,
        why: String,
        retry_after: Option<Duration>,
    ) -> Option<Delivery> {
        let (can_use_completed, is_stopped) =
            (self.can_use_completed(), self.stop.has_stop_window_begun());
        let mut time_left = self.retries.time_left();
        if can_use_completed {
            // The second half of the time is for the other route.
            time_left /= 2;
        }
        let missing = self.missing_route.get_or_insert_with(|| MissingRoute {
            retries: Retries::within(MISSING_ROUTE_TIMEOUT.min(time_left)),
            answers_in_a_row: 0,
        });
        missing.answers_in_a_row += 1;
        let is_last_attempt =
            is_stopped && missing.answers_in_a_row >= MISSING_ROUTE_ATTEMPTS_WHEN_STOPPED;
        if can_use_completed && is_last_attempt {
            return self.switch_to_completed(&why);
        }
        match next_delay(&mut missing.retries, retry_after, self.stop) {
            Ok(delay) => {
                tracing::warn!(
                    why,
                    "the orchestrator has no route /{} now, trying again for up to a minute",
                    self.route
                );
                self.last_answer = why;
                pause(delay, self.stop).await;
                None
            }
            Err(_) if can_use_completed => self.switch_to_completed(&why),
            Err(NoRetry::OutOfTime) => Some(Delivery::Rejected { why }),
            Err(no_retry) => Some(Delivery::OutOfTime {
                why: no_retry.append_to(&why),
            }),
        }
    }

    /// Waits for the next attempt; returns the result if there is no time for one.
    async fn retry_later(
        &mut self,
        why: String,
        retry_after: Option<Duration>,
    ) -> Option<Delivery> {
        match next_delay(&mut self.retries, retry_after, self.stop) {
            Ok(delay) => {
                tracing::warn!(why, "the terminal event was not delivered, trying again");
                self.last_answer = why;
                pause(delay, self.stop).await;
                None
            }
            Err(no_retry) => Some(Delivery::OutOfTime {
                why: no_retry.append_to(&why),
            }),
        }
    }
}
