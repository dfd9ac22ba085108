//! A fake Machines API of Fly. It behaves as Fly's description and users of the real API say. Machines are real workers.
//!
//! A test can switch on each oddity: a way in which the API can behave differently. Requests that the description does not allow are rejected and fail the
//! test, as do requests that come more often than the limits allow.

mod creates;
mod description;
mod http;
mod machines;
mod requests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::server::{Connection, Server};
use crate::support::wait_until;
use http::serve;
use machines::Machine;
use requests::answer;

pub const APP: &str = "workers";
pub const TOKEN: &str = "fo1_the-token-of-the-test";
const DIGEST: &str = "sha256:597c3e12f830132be2aa69b4c0deccb0657ea4253e6d59c6f38e41e9f69a0add";
/// How much too soon a request may come: requests arrive with different delays, so some arrive closer together than the
/// dispatcher sent them.
const TOLERANCE: Duration = Duration::from_secs(2);

/// What the API does wrong with a request for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateFault {
    /// The answer is 408; `is_created` says whether the machine is created.
    TimesOut { is_created: bool },
    /// The connection closes without an answer; `is_created` says whether the machine is created.
    Closes { is_created: bool },
    /// The answer is 500; `is_created` says whether the machine is created.
    Fails { is_created: bool },
    /// The answer is 201 without JSON; the machine is created.
    Garbage,
    /// The answer is 429 with a `Retry-After` of this many seconds.
    TooSoon(u64),
    /// The machine stays in the state `created`.
    Stuck,
    /// The machine starts after this time.
    Late(Duration),
}

/// Where the exit event has the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExitPlace {
    #[default]
    Request,
    MonitorEvent,
    /// `request` is null.
    Null,
    /// There is no event.
    Missing,
}

/// What happens to requests for a list of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lists {
    #[default]
    Work,
    /// They work until the first request for a machine.
    BreakSoon,
    /// They are answered with 500.
    Broken,
}

/// The oddities that are switched on.
#[derive(Default)]
pub struct Oddities {
    /// The faults of the next requests for machines, in order.
    pub creates: VecDeque<CreateFault>,
    /// The answers to requests for machines in regions without room.
    pub full_regions: BTreeMap<String, (u16, &'static str)>,
    /// The answer to a request with a taken name is 422 instead of 409.
    pub is_clash_422: bool,
    /// How many of the next lists are empty although there are machines.
    pub empty_lists: usize,
    pub lists: Lists,
    /// How long the API waits before it answers with the names of the secrets.
    pub secrets_pause: Duration,
    /// How many of the next requests about one machine get 404 although the machine exists.
    pub false_404s: usize,
    pub exit_place: ExitPlace,
    /// The exit code that the API reports for every machine, instead of its worker's.
    pub exit_code: Option<i32>,
    pub is_out_of_memory: bool,
    /// The status and the body of the answer to every request.
    pub answer: Option<(u16, &'static str)>,
    /// The API closes all connections without an answer.
    pub is_away: bool,
}

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub action: &'static str,
    pub body: Value,
    pub status: u16,
}

#[derive(Default)]
struct State {
    machines: Vec<Machine>,
    secrets: BTreeMap<String, String>,
    secrets_version: u64,
    exchanges: Vec<Exchange>,
    violations: Vec<String>,
    /// For the rate limits: when a whole burst of requests is allowed again, by action and machine id.
    full_burst_times: HashMap<String, Instant>,
}

struct Shared {
    state: Mutex<State>,
    oddities: Mutex<Oddities>,
    rate: u32,
}

/// A listening API; its machines end when it is dropped.
pub struct FlyApi {
    server: Server,
    shared: Arc<Shared>,
}

enum Answer {
    /// The connection is closed.
    Close,
    Send {
        status: u16,
        /// The value of `Retry-After`, in seconds.
        retry_after: Option<u64>,
        body: String,
    },
}

impl FlyApi {
    /// `rate` is how many requests of a kind are allowed in a second.
    pub fn start(rate: u32) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            oddities: Mutex::default(),
            rate,
        });
        let serving = Arc::clone(&shared);
        let server = Server::listen("127.0.0.1:0", move |connection| serve(&serving, connection));
        Self { server, shared }
    }

    /// `FLY_FLAPS_BASE_URL`
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// How many empty lists and false answers 404 are still to come.
    pub fn false_answers_left(&self) -> usize {
        let oddities = self.shared.oddities();
        oddities.empty_lists + oddities.false_404s
    }

    /// Switches oddities on or off.
    pub fn change_oddities(&self, change: impl FnOnce(&mut Oddities)) -> &Self {
        change(&mut self.shared.oddities());
        self
    }

    /// The exchanges with this action so far.
    pub fn exchanges(&self, action: &str) -> Vec<Exchange> {
        let mut exchanges = self.shared.state().exchanges.clone();
        exchanges.retain(|exchange| exchange.action == action);
        exchanges
    }

    /// The names of the machines that are not destroyed.
    pub fn living_machines(&self) -> Vec<String> {
        let state = self.shared.state();
        let machines = state.machines.iter().filter(|machine| machine.is_living());
        machines.map(|machine| machine.name.clone()).collect()
    }

    /// How many machines were created, destroyed ones included.
    pub fn count_created(&self) -> usize {
        self.shared.state().machines.len()
    }

    /// The names of the app's secrets.
    pub fn secrets(&self) -> Vec<String> {
        self.shared.state().secrets.keys().cloned().collect()
    }

    /// Adds a machine that belongs to no dispatch.
    pub fn add_foreign_machine(&self, name: &str) {
        let mut state = self.shared.state();
        let number = state.machines.len();
        state.machines.push(Machine::foreign(number, name));
    }

    /// Kills all machines that run; the API says nothing about how they ended.
    pub fn lose_machines(&self) {
        for machine in &mut self.shared.state().machines {
            machine.lose();
        }
    }

    /// Kills one of the machines that run; returns `false` if none runs.
    pub fn lose_a_machine(&self, number: usize) -> bool {
        let mut state = self.shared.state();
        let running = state
            .machines
            .iter_mut()
            .filter(|machine| machine.is_running());
        let mut running: Vec<&mut Machine> = running.collect();
        let count = running.len().max(1);
        running
            .get_mut(number % count)
            .map(|machine| machine.lose())
            .is_some()
    }

    #[track_caller]
    pub fn wait_for_machines(&self, count: usize) {
        wait_until("machines", || self.living_machines().len() == count);
    }

    /// Asserts that no machine and no secret is left, and that every request was allowed.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.living_machines(), [""; 0]);
        assert_eq!(self.secrets(), [""; 0]);
        self.assert_allowed();
    }

    #[track_caller]
    pub fn assert_allowed(&self) {
        let violations = self.shared.state().violations.clone();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

impl Drop for FlyApi {
    fn drop(&mut self) {
        for machine in &mut self.shared.state().machines {
            machine.destroy();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oddities(&self) -> MutexGuard<'_, Oddities> {
        self.oddities.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
