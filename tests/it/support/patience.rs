//! How long tests wait on a machine of any speed.
//!
//! A test waits for a state. On a quiet machine the state is reached soon or never. A machine with hundreds of busy
//! processes may take a hundred times as long for everything, so a time limit cannot show whether the worker works.

use std::process::Command;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// How long a test waits for a state on a quiet machine.
pub const MAX_WAIT: Duration = Duration::from_secs(5 * 60);
/// How long a test waits for a state on a machine under load.
const MAX_WAIT_UNDER_LOAD: Duration = Duration::from_secs(60 * 60);
/// If starting a shell takes longer than this, the machine is under load: a quiet one needs a few milliseconds.
const SLOW_SHELL_START: Duration = Duration::from_millis(25);

/// The moment at which a test stops waiting; later on a machine under load.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long to wait now; zero if the test must stop waiting. After this time, the caller must call this function again.
    pub fn left(self) -> Duration {
        let waited = self.0.elapsed();
        let left = MAX_WAIT.saturating_sub(waited);
        if left.is_zero() && is_under_load() {
            // Not more than MAX_WAIT at once, because the load may end in the meantime.
            return MAX_WAIT_UNDER_LOAD.saturating_sub(waited).min(MAX_WAIT);
        }
        left
    }
}

/// Whether the machine has more work than it can do.
pub fn is_under_load() -> bool {
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load
        .split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or_default();
    // In a container, the load average may be that of other processors, so a low one proves nothing: time a shell too.
    load > 2.0 * f64::from(processors) || (0..3).any(|_| time_to_start_shell() > SLOW_SHELL_START)
}

/// How long it takes to start a shell and to wait for its end.
fn time_to_start_shell() -> Duration {
    let began = Instant::now();
    let status = Command::new("/bin/sh").args(["-c", ":"]).status();
    assert!(status.expect("a shell").success());
    began.elapsed()
}

/// Fails if a duration is not below the limit, except if the machine is under load now.
#[track_caller]
pub fn assert_within(limit: Duration, took: Duration) {
    assert!(
        took < limit || is_under_load(),
        "it took {took:?} and may take {limit:?}"
    );
}

/// For a test in which something must happen before one of the worker's time limits is over: runs the test with a limit
/// that is long enough on a quiet machine, and then with longer ones until it happens. Fails if it does not happen within a
/// hundred times the first limit or more.
///
/// `attempt` gets the limit as a setting of the worker. Its error says what did not happen in time.
#[track_caller]
pub fn with_enough_time<T>(
    shortest: Duration,
    mut attempt: impl FnMut(Duration) -> Result<T, String>,
) -> T {
    let mut limit = shortest;
    loop {
        match attempt(limit) {
            Ok(result) => return result,
            Err(missing) => assert!(limit < 100 * shortest, "{missing} within {limit:?}"),
        }
        limit *= 4;
    }
}

/// A duration as the value of a setting.
pub fn duration_setting(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// A duration in the format of the worker's messages.
pub fn duration_text(duration: Duration) -> String {
    let milliseconds =
        i64::try_from(duration.as_millis()).expect("a duration below 292 million years");
    format!("{:#}", jiff::SignedDuration::from_millis(milliseconds))
}
