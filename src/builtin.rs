//! The built-in agent: a small loop on the Messages API, with a shell and an editor.
//!
//! A life of its own of this program (`descartes-worker agent`), started by the worker like any
//! other agent: the prompt on standard input, what it does as `stream-json` on standard output. It
//! knows nothing of tasks, callbacks or the worker. `system.md` is what the model is told first.

mod conversation;
mod messages;
mod service;
mod tools;

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;

use eyre::{WrapErr, eyre};

use crate::environment::Variables;
use crate::model::{self, CostLimit, CostMeter, Limits, Price};
use crate::stream_json::{End, Message, Writer};
use conversation::Conversation;
use messages::Answer;
pub use service::Settings as ServiceSettings;
use service::{Service, ServiceError};
use tools::Tools;

/// The name of the subcommand.
pub const COMMAND: &str = "agent";

/// The most of a prompt, in bytes: more than any model reads.
const PROMPT: u64 = 16 * 1024 * 1024;
/// How often in a row an answer that was not finished is continued, before that is a failure.
const CONTINUATIONS: u32 = 8;
/// What the model is told when its answer was cut off.
const GO_ON: &str = "Your answer was cut off at its greatest length. Go on where it stopped; where you were writing a \
                     file, write it in several smaller steps.";

#[derive(Debug)]
pub struct Settings {
    pub service: ServiceSettings,
    pub model: String,
    pub limits: Limits,
    /// Where the conversation is kept from one round to the next.
    pub session: Option<PathBuf>,
    /// What the tools get.
    pub environment: Variables,
    /// Where the shell is found.
    pub path: OsString,
}

/// How the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Finished,
    Failed,
}

/// Whether a budget can be kept with a model.
pub fn affordable(model: &str, budget: Option<f64>) -> Result<(), String> {
    if budget.is_some() && Price::of(model).is_none() {
        return Err(format!(
            "DESCARTES_MAX_BUDGET_USD is set, but the price of {model} is not known (list prices of {})",
            model::as_of()
        ));
    }
    Ok(())
}

/// Works on the prompt on standard input, in the current directory.
pub async fn run(settings: Settings) -> eyre::Result<Done> {
    let mut prompt = String::new();
    io::stdin()
        .take(PROMPT)
        .read_to_string(&mut prompt)
        .wrap_err("the prompt on standard input cannot be read")?;
    if prompt.trim().is_empty() {
        return Err(eyre!("there is no prompt on standard input"));
    }
    affordable(&settings.model, settings.limits.usd).map_err(|error| eyre!(error))?;
    let dir = std::env::current_dir().wrap_err("there is no current directory")?;
    let mut conversation = match &settings.session {
        Some(file) => Conversation::load(file),
        None => Conversation::new(),
    };
    conversation.ask(&prompt);
    let service = &settings.service;
    let mut writer = Writer::begin(&conversation.id, &settings.model, &dir, service.patience)?;
    let mut work = Work {
        service: Service::new(service, &settings.model)?,
        tools: Tools::new(dir, &settings.path, settings.environment, service.patience)?,
        conversation,
        cost: CostMeter::new(&settings.model, settings.limits.usd),
        max_turns: settings.limits.turns,
        turns: 0,
    };
    let end = work.until_the_end(&mut writer).await?;
    work.tools.close().await;
    let done = match end {
        End::Success { .. } => Done::Finished,
        _ => Done::Failed,
    };
    if let (Some(file), Done::Finished) = (&settings.session, done) {
        // Only a further round would miss it.
        if let Err(error) = work.conversation.save(file) {
            let file = file.display();
            tracing::warn!("the conversation cannot be kept in {file}: {error}");
        }
    }
    let (cost, usage) = (work.cost.cost(), work.cost.usage());
    writer.end(&end, work.turns, cost, &settings.model, usage)?;
    Ok(done)
}

/// The work on one prompt.
struct Work {
    service: Service,
    tools: Tools,
    conversation: Conversation,
    cost: CostMeter,
    max_turns: Option<u32>,
    turns: u32,
}

/// What to do after an answer.
enum Next {
    Ask,
    End(End),
}

impl Work {
    async fn until_the_end(&mut self, writer: &mut Writer) -> eyre::Result<End> {
        let mut continuations = 0;
        loop {
            if let Some(end) = self.limit_reached() {
                return Ok(end);
            }
            let asked = self.service.ask(&self.conversation, writer, &mut self.cost);
            let answer = match asked.await? {
                Ok(answer) => answer,
                Err(ServiceError::TooLong) if self.conversation.make_room() => {
                    writer.lives()?;
                    continue;
                }
                Err(ServiceError::BudgetUsedUp) => return Ok(End::MaxBudget),
                Err(ServiceError::TooLong) => return Ok(no_room()),
                Err(ServiceError::Failed(refusal)) => {
                    return Ok(End::ServiceFailed {
                        status: refusal.status,
                        message: refusal.message,
                        may_pass: refusal.may_pass,
                    });
                }
            };
            self.turns += 1;
            self.cost.add(answer.usage);
            writer.answer(
                self.turns,
                &Message {
                    id: &answer.id,
                    model: &answer.model,
                    content: &answer.content,
                    stop_reason: answer.stop_reason.as_deref(),
                    usage: answer.usage,
                },
            )?;
            continuations = if answer.is_half() {
                continuations + 1
            } else {
                0
            };
            if continuations > CONTINUATIONS {
                return Ok(End::Failed {
                    message: format!("{continuations} answers in a row were not finished"),
                });
            }
            match self.react(answer, writer).await? {
                Next::Ask => {}
                Next::End(end) => return Ok(end),
            }
        }
    }

    fn limit_reached(&self) -> Option<End> {
        if self.max_turns.is_some_and(|most| self.turns >= most) {
            return Some(End::MaxTurns);
        }
        (self.cost.limit_state() == CostLimit::Reached).then_some(End::MaxBudget)
    }

    /// Does what an answer asks for.
    async fn react(&mut self, answer: Answer, writer: &mut Writer) -> eyre::Result<Next> {
        let stop = answer.stop_reason.clone().unwrap_or_default();
        let text = answer.text();
        if stop == "refusal" {
            // What was said of it so far is not to be sent back.
            return Ok(Next::End(End::Failed {
                message: format!("the model refused to go on: {text}")
                    .trim_end_matches([':', ' '])
                    .to_owned(),
            }));
        }
        let calls = answer.tool_calls();
        let is_cut = answer.is_cut();
        self.conversation.answered(answer.content);
        if stop == "model_context_window_exceeded" && !self.conversation.make_room() {
            return Ok(Next::End(no_room()));
        }
        let mut results = Vec::new();
        for call in &calls {
            let result = self.tools.call(call, &mut || writer.alive()).await;
            let result = result.block(&call.id);
            writer.result(&result)?;
            results.push(result);
        }
        if is_cut {
            results.push(messages::text(GO_ON));
        }
        if !results.is_empty() {
            self.conversation.reply(results);
            return Ok(Next::Ask);
        }
        if stop == "pause_turn" {
            // The same conversation again, with what there is of the answer.
            return Ok(Next::Ask);
        }
        Ok(Next::End(End::Success { text }))
    }
}

fn no_room() -> End {
    End::Failed {
        message: "the conversation has outgrown what the model can read, and nothing is left to leave out".to_owned(),
    }
}
