//! What people ask for: Ctrl-C, and the questions that come through the socket.

use super::fields::Dispatcher;
use crate::dispatch::control::{Question, Waiting};
use crate::dispatch::decide::Decision;
use crate::dispatch::journal::{Asked, Entry};
use crate::dispatch::scope::find_task;
use crate::dispatch::show::status;
use crate::dispatch::standing::{Stopping, task_key};

impl Dispatcher<'_> {
    /// Ctrl-C: nothing new starts; what runs is cancelled; the dispatcher leaves. Says whether to leave.
    pub(super) fn interrupt(&mut self) -> bool {
        let live = self
            .journaled
            .state
            .runs
            .iter()
            .filter(|run| run.is_live())
            .count();
        match self.terms.stopping {
            Stopping::No => {
                self.terms.stopping = Stopping::AfterRunning;
                self.engine.give_up_waiting(None);
                self.show.say(&format!(
                    "nothing new starts; {live} runs are waited for (Ctrl-C again cancels them)"
                ));
                false
            }
            Stopping::AfterRunning => {
                self.terms.stopping = Stopping::Cancelling;
                for run in &mut self.journaled.state.runs {
                    run.is_cancelled |= run.is_live();
                }
                self.show.say(&format!(
                    "{live} runs are cancelled (Ctrl-C again leaves them running)"
                ));
                false
            }
            Stopping::Cancelling => true,
        }
    }

    pub(super) async fn answer(
        &mut self,
        waiting: Waiting,
        decision: &Decision,
    ) -> eyre::Result<()> {
        let text = match waiting.question {
            Question::Status => status(&self.journaled.state, &self.graph, &decision.standings),
            Question::Ask { asked, task } => self.ask(asked, task).await?,
        };
        let _ = waiting.answer.send(text);
        Ok(())
    }

    pub(super) async fn ask(&mut self, what: Asked, task: Option<String>) -> eyre::Result<String> {
        let key = match &task {
            None => None,
            Some(name) => match find_task(&self.graph, &self.terms.scope, name) {
                Ok(task) => Some(task_key(&self.graph, task)),
                Err(why) => return Ok(format!("{why}\n")),
            },
        };
        if what == Asked::Cancel {
            if key.is_none() {
                self.terms.stopping = Stopping::Cancelling;
            }
            for run in self.journaled.state.live_runs_mut() {
                run.is_cancelled |= key.is_none() || run.task == key;
                if run.is_cancelled {
                    self.engine.give_up_waiting(Some(&run.id));
                }
            }
        }
        self.journaled
            .note(Entry::Asked { what, task: key })
            .await?;
        Ok("done\n".to_owned())
    }
}
