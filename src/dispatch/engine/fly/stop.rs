//! Stops machines, waits for their end, and destroys them.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::body::{MAX_STOP_TIMEOUT, stop_timeout};
use super::client::RequestKind;
use super::machine::Machine;
use super::{Fly, STOP_MARGIN, machine_id};
use crate::dispatch::journal::Handle;

/// How long the API lets one request wait for the end of a machine.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The minimum time between the beginnings of two requests that wait for the same machine, because the API may answer
/// early.
pub(super) const MIN_WAIT_INTERVAL: Duration = Duration::from_secs(1);

impl Fly {
    /// Asks a machine to stop, and destroys it by force if it still exists after the grace period, even
    /// if the API does not answer the request to stop it. A repeated stop does not begin a new grace period.
    pub async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), String> {
        let id = machine_id(handle);
        let kill_time = Instant::now() + grace.min(MAX_STOP_TIMEOUT) + self.stop_margin;
        let kill_time = {
            let mut kill_times = self.kill_times.borrow_mut();
            let earliest = kill_times.entry(id.to_owned()).or_insert(kill_time);
            *earliest = kill_time.min(*earliest);
            *earliest
        };
        if timeout_at(kill_time, self.request_stop(id, grace))
            .await
            .is_err()
        {
            tracing::warn!("the machine {id} has not stopped in time, and is destroyed by force");
        }
        self.remove(handle).await
    }

    /// Asks a machine to stop, and waits until it is destroyed. Returns early if the machine has no process.
    async fn request_stop(&self, id: &str, grace: Duration) {
        if self.is_destroyed(id) {
            return;
        }
        let body = json!({ "signal": "SIGTERM", "timeout": stop_timeout(grace) });
        let path = format!("machines/{id}/stop");
        let answer = self
            .client
            .call(RequestKind::Other, Method::POST, &path, &[], Some(&body));
        match answer.await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return,
            Err(error) => {
                tracing::debug!(why = error.why, "the request to stop a machine has failed");
                let machine = self.get(&format!("machines/{id}")).await;
                // Without a process, there is nothing to wait for.
                let without_process = ["created", "starting", "stopped", "failed"];
                if machine.is_ok_and(|machine| without_process.contains(&Machine(&machine).state()))
                {
                    return;
                }
            }
        }
        while !self.wait_until_destroyed(id, MAX_WAIT).await {}
    }

    /// Waits until a machine is destroyed. An error if that takes longer than [`MAX_WAIT`].
    pub async fn wait_for_end(&self, handle: &Handle) -> Result<(), String> {
        let id = machine_id(handle);
        if self.wait_until_destroyed(id, MAX_WAIT).await {
            return Ok(());
        }
        Err(format!("the machine {id} still runs"))
    }

    /// Waits until a machine is destroyed, for at most `limit`. Returns whether it is destroyed. After an error of the
    /// API, waits on; only two answers 404 in a row count as destroyed.
    async fn wait_until_destroyed(&self, id: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut was_not_found = false;
        while !self.is_destroyed(id) {
            let now = Instant::now();
            let remaining = deadline.saturating_duration_since(now);
            if remaining.is_zero() {
                return false;
            }
            let wait = remaining.min(MAX_WAIT).max(Duration::from_secs(1));
            let seconds = wait.as_secs().to_string();
            let query = [("state", "destroyed"), ("timeout", seconds.as_str())];
            let path = format!("machines/{id}/wait");
            let answer_limit = wait + STOP_MARGIN;
            let answer = self.client.call_within(
                answer_limit,
                RequestKind::Other,
                Method::GET,
                &path,
                &query,
                None,
            );
            let is_not_found = match answer.await {
                Ok(_) => {
                    self.note_destroyed(id);
                    return true;
                }
                Err(error) => error.is_not_found(),
            };
            // The API may not know an existing machine for a moment, so one answer 404 is not enough.
            if is_not_found && was_not_found {
                self.note_destroyed(id);
            }
            was_not_found = is_not_found;
            sleep_until((now + MIN_WAIT_INTERVAL).min(deadline)).await;
        }
        true
    }

    /// Destroys a machine by force, and releases the secrets of its run.
    pub async fn remove(&self, handle: &Handle) -> Result<(), String> {
        let id = machine_id(handle);
        if !self.is_destroyed(id) {
            let (path, query) = (format!("machines/{id}"), [("force", "true")]);
            let answer = self
                .client
                .call(RequestKind::Other, Method::DELETE, &path, &query, None);
            if let Err(error) = answer.await
                && !error.is_not_found()
            {
                // This request or an earlier one may have destroyed the machine, although its answer was an error.
                let machine = self.get(&path).await;
                if !machine.is_ok_and(|machine| Machine(&machine).is_destroyed()) {
                    return Err(error.why);
                }
            }
            self.note_destroyed(id);
        }
        if let Some(run) = self.runs_by_machine.borrow().get(id) {
            self.secrets.release(run);
        }
        Ok(())
    }
}
