//! Why a run must end before its time, as futures: a stop signal, a second one, a cancellation.
//!
//! Ends nothing itself: `runner` watches [`Stop`] and ends the agent, `callback` is handed the end
//! of the stop window as its deadline. SIGTERM, SIGINT and SIGHUP are one thing, because platforms
//! differ in what they send and none of them means anything else to a worker.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How long an agent gets between SIGTERM and SIGKILL when nobody is in a hurry (it ran out of
/// time, the orchestrator cancelled): enough for a build tool to clean up after itself.
pub const PATIENT_GRACE: Duration = Duration::from_secs(10);

/// The share of the stop window that the agent gets: with the default of 5 s it has 2 s, and the
/// last callback has 3 s less the margin.
pub const GRACE_SHARE: f64 = 0.4;

/// The part of the stop window by which killing what would not die is given up: whatever a
/// machine's last process does, the last callback has the rest.
const SWEEP_SHARE: f64 = 0.6;

/// The share of the stop window after which the work so far must have been handed over.
pub const HAND_OVER_SHARE: f64 = 0.7;

/// What is kept back of the stop window, for the exit itself to be over before the platform kills.
pub const WINDOW_MARGIN: Duration = Duration::from_millis(250);

/// Why a run must end early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A stop signal, by name.
    Signal(&'static str),
    /// The orchestrator's word, with its reason where it gave one.
    Cancelled(Option<String>),
}

#[derive(Debug, Clone, Default)]
struct State {
    /// The first reason stays; a signal after a cancellation only brings the window.
    why: Option<Why>,
    /// When the first stop signal came.
    signalled: Option<Instant>,
    /// A second stop signal came: no more grace.
    forced: bool,
}

/// The one place that knows whether the run is to end; cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop {
    state: watch::Sender<State>,
    window: Duration,
}

impl Stop {
    /// Listens for stop signals from now on; `window` is what the platform grants after one.
    ///
    /// # Errors
    /// Where the runtime cannot register signal handlers.
    pub fn on_signals(window: Duration) -> io::Result<Self> {
        let stop = Self {
            state: watch::Sender::new(State::default()),
            window,
        };
        for (kind, name) in [
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::interrupt(), "SIGINT"),
            (SignalKind::hangup(), "SIGHUP"),
        ] {
            tokio::spawn(stop.clone().listen(signal(kind)?, name));
        }
        Ok(stop)
    }

    /// A stop that nobody asks for, for what is done after the run has ended: what it ends gets no
    /// grace, and somebody else bounds its time.
    pub fn nobody() -> Self {
        let state = State {
            forced: true,
            ..State::default()
        };
        Self {
            state: watch::Sender::new(state),
            window: Duration::ZERO,
        }
    }

    async fn listen(self, mut signal: Signal, name: &'static str) {
        while signal.recv().await.is_some() {
            self.state.send_modify(|state| {
                state.forced = state.signalled.is_some();
                state.signalled.get_or_insert_with(Instant::now);
                state.why.get_or_insert(Why::Signal(name));
            });
            tracing::warn!(signal = name, "told to stop");
        }
    }

    /// The orchestrator wants the run to end.
    pub fn cancel(&self, reason: Option<String>) {
        self.state.send_modify(|state| {
            state.why.get_or_insert(Why::Cancelled(reason));
        });
    }

    /// Why the run is to end, if it is.
    pub fn why(&self) -> Option<Why> {
        self.state.borrow().why.clone()
    }

    /// Whether a stop signal has come.
    pub fn is_signalled(&self) -> bool {
        self.state.borrow().signalled.is_some()
    }

    /// Waits until the run is to end.
    pub async fn asked(&self) -> Why {
        self.until(|state| state.why.clone()).await
    }

    /// Waits for the first stop signal, however the run stands.
    pub async fn signalled(&self) {
        self.until(|state| state.signalled).await;
    }

    /// Waits for the end of the agent's grace, counted from `began`; a stop signal that comes
    /// meanwhile shortens it, a second one ends it.
    pub async fn grace_over(&self, began: Instant) {
        tokio::select! {
            () = sleep_until(began + PATIENT_GRACE) => {}
            () = self.share_over(GRACE_SHARE) => {}
            () = self.until(|state| state.forced.then_some(())) => {}
        }
    }

    /// Waits for the time to give up on what would not die: `patience`, less in a stop window.
    pub async fn sweep_over(&self, patience: Duration) {
        tokio::select! {
            () = sleep(patience) => {}
            () = self.share_over(SWEEP_SHARE) => {}
        }
    }

    /// Waits until what is left of the stop window is needed for the last callback; for ever where
    /// no signal comes.
    pub async fn hand_over_over(&self) {
        self.share_over(HAND_OVER_SHARE).await;
    }

    async fn share_over(&self, share: f64) {
        let signalled = self.until(|state| state.signalled).await;
        sleep_until(signalled + self.window.mul_f64(share)).await;
    }

    /// Waits for the end of the stop window; for ever where no signal comes.
    pub async fn window_over(&self) {
        let signalled = self.until(|state| state.signalled).await;
        sleep_until(signalled + self.window.saturating_sub(WINDOW_MARGIN)).await;
    }

    async fn until<T>(&self, mut want: impl FnMut(&State) -> Option<T>) -> T {
        let mut states = self.state.subscribe();
        loop {
            if let Some(found) = want(&states.borrow_and_update()) {
                return found;
            }
            if states.changed().await.is_err() {
                // Cannot be: `self` holds a sender.
                pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(5);

    /// When each part of a stop window ends, in milliseconds after the beginning, on a clock that does not wait.
    fn ends(events: impl AsyncFnOnce(&Stop)) -> [u128; 4] {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stop = Stop::on_signals(WINDOW).unwrap();
            let began = Instant::now();
            let grace = async {
                stop.grace_over(began).await;
                began.elapsed().as_millis()
            };
            let sweep = async {
                stop.sweep_over(Duration::from_secs(60)).await;
                began.elapsed().as_millis()
            };
            let hand_over = async {
                stop.hand_over_over().await;
                began.elapsed().as_millis()
            };
            let window = async {
                stop.window_over().await;
                began.elapsed().as_millis()
            };
            let ends = async { tokio::join!(grace, sweep, hand_over, window) };
            let ((grace, sweep, hand_over, window), ()) = tokio::join!(ends, events(&stop));
            [grace, sweep, hand_over, window]
        })
    }

    fn signal(stop: &Stop) {
        stop.state.send_modify(|state| {
            state.forced = state.signalled.is_some();
            state.signalled.get_or_insert_with(Instant::now);
        });
    }

    #[test]
    fn a_stop_signal_divides_the_window_between_the_agent_the_hand_over_and_the_last_callback() {
        let ends = ends(async |stop| signal(stop));
        assert_eq!(ends, [2000, 3000, 3500, 4750]);
    }

    #[test]
    fn a_second_stop_signal_ends_the_agents_grace_and_nothing_else() {
        let ends = ends(async |stop| {
            signal(stop);
            sleep(Duration::from_millis(100)).await;
            signal(stop);
        });
        assert_eq!(ends, [100, 3000, 3500, 4750]);
    }

    #[test]
    fn a_stop_signal_during_the_patient_grace_shortens_it() {
        let ends = ends(async |stop| {
            sleep(Duration::from_secs(1)).await;
            signal(stop);
        });
        assert_eq!(ends, [3000, 4000, 4500, 5750]);
    }
}
