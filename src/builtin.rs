//! The built-in agent: a small loop on the Messages API, with a shell and an editor.
//!
//! A life of its own of this program (`descartes-worker agent`), started by the worker like any
//! other agent: the prompt on standard input, what it does as `stream-json` on standard output. It
//! knows nothing of tasks, callbacks or the worker. `system.md` is what the model is told first.

mod conversation;
mod messages;
mod prices;
mod service;
mod telling;
mod tools;

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;

use eyre::{WrapErr, eyre};

use crate::runner::{Variables, agent::Budget};
use conversation::Conversation;
use messages::{Answer, Usage};
use prices::Price;
pub use prices::full_name;
pub use service::{Access, service};
use service::{Purse, Service, ServiceError};
use telling::{End, Telling};
use tools::Tools;

/// The name of the subcommand.
pub const COMMAND: &str = "agent";
/// The model where nobody names one: the best that does not cost too much for a fleet.
pub const DEFAULT_MODEL: &str = "claude-sonnet-5-5";

/// The most of a prompt, in bytes: more than any model reads.
const PROMPT: u64 = 16 * 1024 * 1024;
/// How often in a row an answer that was not finished is continued, before that is a failure.
const CONTINUATIONS: u32 = 8;
/// What the model is told when its answer was cut off.
const GO_ON: &str = "Your answer was cut off at its greatest length. Go on where it stopped; where you were writing a \
                     file, write it in several smaller steps.";

#[derive(Debug)]
pub struct Settings {
    pub access: Access,
    pub model: String,
    pub limits: Budget,
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
            prices::as_of()
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
    let access = &settings.access;
    let mut telling = Telling::begin(&conversation.id, &settings.model, &dir, access.patience)?;
    let mut work = Work {
        service: Service::new(access, &settings.model)?,
        tools: Tools::new(dir, &settings.path, settings.environment, access.patience)?,
        conversation,
        spent: Spent {
            usage: Usage::default(),
            price: Price::of(&settings.model),
            most: settings.limits.usd,
        },
        max_turns: settings.limits.turns,
        turns: 0,
    };
    let end = work.until_the_end(&mut telling).await?;
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
    let (cost, usage) = (work.spent.cost(), &work.spent.usage);
    telling.end(&end, work.turns, cost, &settings.model, usage)?;
    Ok(done)
}

/// The work on one prompt.
struct Work {
    service: Service,
    tools: Tools,
    conversation: Conversation,
    spent: Spent,
    max_turns: Option<u32>,
    turns: u32,
}

/// What this round has taken so far.
struct Spent {
    usage: Usage,
    /// Where the model has one.
    price: Option<Price>,
    /// US dollars.
    most: Option<f64>,
}

impl Spent {
    /// US dollars, where the model has a price.
    fn cost(&self) -> Option<f64> {
        self.price.map(|price| price.cost(&self.usage))
    }

    fn is_too_much(&self) -> bool {
        let cost = self.cost().unwrap_or(0.0);
        self.most.is_some_and(|most| cost >= most)
    }
}

impl Purse for Spent {
    fn take(&mut self, usage: &Usage) -> bool {
        self.usage = self.usage.and(usage);
        !self.is_too_much()
    }
}

/// What to do after an answer.
enum Next {
    Ask,
    End(End),
}

impl Work {
    async fn until_the_end(&mut self, telling: &mut Telling) -> eyre::Result<End> {
        let mut continuations = 0;
        loop {
            if let Some(end) = self.limit_reached() {
                return Ok(end);
            }
            let asked = self
                .service
                .ask(&self.conversation, telling, &mut self.spent);
            let answer = match asked.await? {
                Ok(answer) => answer,
                Err(ServiceError::TooLong) if self.conversation.make_room() => {
                    telling.lives()?;
                    continue;
                }
                Err(ServiceError::BudgetUsedUp) => return Ok(End::MaxBudget),
                Err(ServiceError::TooLong) => return Ok(no_room()),
                Err(ServiceError::Failed(refusal)) => return Ok(End::ServiceFailed(refusal)),
            };
            self.turns += 1;
            self.spent.take(&answer.usage);
            telling.answer(self.turns, &answer)?;
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
            match self.react(answer, telling).await? {
                Next::Ask => {}
                Next::End(end) => return Ok(end),
            }
        }
    }

    fn limit_reached(&self) -> Option<End> {
        if self.max_turns.is_some_and(|most| self.turns >= most) {
            return Some(End::MaxTurns);
        }
        self.spent.is_too_much().then_some(End::MaxBudget)
    }

    /// Does what an answer asks for.
    async fn react(&mut self, answer: Answer, telling: &mut Telling) -> eyre::Result<Next> {
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
            let result = self.tools.call(call, &mut || telling.alive()).await;
            let result = result.block(&call.id);
            telling.result(&result)?;
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
