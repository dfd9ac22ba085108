//! Leases: the time for which a task belongs to a run that sends nothing.
//!
//! docs/protocol.md recommends this rule to every receiver.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// A lease is as long as this many heartbeat intervals, unless that is shorter than [`MIN_LEASE`].
const LEASE_HEARTBEATS: u32 = 4;
/// The shortest lease: a restart of the orchestrator or of a proxy must not end a lease.
const MIN_LEASE: Duration = Duration::from_secs(60);
/// The heartbeat interval of old workers, whose claims have no `heartbeat_interval_ms`.
const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// The time for the clone and the push, which the task timeout and the finish deadline do not include. The lease of a
/// run without heartbeats is the sum of all three.
const CLONE_AND_PUSH_TIME: Duration = Duration::from_secs(30 * 60);

/// How long a cancelled run may take to end its agent (10 s) and to push its work (2 min). It sends no
/// heartbeats during that time, and then delivers its terminal event.
pub const CANCELLED_RUN_TIME: Duration = Duration::from_secs(130);
/// How long a worker tries to deliver its terminal event, if its claim does not say so in `finish_deadline_ms`.
const DEFAULT_FINISH_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The lease of one run. Every event of the run renews it.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    /// The length after a cancellation.
    length_if_cancelled: Duration,
    last_renewal: Instant,
    /// Whether the end of the lease was reported.
    is_end_reported: bool,
}

impl Lease {
    /// The lease for a claim. `fixed` is the length of every lease, if the user has set one.
    pub fn new(claim: &Value, fixed: Option<Duration>, now: Instant) -> Self {
        let length = fixed.unwrap_or_else(|| lease_of_claim(claim));
        let finish_timeout = milliseconds(claim, "/limits/finish_deadline_ms");
        let max_silence = CANCELLED_RUN_TIME + finish_timeout.unwrap_or(DEFAULT_FINISH_TIMEOUT);
        Self {
            length,
            length_if_cancelled: fixed.unwrap_or(length.max(max_silence)),
            last_renewal: now,
            is_end_reported: false,
        }
    }

    /// Starts the lease again.
    pub fn renew(&mut self, now: Instant) {
        self.last_renewal = now;
        self.is_end_reported = false;
    }

    /// Extends the lease of a run that was cancelled, because such a run sends no more heartbeats.
    pub fn extend_for_cancellation(&mut self) {
        self.length = self.length_if_cancelled;
    }

    /// Whether the run has been silent for the whole length of the lease.
    pub fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_renewal) >= self.length
    }

    /// How long the run has been silent, if the lease is over. `None` if this was already returned since the last
    /// renewal.
    pub fn report_end(&mut self, now: Instant) -> Option<Duration> {
        if self.is_end_reported || !self.is_over(now) {
            return None;
        }
        self.is_end_reported = true;
        Some(now.saturating_duration_since(self.last_renewal))
    }
}

/// The length of the lease that follows from a claim's `heartbeat_interval_ms` and `limits`.
pub fn lease_of_claim(claim: &Value) -> Duration {
    let interval = match claim.get("heartbeat_interval_ms") {
        Some(Value::Null) => {
            let limits = ["/limits/task_timeout_ms", "/limits/finish_deadline_ms"];
            let limits: Duration = limits
                .into_iter()
                .filter_map(|pointer| milliseconds(claim, pointer))
                .sum();
            return limits.saturating_add(CLONE_AND_PUSH_TIME);
        }
        _ => milliseconds(claim, "/heartbeat_interval_ms").unwrap_or(DEFAULT_HEARTBEAT_INTERVAL),
    };
    interval.saturating_mul(LEASE_HEARTBEATS).max(MIN_LEASE)
}

fn milliseconds(claim: &Value, pointer: &str) -> Option<Duration> {
    let value = claim.pointer(pointer).and_then(Value::as_u64);
    value.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_is_four_heartbeat_intervals_but_at_least_a_minute() {
        let seconds = |claim: Value| lease_of_claim(&claim).as_secs();
        assert_eq!(seconds(json!({ "heartbeat_interval_ms": 1000 })), 60);
        assert_eq!(seconds(json!({ "heartbeat_interval_ms": 15_000 })), 60);
        assert_eq!(seconds(json!({ "heartbeat_interval_ms": 60_000 })), 240);
        assert_eq!(seconds(json!({})), 60, "a claim without an interval");
    }

    #[test]
    fn a_lease_without_heartbeats_is_as_long_as_the_run_may_take() {
        let limits = json!({ "task_timeout_ms": 3_600_000, "finish_deadline_ms": 900_000 });
        let claim = json!({ "heartbeat_interval_ms": null, "limits": limits });
        assert_eq!(lease_of_claim(&claim).as_secs(), 3600 + 900 + 30 * 60);
    }

    #[test]
    fn the_lease_of_a_cancelled_run_is_long_enough_to_push_and_to_deliver_its_terminal_event() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let claim = json!({ "limits": { "finish_deadline_ms": 20_000 } });
        let mut lease = Lease::new(&claim, None, start);
        lease.extend_for_cancellation();
        assert!(!lease.is_over(at(149)));
        assert!(lease.is_over(at(150)));
    }

    #[test]
    fn the_end_of_a_lease_is_reported_once_until_it_is_renewed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lease = Lease::new(&json!({}), Some(Duration::from_secs(10)), start);
        assert_eq!(lease.report_end(at(9)), None);
        assert_eq!(lease.report_end(at(10)), Some(Duration::from_secs(10)));
        assert_eq!(lease.report_end(at(11)), None);
        assert!(lease.is_over(at(11)));
        lease.renew(at(12));
        assert!(!lease.is_over(at(21)));
        assert_eq!(lease.report_end(at(22)), Some(Duration::from_secs(10)));
    }
}
