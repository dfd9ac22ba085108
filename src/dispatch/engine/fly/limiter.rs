//! Keeps requests below the rate that the API allows, so that they are not rejected.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// A token bucket. Requests are sent in the order in which they have called [`Limiter::wait`].
#[derive(Debug)]
pub struct Limiter {
    /// The time in which one token comes back.
    interval: Duration,
    /// How many requests may be sent at once.
    burst: u32,
    /// The time at which the bucket is full again. Each request moves it by one interval.
    full_at: Mutex<Instant>,
    /// The end of the last pause that the API has asked for. It is outside of the lock, so that a waiting request,
    /// which holds the lock, sees a new pause.
    not_before: Cell<Option<Instant>>,
}

impl Limiter {
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second,
            burst,
            full_at: Mutex::new(Instant::now()),
            not_before: Cell::new(None),
        }
    }

    /// Waits until a request may be sent.
    pub async fn wait(&self) {
        // Other requests wait for the lock meanwhile, which keeps their order.
        let mut full_at = self.full_at.lock().await;
        loop {
            let now = Instant::now();
            // After a pause, the bucket has one token.
            let after_pause = self.not_before.get();
            let after_pause = after_pause.map(|end| end + self.interval * (self.burst - 1));
            let next = (*full_at).max(now).max(after_pause.unwrap_or(now)) + self.interval;
            let turn = next.checked_sub(self.interval * self.burst);
            let turn = turn.unwrap_or(next);
            if turn <= now {
                *full_at = next;
                return;
            }
            // The API may ask for a pause meanwhile.
            sleep_until(turn).await;
        }
    }

    /// The API has asked for a pause of this length. Until its end no request is sent, not even one that waits already.
    pub fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        self.not_before.set(self.not_before.get().max(Some(end)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_is_paced() {
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
    async fn a_pause_that_the_api_asks_for_is_kept_by_all_requests() {
        let limiter = Limiter::new(1, 3);
        limiter.pause(Duration::from_secs(7));
        let began = Instant::now();
        limiter.wait().await;
        assert!(began.elapsed() >= Duration::from_secs(7));
        limiter.wait().await;
        assert!(began.elapsed() >= Duration::from_secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_kept_by_the_requests_that_wait_for_their_turn_already() {
        let limiter = Limiter::new(1, 1);
        limiter.wait().await;
        let began = Instant::now();
        let pause = async {
            sleep_until(began + Duration::from_millis(500)).await;
            limiter.pause(Duration::from_secs(7));
        };
        let in_turn = async {
            tokio::join!(limiter.wait(), limiter.wait());
        };
        let first = async {
            limiter.wait().await;
            began.elapsed()
        };
        let (first, (), ()) = tokio::join!(first, in_turn, pause);
        assert!(first >= Duration::from_millis(7500), "{first:?}");
        let last = began.elapsed();
        assert!(last >= Duration::from_millis(9500), "{last:?}");
    }
}
