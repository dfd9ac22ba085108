//! How long tests wait on a machine of any speed.
//!
//! A test waits for a state. On a quiet machine the state is reached soon or never. A machine with hundreds of busy
//! processes may take a hundred times as long for everything, so a time limit cannot show whether the worker works.

use std::process::Command;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// How long a test waits for a state on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long a test waits for a state on a machine under load.
const PATIENCE_UNDER_LOAD: Duration = Duration::from_secs(60 * 60);
/// If starting a shell takes longer than this, the machine is under load: a quiet one needs a few milliseconds.
const SLOW_START: Duration = Duration::from_millis(25);

/// The moment at which a test stops waiting; later on a machine under load.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long to wait now; zero if the wait is over. After this time the caller must ask again.
    pub fn left(self) -> Duration {
        let waited = self.0.elapsed();
        let left = PATIENCE.saturating_sub(waited);
        if left.is_zero() && is_under_load() {
            // In steps, because the load may end.
            return PATIENCE_UNDER_LOAD.saturating_sub(waited).min(PATIENCE);
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
    // In a container, the load average may be that of processors that the container cannot use.
    load > 2.0 * f64::from(processors) || (0..3).any(|_| start_of_a_shell() > SLOW_START)
}

fn start_of_a_shell() -> Duration {
    let began = Instant::now();
    let status = Command::new("/bin/sh").args(["-c", ":"]).status();
    assert!(status.expect("a shell").success());
    began.elapsed()
}

/// Fails if something took too long, except on a machine under load.
#[track_caller]
pub fn assert_within(limit: Duration, took: Duration) {
    assert!(
        took < limit || is_under_load(),
        "it took {took:?} and may take {limit:?}"
    );
}

/// For a test in which something must happen before one of the worker's time limits is over: runs the test with a limit
/// that is long enough on a quiet machine, and then with longer ones until it happens.
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

/// A duration as a setting.
pub fn setting(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// A duration as the worker writes it.
pub fn written(duration: Duration) -> String {
    let milliseconds = i64::try_from(duration.as_millis()).expect("less than an age");
    format!("{:#}", jiff::SignedDuration::from_millis(milliseconds))
}
