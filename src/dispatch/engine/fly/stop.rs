//! Stops machines, waits for their end, and destroys them.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::body::{MAX_STOP_TIMEOUT, stop_timeout};
use super::client::Kind;
use super::machine::Machine;
use super::{Fly, STOP_MARGIN, machine_of};
use crate::dispatch::journal::Handle;

/// How long one request can wait for a machine's end at most; a limit of the API.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The least time between two requests that wait for the same machine. The API may answer early.
pub(super) const WAIT_PAUSE: Duration = Duration::from_secs(1);

impl Fly {
    /// Asks a machine to stop, and destroys it by force if it still exists after the grace period, whatever the API has
    /// answered. A repeated stop does not begin a new grace period.
    pub async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), String> {
        let id = machine_of(handle);
        let kill = Instant::now() + grace.min(MAX_STOP_TIMEOUT) + self.stop_margin;
        let kill = {
            let mut kills = self.kills.borrow_mut();
            let earliest = kills.entry(id.to_owned()).or_insert(kill);
            *earliest = kill.min(*earliest);
            *earliest
        };
        if timeout_at(kill, self.stop_gently(id, grace)).await.is_err() {
            tracing::warn!("the machine {id} has not stopped in time, and is destroyed by force");
        }
        self.remove(handle).await
    }

    /// Asks a machine to stop, and waits until it is destroyed, or until there is nothing to wait for.
    async fn stop_gently(&self, id: &str, grace: Duration) {
        if self.is_destroyed(id) {
            return;
        }
        let body = json!({ "signal": "SIGTERM", "timeout": stop_timeout(grace) });
        let path = format!("machines/{id}/stop");
        let asked = self
            .client
            .call(Kind::Other, Method::POST, &path, &[], Some(&body));
        match asked.await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return,
            Err(error) => {
                tracing::debug!(why = error.why, "a machine was asked to stop");
                let found = self.get(&format!("machines/{id}")).await;
                // Without a process, there is nothing to wait for.
                let idle = ["created", "starting", "stopped", "failed"];
                if found.is_ok_and(|found| idle.contains(&Machine(&found).state())) {
                    return;
                }
            }
        }
        while !self.wait(id, MAX_WAIT).await {}
    }

    /// Waits until a machine is destroyed. An error if that takes longer than [`MAX_WAIT`].
    pub async fn ended(&self, handle: &Handle) -> Result<(), String> {
        let id = machine_of(handle);
        if self.wait(id, MAX_WAIT).await {
            return Ok(());
        }
        Err(format!("the machine {id} still runs"))
    }

    /// Waits until a machine is destroyed, for at most `limit`; returns whether it is. An error of the API does not
    /// count as destroyed.
    async fn wait(&self, id: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut was_unknown = false;
        while !self.is_destroyed(id) {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return false;
            }
            let wait = left.min(MAX_WAIT).max(Duration::from_secs(1));
            let seconds = wait.as_secs().to_string();
            let query = [("state", "destroyed"), ("timeout", seconds.as_str())];
            let path = format!("machines/{id}/wait");
            let limit = wait + STOP_MARGIN;
            let asked =
                self.client
                    .call_within(limit, Kind::Other, Method::GET, &path, &query, None);
            let is_unknown = match asked.await {
                Ok(_) => {
                    self.note_destroyed(id);
                    return true;
                }
                Err(error) => error.is_not_found(),
            };
            // The API may not know a machine for a moment.
            if is_unknown && was_unknown {
                self.note_destroyed(id);
            }
            was_unknown = is_unknown;
            sleep_until((now + WAIT_PAUSE).min(deadline)).await;
        }
        true
    }

    /// Destroys a machine by force.
    pub async fn remove(&self, handle: &Handle) -> Result<(), String> {
        let id = machine_of(handle);
        if !self.is_destroyed(id) {
            let (path, query) = (format!("machines/{id}"), [("force", "true")]);
            let asked = self
                .client
                .call(Kind::Other, Method::DELETE, &path, &query, None);
            if let Err(error) = asked.await
                && !error.is_not_found()
            {
                // A request that had no clear answer before may have had its effect.
                let found = self.get(&path).await;
                if !found.is_ok_and(|found| Machine(&found).is_destroyed()) {
                    return Err(error.why);
                }
            }
            self.note_destroyed(id);
        }
        if let Some(run) = self.runs.borrow().get(id) {
            self.secrets.release(run);
        }
        Ok(())
    }
}
