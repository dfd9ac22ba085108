//! The built-in agent: a small loop on the Messages API, with a shell and an editor.
//!
//! Runs in a separate process (`descartes-worker agent`), which the worker starts like any other
//! agent: the prompt is on standard input, `stream-json` goes to standard output. Knows nothing of
//! tasks, callbacks or the worker. The system prompt is in `system.md`.

mod conversation;
mod messages;
mod service;
mod tools;

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use eyre::{WrapErr, eyre};
use tokio::time::Instant;

use crate::environment::Variables;
use crate::model::{self, CostLimitState, CostMeter, Limits, Price};
use crate::shutdown::Stop;
use crate::stream_json::{End, Message, Writer};
use conversation::Conversation;
use messages::Answer;
pub use service::Settings as ServiceSettings;
use service::{Service, ServiceError};
use tools::Tools;

/// The name of the subcommand that the worker starts as the built-in agent.
pub const COMMAND: &str = "agent";

/// The longest prompt, in bytes: more than any model can read.
const MAX_PROMPT_SIZE: u64 = 16 * 1024 * 1024;
/// How many answers in a row may be unfinished. The model continues an unfinished answer in the next one.
const MAX_CONTINUATIONS: u32 = 8;
/// The prompt after an answer that was cut off.
const CONTINUE_PROMPT: &str = "Your answer was cut off at its maximum length. Continue where it stopped; if you were \
                               writing a file, write it in several smaller steps.";
/// How long a running command may take to end after a stop signal. If the worker has less time, it kills
/// both this process and the command earlier.
const GRACE_PERIOD: Duration = Duration::from_secs(10);
/// The stop window of this process: [`Stop`] gives a part of it to the grace period, and that part must be
/// longer than [`GRACE_PERIOD`].
const STOP_WINDOW: Duration = Duration::from_secs(60);

/// The settings of the built-in agent.
#[derive(Debug)]
pub struct Settings {
    pub service: ServiceSettings,
    pub model: String,
    pub limits: Limits,
    /// The file in which the conversation is stored from one round to the next.
    pub session: Option<PathBuf>,
    /// The environment of the tools.
    pub environment: Variables,
    /// The search path for the shell.
    pub path: OsString,
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentEnd {
    Finished,
    Failed,
    /// A stop signal ended the work.
    Stopped,
}

/// Checks that a budget can be enforced with this model.
///
/// # Errors
/// If there is a budget, but the model has no known price.
pub fn check_budget(model: &str, budget: Option<f64>) -> Result<(), String> {
    if budget.is_some() && Price::of(model).is_none() {
        return Err(format!(
            "DESCARTES_MAX_BUDGET_USD is set, but the price of {model} is not known (list prices of {})",
            model::price_date()
        ));
    }
    Ok(())
}

/// Works on the prompt on standard input, in the current directory.
///
/// Tools end before the result is written, because the worker kills this process soon after the result.
///
/// # Errors
/// If there is no prompt, a setting cannot be used, or standard output is closed.
pub async fn run(settings: Settings) -> eyre::Result<AgentEnd> {
    let prompt = read_prompt()?;
    // From here on, a stop signal ends this process only after its tools have ended.
    let stop = Stop::on_signals(STOP_WINDOW)?;
    check_budget(&settings.model, settings.limits.usd).map_err(|error| eyre!(error))?;
    let dir = std::env::current_dir().wrap_err("there is no current directory")?;
    let mut conversation = match &settings.session {
        Some(file) => Conversation::load(file),
        None => Conversation::new(),
    };
    conversation.add_prompt(&prompt);
    let service = &settings.service;
    let idle_timeout = service.idle_timeout;
    let mut writer = Writer::start(&conversation.id, &settings.model, &dir, idle_timeout)?;
    let mut work = Work {
        service: Service::new(service, &settings.model)?,
        tools: Tools::new(dir, &settings.path, settings.environment, idle_timeout)?,
        conversation,
        cost: CostMeter::new(&settings.model, settings.limits.usd),
        max_turns: settings.limits.turns,
        turns: 0,
    };
    let end = tokio::select! {
        end = work.run_to_end(&mut writer) => Some(end?),
        _ = stop.wait_until_requested() => None,
    };
    let Some(end) = end else {
        let grace_end = Instant::now() + GRACE_PERIOD;
        work.tools
            .close(stop.wait_for_grace_period(grace_end))
            .await;
        return Ok(AgentEnd::Stopped);
    };
    work.tools.close_with_short_grace().await;
    let agent_end = match end {
        End::Success { .. } => AgentEnd::Finished,
        _ => AgentEnd::Failed,
    };
    if let (Some(file), AgentEnd::Finished) = (&settings.session, agent_end) {
        // Only a warning: the work is done, and only another round would need the file.
        if let Err(error) = work.conversation.save(file) {
            let file = file.display();
            tracing::warn!("the conversation cannot be saved in {file}: {error}");
        }
    }
    let (cost, usage) = (work.cost.cost(), work.cost.usage());
    writer.write_result(&end, work.turns, cost, &settings.model, usage)?;
    Ok(agent_end)
}

fn read_prompt() -> eyre::Result<String> {
    let mut prompt = String::new();
    io::stdin()
        .take(MAX_PROMPT_SIZE)
        .read_to_string(&mut prompt)
        .wrap_err("the prompt on standard input cannot be read")?;
    if prompt.trim().is_empty() {
        return Err(eyre!("there is no prompt on standard input"));
    }
    Ok(prompt)
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

/// The next step after an answer.
enum NextStep {
    SendRequest,
    End(End),
}

impl Work {
    /// Sends requests and runs tool calls until the model has finished, or until the work must end.
    async fn run_to_end(&mut self, writer: &mut Writer) -> eyre::Result<End> {
        let mut continuations = 0;
        loop {
            if let Some(end) = self.limit_reached() {
                return Ok(end);
            }
            let request = self.service.ask(&self.conversation, writer, &mut self.cost);
            let answer = match request.await? {
                Ok(answer) => answer,
                Err(ServiceError::ConversationTooLong) if self.conversation.make_room() => {
                    writer.write_keep_alive()?;
                    continue;
                }
                Err(error) => return Ok(end_of_failed_request(error)),
            };
            self.turns += 1;
            writer.write_answer(
                self.turns,
                &Message {
                    id: &answer.id,
                    model: &answer.model,
                    content: &answer.content,
                    stop_reason: answer.stop_reason.as_deref(),
                    usage: answer.usage,
                },
            )?;
            continuations = if answer.is_unfinished() {
                continuations + 1
            } else {
                0
            };
            if continuations > MAX_CONTINUATIONS {
                return Ok(End::Failed {
                    message: format!("{continuations} answers in a row were not finished"),
                });
            }
            match self.run_tool_calls(answer, writer).await? {
                NextStep::SendRequest => {}
                NextStep::End(end) => return Ok(end),
            }
        }
    }

    /// The end of the work, if a limit of turns or dollars is reached.
    fn limit_reached(&self) -> Option<End> {
        if self.max_turns.is_some_and(|max| self.turns >= max) {
            return Some(End::MaxTurns);
        }
        (self.cost.limit_state() == CostLimitState::Reached).then_some(End::MaxBudget)
    }

    /// Adds an answer to the conversation, runs its tool calls, and adds their results.
    async fn run_tool_calls(
        &mut self,
        answer: Answer,
        writer: &mut Writer,
    ) -> eyre::Result<NextStep> {
        let stop_reason = answer.stop_reason.clone().unwrap_or_default();
        let text = answer.text();
        if stop_reason == "refusal" {
            return Ok(NextStep::End(End::Failed {
                message: format!("the model refused to go on: {text}")
                    .trim_end_matches([':', ' '])
                    .to_owned(),
            }));
        }
        let calls = answer.tool_calls();
        let is_cut_off = answer.is_cut_off();
        self.conversation.add_answer(answer.content);
        if stop_reason == "model_context_window_exceeded" && !self.conversation.make_room() {
            return Ok(NextStep::End(end_without_room()));
        }
        let mut reply = Vec::new();
        for call in &calls {
            let result = self.tools.call(call, &mut || writer.keep_alive()).await;
            let block = result.into_block(&call.id);
            writer.write_tool_result(&block)?;
            reply.push(block);
        }
        if is_cut_off {
            reply.push(messages::text_block(CONTINUE_PROMPT));
        }
        if !reply.is_empty() {
            self.conversation.add_user_message(reply);
            return Ok(NextStep::SendRequest);
        }
        if stop_reason == "pause_turn" {
            // The API continues an answer at the end of the conversation.
            return Ok(NextStep::SendRequest);
        }
        Ok(NextStep::End(End::Success { text }))
    }
}

/// The end of the work after a request that got no answer.
fn end_of_failed_request(error: ServiceError) -> End {
    match error {
        ServiceError::BudgetUsedUp => End::MaxBudget,
        ServiceError::ConversationTooLong => end_without_room(),
        ServiceError::Failed(failure) => End::ServiceFailed {
            status: failure.status,
            message: failure.message,
            is_temporary: failure.is_temporary,
        },
    }
}

/// The end of the work if the conversation is too long and cannot be shortened.
fn end_without_room() -> End {
    End::Failed {
        message:
            "the conversation is longer than the model can read, and cannot be shortened further"
                .to_owned(),
    }
}
