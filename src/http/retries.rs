//! When to try again: exponential with full jitter, the other side's word, a deadline.
//!
//! Full jitter (any time up to the bound, not the bound and a bit) because a control plane that
//! comes back is met by all its workers at once.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::time::Instant;

/// The longest `Retry-After` that is believed; deadlines bound it anyway.
const LONGEST_AFTER: Duration = Duration::from_secs(60 * 60);
const FIRST: Duration = Duration::from_millis(250);
const CAP: Duration = Duration::from_secs(15);
/// The bound inside a stop window of seconds, whatever the other side asked for.
const HURRIED: Duration = Duration::from_millis(500);
/// What is kept of the time for one last attempt, however long the other side wanted to wait.
const LAST_ATTEMPT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Retries {
    deadline: Instant,
    /// When the last attempt begins at the latest.
    last_attempt: Instant,
    bound: Duration,
}

/// The deadline leaves no time for another attempt.
#[derive(Debug, PartialEq, Eq)]
pub struct OutOfTime;

impl Retries {
    pub fn within(time: Duration) -> Self {
        let deadline = Instant::now() + time;
        Self {
            deadline,
            last_attempt: deadline - LAST_ATTEMPT.min(time / 4),
            bound: FIRST,
        }
    }

    /// Begins the time anew; the waits go on growing.
    pub fn extend(&mut self, time: Duration) {
        let bound = self.bound;
        *self = Self::within(time);
        self.bound = bound;
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long to wait before the next attempt: at least as long as the other side asked for, but
    /// never so long that there would be no last one.
    pub fn delay(&mut self, after: Option<Duration>) -> Result<Duration, OutOfTime> {
        let left = self.left()?;
        let jittered = self.bound.mul_f64(random_share());
        self.bound = (self.bound * 2).min(CAP);
        // On top of what was asked for: everybody was asked for the same.
        Ok((after.unwrap_or_default() + jittered).min(left))
    }

    /// A short wait, for a process that is about to be stopped.
    pub fn hurried_delay(&self) -> Result<Duration, OutOfTime> {
        let left = self.left()?;
        Ok(HURRIED.mul_f64(random_share()).min(left))
    }

    fn left(&self) -> Result<Duration, OutOfTime> {
        let left = self.last_attempt.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(OutOfTime);
        }
        Ok(left)
    }
}

/// `Retry-After` as seconds or as a date.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = DateTimeParser::new().parse_timestamp(value).ok()?;
        // A date in the past means now.
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    Some(after.min(LONGEST_AFTER))
}

/// Evenly between 0 and 1.
fn random_share() -> f64 {
    // Without randomness the worker still retries, only less politely.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    fn paused<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(test)
    }

    #[test]
    fn the_waits_grow_to_their_cap_and_end_at_the_deadline() {
        paused(async {
            let began = Instant::now();
            let mut retries = Retries::within(Duration::from_secs(15 * 60));
            let mut waits = Vec::new();
            loop {
                let Ok(delay) = retries.delay(None) else {
                    break;
                };
                sleep(delay).await;
                waits.push(delay);
            }
            assert!(waits[0] <= FIRST + Duration::from_millis(2), "{waits:?}");
            assert!(
                waits
                    .iter()
                    .all(|wait| *wait <= CAP + Duration::from_millis(2)),
                "{waits:?}"
            );
            assert!(
                waits.iter().any(|wait| *wait > Duration::from_secs(8)),
                "{waits:?}"
            );
            let over = began.elapsed();
            assert!(
                over < Duration::from_secs(15 * 60) && over > Duration::from_secs(14 * 60),
                "{over:?}"
            );
        });
    }

    #[test]
    fn a_long_retry_after_still_leaves_a_last_attempt() {
        paused(async {
            let began = Instant::now();
            let mut retries = Retries::within(Duration::from_secs(60));
            let after = Some(Duration::from_secs(3600));
            sleep(retries.delay(after).unwrap()).await;
            assert_eq!(began.elapsed().as_secs(), 58);
            assert_eq!(retries.delay(after), Err(OutOfTime));
        });
    }

    fn after(value: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        retry_after(&headers, "2026-11-23T08:00:00Z".parse().unwrap())
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            after("Mon, 23 Nov 2026 08:01:30 GMT"),
            Some(Duration::from_secs(90))
        );
        assert_eq!(after("Mon, 23 Nov 2026 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(after("99999999999999999999"), None);
        assert_eq!(after("999999999"), Some(LONGEST_AFTER));
    }
}
