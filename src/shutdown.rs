//! When and why a run must end early: after one or two stop signals, after the end of the process that started the
//! worker, or after a cancellation.
//!
//! This module does not end processes: `process` waits for [`Stop`] and ends the agent; `callback` uses the end of the
//! stop window as its deadline. SIGTERM, SIGINT, SIGHUP, SIGQUIT and SIGXCPU mean the same, because platforms
//! differ in which one they send. SIGHUP stays ignored if the worker was started with SIGHUP ignored.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::process::Signal as RawSignal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::hangup::is_hangup_ignored;

/// The share of the stop window that the agent gets between SIGTERM and SIGKILL: 2 s of the default
/// window of 5 s.
pub const KILL_GRACE_SHARE: f64 = 0.4;

/// The share of the stop window after which the worker stops killing processes that do not die. The
/// rest is for the last callback.
const KILL_TIMEOUT_SHARE: f64 = 0.6;

/// The share of the stop window after which the work must have been handed over.
pub const HAND_OVER_SHARE: f64 = 0.7;

/// The part of the stop window that is left for the exit itself, before the platform kills the worker.
pub const EXIT_MARGIN: Duration = Duration::from_millis(250);

/// Signals that do not ask the worker to stop, but would end it by default. After SIGXFSZ, the write that exceeded the
/// limit for file sizes fails with an error.
const IGNORED_SIGNALS: [RawSignal; 6] = [
    RawSignal::USR1,
    RawSignal::USR2,
    RawSignal::ALARM,
    RawSignal::VTALARM,
    RawSignal::PROF,
    RawSignal::XFSZ,
];

/// Prevents these signals from ending the worker without a report.
fn ignore_signals() -> io::Result<()> {
    for ignored in IGNORED_SIGNALS {
        // tokio keeps the signal handler when this listener is dropped. Programs that the worker starts do not inherit
        // the handler.
        drop(signal(SignalKind::from_raw(ignored.as_raw()))?);
    }
    Ok(())
}

/// Why a run must end early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// A stop signal, by name.
    Signal(&'static str),
    /// The process that started the worker has ended. It had the other end of the pipe that is the worker's standard
    /// input.
    ParentEnded,
    /// The orchestrator cancelled the task, perhaps with a reason.
    Cancelled(Option<String>),
}

#[derive(Debug, Clone, Default)]
struct State {
    /// The first reason. A stop signal after a cancellation begins the stop window, but does not change the reason.
    reason: Option<StopReason>,
    /// When the stop window began.
    window_began: Option<Instant>,
    /// Whether a second stop signal has ended the grace period.
    is_forced: bool,
}

/// Whether and why the run must end; cheap to clone, and all clones share one state.
#[derive(Debug, Clone)]
pub struct Stop {
    state: watch::Sender<State>,
    window: Duration,
}

impl Stop {
    /// Listens for stop signals from now on. `window` is the time between a stop signal and the platform's kill.
    ///
    /// # Errors
    /// If the signal handlers cannot be registered.
    pub fn on_signals(window: Duration) -> io::Result<Self> {
        let stop = Self {
            state: watch::Sender::new(State::default()),
            window,
        };
        let is_hangup_ignored = is_hangup_ignored();
        for (kind, name) in [
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::interrupt(), "SIGINT"),
            (SignalKind::hangup(), "SIGHUP"),
            (SignalKind::quit(), "SIGQUIT"),
            (SignalKind::from_raw(RawSignal::XCPU.as_raw()), "SIGXCPU"),
        ] {
            if kind != SignalKind::hangup() || !is_hangup_ignored {
                tokio::spawn(stop.clone().listen(signal(kind)?, name));
            }
        }
        ignore_signals()?;
        Ok(stop)
    }

    /// Stops the run also at the end of standard input, which must be a pipe. When the process at the other end ends,
    /// in whatever way, the kernel closes the pipe.
    ///
    /// # Errors
    /// If standard input is not a pipe.
    pub fn stop_at_end_of_stdin(&self) -> io::Result<()> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let mut stdin = pipe::Receiver::from_owned_fd(stdin)?;
        let stop = self.clone();
        tokio::spawn(async move {
            let mut ignored = [0; 64];
            while let Ok(1..) = stdin.read(&mut ignored).await {}
            tracing::warn!("stopping: the process that started this worker has ended");
            stop.begin_window(StopReason::ParentEnded);
        });
        Ok(())
    }

    /// A stop that no signal requests, for children that the worker starts after the run. Children that reach their
    /// limits are killed without a grace period; the caller limits the total time.
    pub fn never_requested() -> Self {
        let state = State {
            is_forced: true,
            ..State::default()
        };
        Self {
            state: watch::Sender::new(state),
            window: Duration::ZERO,
        }
    }

    async fn listen(self, mut signal: Signal, name: &'static str) {
        while signal.recv().await.is_some() {
            self.note_signal(name);
        }
    }

    /// Begins the stop window; a second signal ends the agent's grace period.
    fn note_signal(&self, name: &'static str) {
        if self.has_stop_window_begun() {
            tracing::warn!(signal = name, "stopping at once: the agent is killed");
            self.state.send_modify(|state| state.is_forced = true);
        } else {
            tracing::warn!(
                signal = name,
                "stopping; a second signal kills the agent at once"
            );
            self.begin_window(StopReason::Signal(name));
        }
    }

    /// Begins the stop window now, unless it has begun before. Does not replace an earlier reason.
    fn begin_window(&self, reason: StopReason) {
        self.state.send_modify(|state| {
            state.window_began.get_or_insert_with(Instant::now);
            state.reason.get_or_insert(reason);
        });
    }

    /// Ends the run because the orchestrator cancelled the task.
    pub fn cancel(&self, reason: Option<String>) {
        tracing::warn!("stopping: the orchestrator cancelled the task");
        self.state.send_modify(|state| {
            state.reason.get_or_insert(StopReason::Cancelled(reason));
        });
    }

    /// Why the run must end, if it must.
    pub fn reason(&self) -> Option<StopReason> {
        self.state.borrow().reason.clone()
    }

    /// Waits until the orchestrator has cancelled the task.
    pub async fn wait_until_cancelled(&self) {
        self.wait_for(|state| matches!(state.reason, Some(StopReason::Cancelled(_))).then_some(()))
            .await;
    }

    /// Whether the stop window has begun.
    pub fn has_stop_window_begun(&self) -> bool {
        self.state.borrow().window_began.is_some()
    }

    /// Waits until the run must end.
    pub async fn wait_until_requested(&self) -> StopReason {
        self.wait_for(|state| state.reason.clone()).await
    }

    /// Waits until the stop window begins, even if the run has been cancelled before.
    pub async fn wait_until_window_begins(&self) {
        self.wait_for(|state| state.window_began).await;
    }

    /// Waits for the end of the grace period between SIGTERM and SIGKILL: the time `latest`, or earlier in a stop
    /// window, or at once after a second stop signal.
    pub async fn wait_for_grace_period(&self, latest: Instant) {
        tokio::select! {
            () = sleep_until(latest) => {}
            () = self.wait_for_share_of_window(KILL_GRACE_SHARE) => {}
            () = self.wait_until_forced() => {}
        }
    }

    /// Waits until the worker must give up on processes that do not die: for `timeout`, or less in a stop window.
    pub async fn wait_for_kill_timeout(&self, timeout: Duration) {
        tokio::select! {
            () = sleep(timeout) => {}
            () = self.wait_for_share_of_window(KILL_TIMEOUT_SHARE) => {}
        }
    }

    /// Waits until the rest of the stop window is needed for the last callback; forever without a stop
    /// signal.
    pub async fn wait_for_hand_over_deadline(&self) {
        self.wait_for_share_of_window(HAND_OVER_SHARE).await;
    }

    /// Waits until this share of the stop window is over; forever without a stop signal.
    async fn wait_for_share_of_window(&self, share: f64) {
        let began = self.wait_for(|state| state.window_began).await;
        sleep_until(began + self.window.mul_f64(share)).await;
    }

    /// Waits for the end of the stop window; forever without a stop signal.
    pub async fn wait_until_window_ends(&self) {
        let began = self.wait_for(|state| state.window_began).await;
        sleep_until(began + self.window.saturating_sub(EXIT_MARGIN)).await;
    }

    /// Waits for a second stop signal.
    pub async fn wait_until_forced(&self) {
        self.wait_for(|state| state.is_forced.then_some(())).await;
    }

    /// Waits until `find` returns a value for the state; returns this value.
    async fn wait_for<T>(&self, mut find: impl FnMut(&State) -> Option<T>) -> T {
        let mut states = self.state.subscribe();
        loop {
            if let Some(found) = find(&states.borrow_and_update()) {
                return found;
            }
            if states.changed().await.is_err() {
                // Impossible: `self` holds a sender.
                pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(5);
    /// The grace period without a stop signal.
    const GRACE_WITHOUT_SIGNAL: Duration = Duration::from_secs(10);

    /// When the four waits end, in milliseconds after the start, on a paused clock: the grace period, the kill timeout,
    /// the deadline for the hand-over, the stop window.
    fn ends(send_signals: impl AsyncFnOnce(&Stop)) -> [u128; 4] {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stop = Stop::on_signals(WINDOW).unwrap();
            let began = Instant::now();
            let grace = async {
                stop.wait_for_grace_period(began + GRACE_WITHOUT_SIGNAL)
                    .await;
                began.elapsed().as_millis()
            };
            let kill_timeout = async {
                stop.wait_for_kill_timeout(Duration::from_secs(60)).await;
                began.elapsed().as_millis()
            };
            let hand_over = async {
                stop.wait_for_hand_over_deadline().await;
                began.elapsed().as_millis()
            };
            let window = async {
                stop.wait_until_window_ends().await;
                began.elapsed().as_millis()
            };
            let ends = async { tokio::join!(grace, kill_timeout, hand_over, window) };
            let ((grace, kill_timeout, hand_over, window), ()) =
                tokio::join!(ends, send_signals(&stop));
            [grace, kill_timeout, hand_over, window]
        })
    }

    fn send_signal(stop: &Stop) {
        stop.note_signal("SIGTERM");
    }

    #[test]
    fn a_stop_signal_divides_the_window_between_the_agent_the_hand_over_and_the_last_callback() {
        let ends = ends(async |stop| send_signal(stop));
        assert_eq!(ends, [2000, 3000, 3500, 4750]);
    }

    #[test]
    fn a_second_stop_signal_ends_the_agents_grace_and_nothing_else() {
        let ends = ends(async |stop| {
            send_signal(stop);
            sleep(Duration::from_millis(100)).await;
            send_signal(stop);
        });
        assert_eq!(ends, [100, 3000, 3500, 4750]);
    }

    #[test]
    fn a_stop_signal_during_a_grace_period_shortens_it() {
        let ends = ends(async |stop| {
            sleep(Duration::from_secs(1)).await;
            send_signal(stop);
        });
        assert_eq!(ends, [3000, 4000, 4500, 5750]);
    }
}
