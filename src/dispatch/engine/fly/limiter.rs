//! Limits the rate of requests to the rate that the API allows, so that the API does not reject them.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// A token bucket: each request takes a token. Requests get their tokens in the order of their calls of
/// [`Limiter::wait`].
#[derive(Debug)]
pub struct Limiter {
    /// The time after which the bucket gets another token.
    interval: Duration,
    /// How many tokens the bucket holds, so how many requests may be sent at once.
    burst: u32,
    /// The time at which the bucket is full again if no request takes a token before. Each request delays it by one
    /// interval.
    full_at: Mutex<Instant>,
    /// The end of the last pause that the API has asked for. Not inside the mutex: a waiting request holds the lock,
    /// and must see a new pause.
    pause_end: Cell<Option<Instant>>,
}

impl Limiter {
    /// `burst` is how many requests may be sent at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second,
            burst,
            full_at: Mutex::new(Instant::now()),
            pause_end: Cell::new(None),
        }
    }

    /// Waits until a request may be sent.
    pub async fn wait(&self) {
        // Meanwhile, later requests wait for the lock. The lock is fair, so their order is kept.
        let mut full_at = self.full_at.lock().await;
        loop {
            let now = Instant::now();
            // At the end of a pause, the bucket has one token.
            let pause_end = self.pause_end.get();
            let full_after_pause = pause_end.map(|end| end + self.interval * (self.burst - 1));
            let earliest = (*full_at).max(now).max(full_after_pause.unwrap_or(now));
            let next_full_at = earliest + self.interval;
            let send_at = next_full_at.checked_sub(self.interval * self.burst);
            let send_at = send_at.unwrap_or(next_full_at);
            if send_at <= now {
                *full_at = next_full_at;
                return;
            }
            // Check again afterwards: the API may have asked for a pause.
            sleep_until(send_at).await;
        }
    }

    /// Makes all requests wait until the end of a pause of this length, also those that wait already. The API has asked
    /// for the pause.
    pub fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        self.pause_end.set(self.pause_end.get().max(Some(end)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_does_not_wait_and_later_requests_wait_for_one_interval_each() {
        let limiter = Limiter::new(1, 3);
        let began = Instant::now();
        for _ in 0..3 {
            limiter.wait().await;
        }
        assert!(began.elapsed() < Duration::from_millis(100));
        for _ in 0..2 {
            limiter.wait().await;
        }
        let elapsed = began.elapsed().as_millis();
        assert!((1900..2200).contains(&elapsed), "{elapsed}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_requests_wait_until_the_end_of_a_pause() {
        let limiter = Limiter::new(1, 3);
        limiter.pause(Duration::from_secs(7));
        let began = Instant::now();
        limiter.wait().await;
        assert!(began.elapsed() >= Duration::from_secs(7));
        limiter.wait().await;
        assert!(began.elapsed() >= Duration::from_secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_also_delays_requests_that_wait_already() {
        let limiter = Limiter::new(1, 1);
        limiter.wait().await;
        let began = Instant::now();
        let pause = async {
            sleep_until(began + Duration::from_millis(500)).await;
            limiter.pause(Duration::from_secs(7));
        };
        let later = async {
            tokio::join!(limiter.wait(), limiter.wait());
        };
        let first = async {
            limiter.wait().await;
            began.elapsed()
        };
        let (first, (), ()) = tokio::join!(first, later, pause);
        assert!(first >= Duration::from_millis(7500), "{first:?}");
        let last = began.elapsed();
        assert!(last >= Duration::from_millis(9500), "{last:?}");
    }
}
