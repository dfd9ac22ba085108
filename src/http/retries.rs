//! When to try again: exponential backoff with full jitter, `Retry-After`, and a deadline.
//!
//! Full jitter: each wait is a random time between zero and a bound. Otherwise all workers would
//! send their requests at the same moment after an outage of the orchestrator.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::time::Instant;

/// Larger values of `Retry-After` are reduced to this, so that the arithmetic cannot overflow. It is longer than
/// any deadline.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The longest wait before the second attempt.
const FIRST_BOUND: Duration = Duration::from_millis(250);
/// The longest wait before any attempt. The bound doubles with each attempt, up to this.
const MAX_BOUND: Duration = Duration::from_secs(15);
/// The longest wait after a stop signal. Such a wait ignores `Retry-After`.
const HURRIED_BOUND: Duration = Duration::from_millis(500);
/// The time before the deadline that is reserved for the last attempt. It is shorter if the whole time is short.
const LAST_ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// When to make the attempts of one request: the waits between them, and the deadline for all of them.
#[derive(Debug)]
pub struct Retries {
    deadline: Instant,
    /// The latest time at which an attempt may begin.
    latest_start: Instant,
    /// The longest wait before the next attempt.
    bound: Duration,
}

/// Why there is no further attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum NoRetry {
    /// The deadline comes before the next attempt could begin.
    OutOfTime,
    /// The server asked for a wait that ends after the latest start: `asked` is the wait, `left` the time until the
    /// latest start. A shorter wait would ignore the server's request.
    RetryAfterTooLong { asked: Duration, left: Duration },
}

impl NoRetry {
    /// Appends to `why` (the reason why the last attempt failed) the server's request for a long wait, if that is why
    /// there is no further attempt.
    pub fn append_to(&self, why: &str) -> String {
        match self {
            Self::OutOfTime => why.to_owned(),
            Self::RetryAfterTooLong { .. } => format!("{why} ({self})"),
        }
    }
}

impl fmt::Display for NoRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfTime => f.write_str("there is no time for another attempt"),
            Self::RetryAfterTooLong { asked, left } => write!(
                f,
                "it asks to wait {} s, but the last attempt would have to begin within {:.1} s",
                asked.as_secs(),
                left.as_secs_f64()
            ),
        }
    }
}

impl Retries {
    /// Retries until the deadline, which is `time` from now.
    pub fn within(time: Duration) -> Self {
        let deadline = Instant::now() + time;
        Self {
            deadline,
            latest_start: deadline - LAST_ATTEMPT_TIME.min(time / 4),
            bound: FIRST_BOUND,
        }
    }

    /// Sets the deadline to `time` from now; the waits continue to grow.
    pub fn extend(&mut self, time: Duration) {
        let bound = self.bound;
        *self = Self::within(time);
        self.bound = bound;
    }

    /// The end of the last attempt at the latest.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The time until the deadline.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// How long to wait before the next attempt: never shorter than `retry_after`, which the server has sent.
    pub fn delay(&mut self, retry_after: Option<Duration>) -> Result<Duration, NoRetry> {
        let left = self.time_left_for_waiting()?;
        let asked = retry_after.unwrap_or_default();
        if asked > left {
            return Err(NoRetry::RetryAfterTooLong { asked, left });
        }
        let jitter = self.bound.mul_f64(random_fraction());
        self.bound = (self.bound * 2).min(MAX_BOUND);
        // Jitter is added to `Retry-After`, because all workers got the same value.
        Ok((asked + jitter).min(left))
    }

    /// How long to wait before the next attempt after a stop signal. The wait is short, because the process will be
    /// killed soon.
    pub fn hurried_delay(&self) -> Result<Duration, NoRetry> {
        let left = self.time_left_for_waiting()?;
        Ok(HURRIED_BOUND.mul_f64(random_fraction()).min(left))
    }

    /// The time until the latest start of an attempt.
    fn time_left_for_waiting(&self) -> Result<Duration, NoRetry> {
        let left = self.latest_start.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NoRetry::OutOfTime);
        }
        Ok(left)
    }
}

/// Reads `Retry-After`, which is a number of seconds or a date. `None` if it is missing or malformed.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let after = if is_number {
        // Only a number that is too large fails to parse.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date = DateTimeParser::new().parse_timestamp(value).ok()?;
        // A date in the past means: do not wait.
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    Some(after.min(MAX_RETRY_AFTER))
}

/// A random number between 0 and 1.
fn random_fraction() -> f64 {
    // If the system gives no random number, the wait is as long as the bound.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    fn run_with_paused_clock<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(test)
    }

    #[test]
    fn the_waits_grow_to_the_maximum_and_end_at_the_deadline() {
        run_with_paused_clock(async {
            let began = Instant::now();
            let mut retries = Retries::within(Duration::from_secs(15 * 60));
            let mut waits = Vec::new();
            while let Ok(delay) = retries.delay(None) {
                sleep(delay).await;
                waits.push(delay);
            }
            assert!(
                waits[0] <= FIRST_BOUND + Duration::from_millis(2),
                "{waits:?}"
            );
            assert!(
                waits
                    .iter()
                    .all(|wait| *wait <= MAX_BOUND + Duration::from_millis(2)),
                "{waits:?}"
            );
            assert!(
                waits.iter().any(|wait| *wait > Duration::from_secs(8)),
                "{waits:?}"
            );
            let elapsed = began.elapsed();
            assert!(
                elapsed < Duration::from_secs(15 * 60) && elapsed > Duration::from_secs(14 * 60),
                "{elapsed:?}"
            );
        });
    }

    #[test]
    fn a_wait_is_never_shorter_than_retry_after_and_ends_the_retries_if_there_is_not_enough_time() {
        run_with_paused_clock(async {
            let seconds = Duration::from_secs;
            let mut retries = Retries::within(seconds(60));
            for asked in [0, 1, 30, 57, 58] {
                let delay = retries.delay(Some(seconds(asked))).unwrap();
                assert!((seconds(asked)..=seconds(58)).contains(&delay), "{delay:?}");
            }
            for asked in [59, 60, 3600] {
                let (asked, left) = (seconds(asked), seconds(58));
                assert_eq!(
                    retries.delay(Some(asked)),
                    Err(NoRetry::RetryAfterTooLong { asked, left })
                );
            }
            let no_retry = retries.delay(Some(seconds(3600))).unwrap_err();
            assert_eq!(
                no_retry.append_to("answered 503"),
                "answered 503 (it asks to wait 3600 s, but the last attempt would have to begin within 58.0 s)"
            );
            sleep(seconds(58)).await;
            assert_eq!(retries.delay(None), Err(NoRetry::OutOfTime));
        });
    }

    fn read(value: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        retry_after(&headers, "2026-11-23T08:00:00Z".parse().unwrap())
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            read("Mon, 23 Nov 2026 08:01:30 GMT"),
            Some(Duration::from_secs(90))
        );
        assert_eq!(read("Mon, 23 Nov 2026 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("86400"), Some(Duration::from_secs(86400)));
        assert_eq!(read("999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("99999999999999999999"), Some(MAX_RETRY_AFTER));
    }
}
