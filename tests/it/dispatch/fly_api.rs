//! The Machines API of Fly as its description and its users say that it behaves. Machines are real workers.
//!
//! Each of its oddities can be switched on. Requests that the description does not allow are rejected and fail the
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
/// Requests are late by different times, more so on a busy machine, so some arrive closer together than they were sent.
const TOLERANCE: Duration = Duration::from_secs(2);

/// What happens to a request for a machine, instead of what should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// 408, and whether there is a machine.
    TimesOut { is_made: bool },
    /// The connection closes without an answer, and whether there is a machine.
    Closes { is_made: bool },
    /// 500, and whether there is a machine.
    Fails { is_made: bool },
    /// 201 with something else than JSON; the machine is made.
    Garbage,
    /// 429 with a `Retry-After` of so many seconds.
    TooSoon(u64),
    /// The machine stays in the state `created`.
    Stuck,
    /// The machine starts after a while.
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

/// What the API does differently.
#[derive(Default)]
pub struct Oddities {
    /// For the next requests for machines, in order.
    pub creates: VecDeque<Create>,
    /// The answers to requests for machines in regions without room.
    pub full_regions: BTreeMap<String, (u16, &'static str)>,
    /// A taken name is answered with 422 instead of 409.
    pub is_clash_422: bool,
    /// How many lists are empty although there are machines.
    pub empty_lists: usize,
    pub lists: Lists,
    /// How long the API takes for the names of the secrets.
    pub secrets_pause: Duration,
    /// How many questions about a machine are answered with 404 although it is there.
    pub lost_machines: usize,
    pub exit_place: ExitPlace,
    /// The exit code that every machine has, whatever its worker's was.
    pub exit_code: Option<i32>,
    pub is_out_of_memory: bool,
    /// The answer to every request.
    pub answer: Option<(u16, &'static str)>,
    /// Connections are closed without an answer.
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
    /// When each action has its next requests free, by action and identifier.
    limits: HashMap<String, Instant>,
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
        /// `Retry-After`
        pause: Option<u64>,
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

    /// How many empty lists and unknown machines are left.
    pub fn oddities_left(&self) -> usize {
        let oddities = self.shared.oddities();
        oddities.empty_lists + oddities.lost_machines
    }

    /// Switches oddities on or off.
    pub fn odd(&self, change: impl FnOnce(&mut Oddities)) -> &Self {
        change(&mut self.shared.oddities());
        self
    }

    /// The exchanges so far, of one action.
    pub fn exchanges(&self, action: &str) -> Vec<Exchange> {
        let mut exchanges = self.shared.state().exchanges.clone();
        exchanges.retain(|exchange| exchange.action == action);
        exchanges
    }

    /// The names of the machines that are not destroyed.
    pub fn living(&self) -> Vec<String> {
        let state = self.shared.state();
        let living = state.machines.iter().filter(|machine| machine.is_living());
        living.map(|machine| machine.name.clone()).collect()
    }

    /// How many machines there ever were.
    pub fn made(&self) -> usize {
        self.shared.state().machines.len()
    }

    pub fn secrets(&self) -> Vec<String> {
        self.shared.state().secrets.keys().cloned().collect()
    }

    /// A machine that is not of any dispatch.
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

    /// Kills one of the machines that run; says whether there was one.
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
        wait_until("machines", || self.living().len() == count);
    }

    /// Asserts that nothing of a dispatch is left, and that every request was allowed.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.living(), [""; 0]);
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
