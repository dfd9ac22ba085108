//! The end of a dispatch: removes everything of it from the engines.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::timeout;

use super::Engines;
use crate::dispatch::engine::clean_up::remove_all;
use crate::dispatch::engine::connection::Connection;
use crate::dispatch::engine::settings::EngineKind;

impl Engines {
    /// Gives up all starts, waits up to `limit` for starts, stops and clean-ups, and then removes everything of the
    /// dispatch from the engines. Returns a message about each engine that may still have something of the dispatch.
    pub async fn close(&mut self, limit: Duration) -> Vec<String> {
        self.placement.take_waiting();
        self.starts.give_up(None);
        // No event is received any more. With an open channel, tasks would wait until the full channel has space.
        self.event_receiver.close();
        let finished = async {
            self.starts.join().await;
            while self.tasks.join_next().await.is_some() {}
        };
        let is_late = timeout(limit, finished).await.is_err();
        // These engines may still start a worker after everything was removed.
        let unfinished = self.starts.unfinished_runs();
        let starting_engines: HashSet<EngineKind> = unfinished
            .filter_map(|run| self.placement.engine_of(run))
            .collect();
        self.starts.abort();
        self.tasks.abort_all();
        let mut messages = Vec::new();
        for connection in &self.connections {
            let removed = remove_all(&connection.remote).await;
            if let Err(why) = removed {
                messages.push(connection.remote.leftovers_message(&why));
            } else if starting_engines.contains(&connection.remote.kind()) {
                let why = "it has not answered to the start of a run in time";
                messages.push(connection.remote.leftovers_message(why));
            } else if is_late {
                tracing::warn!(
                    "the workers on an engine had not ended after {limit:?}, so they were removed by force"
                );
            }
        }
        messages
    }

    /// The messages for the user if the dispatcher ends without waiting for [`Engines::close`].
    pub fn leftover_messages(&self) -> Vec<String> {
        let why = "it was not waited for";
        let message = |connection: &Connection| connection.remote.leftovers_message(why);
        self.connections.iter().map(message).collect()
    }
}
