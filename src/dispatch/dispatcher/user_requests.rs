//! Requests of the user: Ctrl-C, and questions through the control socket.

use super::fields::Dispatcher;
use crate::dispatch::control::{PendingQuestion, Question};
use crate::dispatch::decide::Decision;
use crate::dispatch::journal::{Entry, UserCommand};
use crate::dispatch::policy::Stopping;
use crate::dispatch::report::DispatchStatus;
use crate::dispatch::scope::find_task;
use crate::dispatch::show::{status_rows, status_text};

impl Dispatcher<'_> {
    /// Handles Ctrl-C: the first one starts no further runs, the second one cancels all runs, the third one ends the
    /// dispatcher and leaves the workers running. Returns whether to end the dispatcher.
    pub(super) fn handle_interrupt(&mut self) -> bool {
        let live = self.journaled.state.live_runs().count();
        match self.policy.stopping {
            Stopping::No => {
                self.policy.stopping = Stopping::AfterRunning;
                self.engines.give_up_waiting();
                self.show.print_message(&format!(
                    "nothing new starts; waiting for {live} runs (press Ctrl-C again to cancel them)"
                ));
                false
            }
            Stopping::AfterRunning => {
                self.cancel_all();
                self.show.print_message(&format!(
                    "cancelling {live} runs (press Ctrl-C again to leave them running)"
                ));
                false
            }
            Stopping::Cancelling => true,
        }
    }

    /// Marks all live runs as cancelled, so that the next decisions end them, and starts no further ones. Returns the
    /// number of live runs.
    pub fn cancel_all(&mut self) -> usize {
        self.policy.stopping = Stopping::Cancelling;
        let state = &mut self.journaled.state;
        state.change_live_runs(|run| run.is_cancelled = true);
        state.live_runs().count()
    }

    /// Answers a question from the control socket.
    pub(super) async fn answer(
        &mut self,
        pending: PendingQuestion,
        decision: &Decision,
    ) -> eyre::Result<()> {
        let rows = || status_rows(&self.journaled.state, &self.graph, &decision.standings);
        let text = match pending.question {
            Question::Status => status_text(&rows()),
            Question::StatusJson => serde_json::to_string(&rows())?,
            Question::Report { format } => {
                // Making a large report takes long, because it reads the logs of all runs. The main loop must not wait
                // for it.
                let contents = self.report_contents(&decision.standings, &DispatchStatus::Running);
                let copy = contents.copy();
                tokio::task::spawn_blocking(move || pending.answer.send(copy.text(format)));
                return Ok(());
            }
            Question::Command { command, task } => self.run_command(command, task).await?,
        };
        let _ = pending.answer.send(text);
        Ok(())
    }

    /// Records a command in the journal; the next decision acts on it. Returns the answer for the user.
    async fn run_command(
        &mut self,
        command: UserCommand,
        task: Option<String>,
    ) -> eyre::Result<String> {
        let key = match &task {
            None => None,
            Some(name) => match find_task(&self.graph, &self.policy.scope, name) {
                Ok(task) => Some(self.graph.tasks[task].key.clone()),
                Err(why) => return Ok(format!("{why}\n")),
            },
        };
        if (command, &key) == (UserCommand::Cancel, &None) {
            self.cancel_all();
        }
        self.journaled
            .record(Entry::Asked {
                what: command,
                task: key,
            })
            .await?;
        Ok("done\n".to_owned())
    }
}
