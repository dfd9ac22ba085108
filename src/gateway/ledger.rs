//! Adds up the spent and the reserved dollars and tokens, and decides whether another request may be forwarded.
//! No I/O.
//!
//! A request is forwarded if the spent and the reserved amounts together are below the limit. So at most one
//! answer exceeds the limit, however many requests come at the same time.

use super::meter::AnswerUsage;
use crate::model::{Limits, Price, UpperBound, Usage};

/// The model and the maximum cost of a request.
#[derive(Debug, Clone)]
pub struct RequestCost {
    pub model: String,
    pub upper_bound: UpperBound,
}

/// The maximum cost of an open request, which counts against the limits until the request ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reservation {
    /// `None` if the price of the model is not known.
    price: Option<Price>,
    upper_bound: UpperBound,
}

/// The decision about a request that costs tokens.
#[derive(Debug, PartialEq)]
pub enum Admission {
    Admitted(Reservation),
    /// The rest of the limit is reserved for other requests, one of which has to end first.
    Wait,
    Refused(Refusal),
}

/// Why a request is not forwarded.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// The limit of dollars is reached.
    Budget { spent_usd: f64, limit_usd: f64 },
    /// The limit of tokens is reached.
    Tokens { spent: u64, limit: u64 },
    /// There is a limit of dollars, but the model has no known price.
    PriceUnknown { model: String },
}

/// How a request ended.
#[derive(Debug)]
pub enum RequestEnd<'a> {
    /// The request costs nothing: the service did not receive or did not accept it, or its route is free.
    Free,
    /// The client closed the connection before the service answered.
    Abandoned,
    Answered(&'a AnswerUsage),
}

/// The totals so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// The number of answers of models.
    pub answers: u64,
    /// The usage that the services reported.
    pub usage: Usage,
    /// US dollars; `None` if a model has no known price.
    pub cost_usd: Option<f64>,
}

/// The amounts that the requests of one gateway have spent or reserved.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    totals: Totals,
    /// The tokens that are assumed for answers whose usage a service did not report. Zero if there is no limit.
    estimated_tokens: u64,
    reserved_usd: f64,
    reserved_tokens: u64,
    open_reservations: u64,
}

impl Ledger {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            totals: Totals {
                cost_usd: Some(0.0),
                ..Totals::default()
            },
            estimated_tokens: 0,
            reserved_usd: 0.0,
            reserved_tokens: 0,
            open_reservations: 0,
        }
    }

    /// Whether there is a limit, so that the maximum cost of each request must be known.
    pub fn has_limit(&self) -> bool {
        self.limits.usd.is_some() || self.limits.tokens.is_some()
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Decides about a request. When an admitted request ends, the caller must call [`Self::settle`].
    pub fn admit(&mut self, cost: &RequestCost) -> Admission {
        let price = Price::of(&cost.model);
        if self.limits.usd.is_some() && price.is_none() {
            let model = cost.model.clone();
            return Admission::Refused(Refusal::PriceUnknown { model });
        }
        let (spent_usd, spent) = (self.totals.cost_usd.unwrap_or(0.0), self.spent_tokens());
        if let Some(limit_usd) = self.limits.usd.filter(|limit| spent_usd >= *limit) {
            return Admission::Refused(Refusal::Budget {
                spent_usd,
                limit_usd,
            });
        }
        if let Some(limit) = self.limits.tokens.filter(|limit| spent >= *limit) {
            return Admission::Refused(Refusal::Tokens { spent, limit });
        }
        let is_all_reserved = self
            .limits
            .usd
            .is_some_and(|limit| spent_usd + self.reserved_usd >= limit)
            || self
                .limits
                .tokens
                .is_some_and(|limit| spent.saturating_add(self.reserved_tokens) >= limit);
        if is_all_reserved && self.open_reservations > 0 {
            return Admission::Wait;
        }
        let reservation = Reservation {
            price,
            upper_bound: cost.upper_bound,
        };
        self.open_reservations += 1;
        self.reserved_usd += reservation.usd();
        self.reserved_tokens = self.reserved_tokens.saturating_add(reservation.tokens());
        Admission::Admitted(reservation)
    }

    /// Accounts for a request that has ended. If there is a limit and the service did not report the usage, the upper
    /// bound counts instead. `reservation` is `None` if the request could not be read, which is possible only without a
    /// limit.
    pub fn settle(&mut self, reservation: Option<Reservation>, end: &RequestEnd<'_>) {
        if let Some(reservation) = &reservation {
            self.open_reservations -= 1;
            self.reserved_usd -= reservation.usd();
            self.reserved_tokens = self.reserved_tokens.saturating_sub(reservation.tokens());
            if self.open_reservations == 0 {
                // Removes the rounding errors of the additions and subtractions.
                self.reserved_usd = 0.0;
                self.reserved_tokens = 0;
            }
        }
        let no_usage = AnswerUsage::default();
        let answer_usage = match end {
            RequestEnd::Free => return,
            RequestEnd::Abandoned => &no_usage,
            RequestEnd::Answered(answer_usage) => answer_usage,
        };
        if matches!(end, RequestEnd::Answered(_)) {
            self.totals.answers += 1;
        }
        self.totals.usage = self.totals.usage.plus(answer_usage.usage);
        let estimate = reservation
            .filter(|_| self.has_limit())
            .map_or(Usage::default(), |reservation| {
                estimate(answer_usage, reservation.upper_bound)
            });
        self.estimated_tokens = self.estimated_tokens.saturating_add(estimate.total());
        if answer_usage.usage.total() == 0 && estimate.total() == 0 {
            // Without tokens there is no cost, also if the price of the model is not known.
            return;
        }
        let model = answer_usage.model.as_deref();
        let price = model
            .and_then(Price::of)
            .or(reservation.and_then(|reservation| reservation.price));
        let cost = price.map(|price| price.cost(answer_usage.usage) + price.cost(estimate));
        self.totals.cost_usd = match (self.totals.cost_usd, cost) {
            (Some(total), Some(cost)) => Some(total + cost),
            _ => None,
        };
    }

    /// The reported and the assumed tokens together.
    fn spent_tokens(&self) -> u64 {
        let reported = self.totals.usage.total();
        reported.saturating_add(self.estimated_tokens)
    }
}

/// The most tokens that an answer can have cost in addition to the reported tokens.
fn estimate(answer_usage: &AnswerUsage, upper_bound: UpperBound) -> Usage {
    let unreported = upper_bound.of_missing_numbers(answer_usage.usage);
    if answer_usage.is_complete || answer_usage.usage == Usage::default() {
        return unreported;
    }
    // The answer ended early, so the service has reported only the output tokens of its beginning.
    let reported = answer_usage.usage.output_tokens.unwrap_or(0);
    let streamed = answer_usage.streamed_tokens.min(upper_bound.output_tokens);
    Usage {
        output_tokens: Some(streamed.saturating_sub(reported)),
        ..unreported
    }
}

impl Reservation {
    /// The maximum cost in US dollars; 0 if the price of the model is not known.
    fn usd(&self) -> f64 {
        let maximum = self.upper_bound.of_missing_numbers(Usage::default());
        self.price.map_or(0.0, |price| price.cost(maximum))
    }

    /// The maximum number of tokens.
    fn tokens(&self) -> u64 {
        let UpperBound {
            input_tokens,
            output_tokens,
        } = self.upper_bound;
        input_tokens.saturating_add(output_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At most 1,000 input tokens (0.0025 dollars with Sonnet) and 1,000 output tokens (0.01 dollars).
    fn request() -> RequestCost {
        request_for("claude-sonnet-5-5")
    }

    fn request_for(model: &str) -> RequestCost {
        RequestCost {
            model: model.to_owned(),
            upper_bound: UpperBound {
                input_tokens: 1_000,
                output_tokens: 1_000,
            },
        }
    }

    fn ledger(usd: Option<f64>, tokens: Option<u64>) -> Ledger {
        Ledger::new(Limits {
            turns: None,
            usd,
            tokens,
        })
    }

    fn answer_usage(input: u64, output: u64, is_complete: bool) -> AnswerUsage {
        AnswerUsage {
            model: Some("claude-sonnet-5-5-20260101".to_owned()),
            usage: Usage {
                input_tokens: Some(input),
                output_tokens: Some(output),
                ..Usage::default()
            },
            is_complete,
            streamed_tokens: 400,
            ..AnswerUsage::default()
        }
    }

    #[track_caller]
    fn admit_request(ledger: &mut Ledger) -> Reservation {
        match ledger.admit(&request()) {
            Admission::Admitted(reservation) => reservation,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn assert_cost(ledger: &Ledger, expected: f64) {
        let cost = ledger.totals().cost_usd.unwrap();
        assert!((cost - expected).abs() < 1e-9, "{cost}");
    }

    #[test]
    fn a_request_waits_while_the_rest_of_the_limit_is_reserved_for_others() {
        let mut ledger = ledger(Some(0.02), None);
        let (first, second) = (admit_request(&mut ledger), admit_request(&mut ledger));
        // 0.025 dollars are reserved.
        assert_eq!(ledger.admit(&request()), Admission::Wait);
        ledger.settle(
            Some(first),
            &RequestEnd::Answered(&answer_usage(100, 100, true)),
        );
        assert_cost(&ledger, 0.0012);
        let third = admit_request(&mut ledger);
        ledger.settle(Some(second), &RequestEnd::Free);
        ledger.settle(
            Some(third),
            &RequestEnd::Answered(&answer_usage(0, 2_000, true)),
        );
        // No input was reported, so its upper bound counts.
        assert_cost(&ledger, 0.0012 + 0.02 + 0.0025);
        let Admission::Refused(Refusal::Budget { limit_usd, .. }) = ledger.admit(&request()) else {
            panic!("{ledger:?}");
        };
        assert!((limit_usd - 0.02).abs() < 1e-9);
    }

    #[test]
    fn the_first_request_is_forwarded_even_if_it_may_cost_more_than_the_limit() {
        admit_request(&mut ledger(Some(0.000_001), None));
        let mut ledger = ledger(None, Some(1));
        let first = admit_request(&mut ledger);
        assert_eq!(ledger.admit(&request()), Admission::Wait);
        ledger.settle(
            Some(first),
            &RequestEnd::Answered(&answer_usage(3, 4, true)),
        );
        let refusal = Refusal::Tokens { spent: 7, limit: 1 };
        assert_eq!(ledger.admit(&request()), Admission::Refused(refusal));
    }

    #[test]
    fn an_abandoned_request_and_an_answer_without_usage_cost_their_upper_bound() {
        for end in [
            RequestEnd::Abandoned,
            RequestEnd::Answered(&AnswerUsage::default()),
        ] {
            let mut ledger = ledger(Some(1.0), None);
            let reservation = admit_request(&mut ledger);
            ledger.settle(Some(reservation), &end);
            assert_cost(&ledger, 0.0125);
            assert_eq!(ledger.totals().usage, Usage::default());
        }
    }

    #[test]
    fn an_answer_that_ends_early_is_charged_for_the_text_that_was_streamed() {
        let mut ledger = ledger(Some(1.0), None);
        let reservation = admit_request(&mut ledger);
        ledger.settle(
            Some(reservation),
            &RequestEnd::Answered(&answer_usage(100, 1, false)),
        );
        // 400 tokens of text at 10 dollars for a million, and 100 tokens of input at 2.
        assert_cost(&ledger, 0.0042);
    }

    #[test]
    fn without_a_limit_nothing_is_estimated_and_requests_without_tokens_cost_nothing() {
        let no_usage = AnswerUsage::default();
        for end in [RequestEnd::Abandoned, RequestEnd::Answered(&no_usage)] {
            let mut ledger = ledger(None, None);
            ledger.settle(None, &end);
            let reservation = admit_request(&mut ledger);
            ledger.settle(Some(reservation), &end);
            assert_cost(&ledger, 0.0);
        }
    }

    #[test]
    fn without_a_limit_an_unknown_price_makes_the_cost_unknown() {
        let mut ledger = ledger(None, None);
        let Admission::Admitted(reservation) = ledger.admit(&request_for("gpt-x")) else {
            panic!("{ledger:?}");
        };
        let answer_usage = AnswerUsage {
            model: Some("gpt-x".to_owned()),
            ..answer_usage(1, 1, true)
        };
        ledger.settle(Some(reservation), &RequestEnd::Answered(&answer_usage));
        assert_eq!(ledger.totals().cost_usd, None);
    }

    #[test]
    fn without_a_limit_an_answer_of_a_model_with_another_name_has_the_price_of_the_requested_model()
    {
        let mut ledger = ledger(None, None);
        let reservation = admit_request(&mut ledger);
        let answer_usage = AnswerUsage {
            model: Some("proxy.sonnet".to_owned()),
            ..answer_usage(100, 100, true)
        };
        ledger.settle(Some(reservation), &RequestEnd::Answered(&answer_usage));
        assert_cost(&ledger, 0.0012);
    }

    #[test]
    fn with_a_budget_a_model_without_a_price_is_refused() {
        let refusal = Refusal::PriceUnknown {
            model: "gpt-x".to_owned(),
        };
        let admission = ledger(Some(1.0), None).admit(&request_for("gpt-x"));
        assert_eq!(admission, Admission::Refused(refusal));
    }
}
