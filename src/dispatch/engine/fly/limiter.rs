//! Keeps requests below the rate that the API allows, so that they are not rejected.

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
    /// When the bucket is full again. Each request moves it by one interval.
    full_at: Mutex<Instant>,
}

impl Limiter {
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second,
            burst,
            full_at: Mutex::new(Instant::now()),
        }
    }

    /// Waits until a request may be sent.
    pub async fn wait(&self) {
        let mut full_at = self.full_at.lock().await;
        let next = (*full_at).max(Instant::now()) + self.interval;
        // The others wait for the lock meanwhile.
        sleep_until(next.checked_sub(self.interval * self.burst).unwrap_or(next)).await;
        *full_at = next;
    }

    /// The API has asked for a pause: no request is sent before it is over.
    pub async fn pause(&self, length: Duration) {
        let mut full_at = self.full_at.lock().await;
        let after_pause = Instant::now() + length + self.interval * (self.burst - 1);
        *full_at = (*full_at).max(after_pause);
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
        limiter.pause(Duration::from_secs(7)).await;
        let began = Instant::now();
        limiter.wait().await;
        assert!(began.elapsed() >= Duration::from_secs(7));
        limiter.wait().await;
        assert!(began.elapsed() >= Duration::from_secs(8));
    }
}
