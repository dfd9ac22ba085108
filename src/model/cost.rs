//! Adds up the cost of one agent process, and compares it with a limit.

use super::prices::Price;
use super::usage::Usage;

/// The usage and the cost of one agent process so far, and its limit.
#[derive(Debug)]
pub struct CostMeter {
    reported_usage: Usage,
    /// The usage that is assumed for answers whose usage the service did not report. Zero if there is no limit.
    estimated_usage: Usage,
    /// `None` if the model has no known price.
    price: Option<Price>,
    limit_usd: Option<f64>,
}

/// Whether the cost has reached the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostLimitState {
    Within,
    Reached,
}

/// The most input tokens that a service adds to a request, to describe the tools of the service to the model.
const HIDDEN_INPUT_TOKENS: u64 = 5_000;

/// The most tokens that one request and its answer can have cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpperBound {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

impl UpperBound {
    /// The upper bound for a request with a body of `body_size` bytes. A token has at least one byte.
    pub fn of_request(body_size: usize, output_tokens: u64) -> Self {
        Self {
            input_tokens: HIDDEN_INPUT_TOKENS + body_size as u64,
            output_tokens,
        }
    }
}

impl CostMeter {
    /// A meter without any cost.
    pub fn new(model: &str, limit_usd: Option<f64>) -> Self {
        Self {
            reported_usage: Usage::default(),
            estimated_usage: Usage::default(),
            price: Price::of(model),
            limit_usd,
        }
    }

    /// Adds the usage of one answer, even of an incomplete one. If there is a limit, missing and impossible
    /// numbers are replaced by their upper bounds: a service that reports nothing must not cost nothing.
    pub fn add(&mut self, usage: Usage, upper_bound: UpperBound) -> CostLimitState {
        self.reported_usage = self.reported_usage.plus(usage);
        let estimate = upper_bound.of_missing_numbers(usage);
        if self.limit_usd.is_some() && estimate != Usage::default() {
            if self.estimated_usage == Usage::default() {
                tracing::warn!(
                    "the model's service reports no usable numbers of tokens; because there is a \
                     budget, such answers count as the most that they can have cost"
                );
            }
            self.estimated_usage = self.estimated_usage.plus(estimate);
        }
        self.limit_state()
    }

    /// The usage that the service reported.
    pub fn usage(&self) -> Usage {
        self.reported_usage
    }

    /// The cost in US dollars, if the model has a known price. Includes the cost of the estimated usage.
    pub fn cost(&self) -> Option<f64> {
        self.price
            .map(|price| price.cost(self.reported_usage) + price.cost(self.estimated_usage))
    }

    /// Whether the cost has reached the limit.
    pub fn limit_state(&self) -> CostLimitState {
        let cost = self.cost().unwrap_or(0.0);
        if self.limit_usd.is_some_and(|limit| cost >= limit) {
            CostLimitState::Reached
        } else {
            CostLimitState::Within
        }
    }
}

impl UpperBound {
    /// The upper bounds of the numbers that are missing in `usage`. A zero counts as missing, because each
    /// answer has input and output tokens.
    pub fn of_missing_numbers(self, usage: Usage) -> Usage {
        let cached = [
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
        ];
        let is_cached = cached.into_iter().flatten().any(|tokens| tokens > 0);
        let has_input = match usage.input_tokens {
            Some(0) => is_cached,
            tokens => tokens.is_some(),
        };
        let has_output = usage.output_tokens.is_some_and(|tokens| tokens > 0);
        Usage {
            // Writing to the cache of five minutes. The cache of one hour costs more, but a token nearly always has
            // more than two bytes, and the upper bound counts one token for each byte.
            cache_creation_input_tokens: (!has_input).then_some(self.input_tokens),
            output_tokens: (!has_output).then_some(self.output_tokens),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPPER_BOUND: UpperBound = UpperBound {
        input_tokens: 1_000,
        output_tokens: 2_000,
    };

    /// The estimated tokens in addition to the reported ones: input, output.
    fn estimated_tokens(usage: Usage) -> (Option<u64>, Option<u64>) {
        let estimate = UPPER_BOUND.of_missing_numbers(usage);
        assert_eq!(
            (estimate.input_tokens, estimate.cache_read_input_tokens),
            (None, None)
        );
        (estimate.cache_creation_input_tokens, estimate.output_tokens)
    }

    fn usage(input: Option<u64>, output: Option<u64>, cache_read: Option<u64>) -> Usage {
        Usage {
            input_tokens: input,
            output_tokens: output,
            cache_read_input_tokens: cache_read,
            ..Usage::default()
        }
    }

    #[test]
    fn missing_and_impossible_numbers_are_replaced_by_their_upper_bounds() {
        let (input, output) = (Some(1_000), Some(2_000));
        assert_eq!(estimated_tokens(usage(None, None, None)), (input, output));
        assert_eq!(
            estimated_tokens(usage(Some(0), Some(0), None)),
            (input, output)
        );
        assert_eq!(
            estimated_tokens(usage(None, Some(5), Some(7))),
            (input, None)
        );
        assert_eq!(estimated_tokens(usage(Some(3), None, None)), (None, output));
        assert_eq!(
            estimated_tokens(usage(Some(0), Some(5), Some(7))),
            (None, None)
        );
        assert_eq!(
            estimated_tokens(usage(Some(3), Some(5), None)),
            (None, None)
        );
    }

    #[test]
    fn without_a_limit_nothing_is_estimated() {
        let mut meter = CostMeter::new("claude-sonnet-5-5", None);
        assert_eq!(
            meter.add(Usage::default(), UPPER_BOUND),
            CostLimitState::Within
        );
        assert_eq!(meter.cost(), Some(0.0));
    }

    #[test]
    fn an_estimate_can_reach_the_limit() {
        // 1,000 tokens at 2.5 dollars for a million, and 2,000 tokens at 10 dollars.
        let mut meter = CostMeter::new("claude-sonnet-5-5", Some(0.02));
        assert_eq!(
            meter.add(Usage::default(), UPPER_BOUND),
            CostLimitState::Reached
        );
        let cost = meter.cost().unwrap();
        assert!((cost - 0.0225).abs() < 1e-9, "{cost}");
        assert_eq!(meter.usage(), Usage::default());
    }
}
