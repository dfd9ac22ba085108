//! The rounds of an agent: the agent works, then the checks run; a failed check starts another round.

use std::time::Duration;

use tokio::time::Instant;

use super::agent::{Agent, ProgramContext};
use super::checks::{self, Checks};
use super::failures::timeout_failure;
use super::model_gateway;
use super::output::AgentOutput;
use super::prompt::{self, Location};
use super::run::Run;
use super::workspace::Workspace;
use crate::excerpt::{self, visible};
use crate::gateway::{Gateway, GatewayFailure};
use crate::panics::failure_point;
use crate::process::{self, AfterRead, Ending, Limits, Program, Stream};
use crate::progress::Phase;
use crate::scud::AgentDefinition;
use crate::task::{AgentReport, Failure, MAX_PROMPTS, Reason, Task};
use crate::telemetry::{Span, TraceContext};

/// The longest message of an agent about its failure, in characters. The whole message is in its output.
const MAX_MESSAGE: usize = 1_000;

/// The maximum number of checks in the report. The result of each check has up to 4 KiB of output.
const MAX_REPORTED_CHECKS: usize = 100;

/// The task of an agent, with the agent's definition and the checks.
pub struct Assignment {
    pub task: Task,
    pub definition: Option<AgentDefinition>,
    pub checks: Checks,
}

/// Runs the agent until all checks pass, or until a failure ends the run. The task's time limit starts now.
///
/// The gateway is ended after the last round: only then its numbers include the requests that it was still serving.
pub async fn run_rounds(
    run: &mut Run<'_>,
    workspace: &Workspace,
    agent: &mut dyn Agent,
    assignment: &Assignment,
) -> Result<(), Failure> {
    let deadline = Instant::now() + run.settings.task_timeout;
    // All rounds share one output: a secret whose parts are printed in two rounds must be masked too.
    let output = AgentOutput::new(run.redactor, run.progress);
    let mut rounds = Rounds {
        run,
        workspace,
        agent,
        deadline,
        output,
        gateway: None,
    };
    let result = rounds.run_all(assignment).await;
    let refusal = rounds.end_gateway().await;
    let result = match refusal {
        // The gateway refused a request for a limit, and the agent ended before the gateway could report that.
        Some(why) if rounds.run.check_stop().is_ok() && may_follow_from_refusal(&result) => {
            Err(model_gateway::failure(GatewayFailure::LimitReached(why)))
        }
        _ => result,
    };
    let last_line = rounds.output.finish();
    let final_message = rounds.agent.final_message();
    rounds.run.report.summary = final_message.or(last_line);
    result
}

/// Whether the refusal of a request may have caused this result.
fn may_follow_from_refusal(result: &Result<(), Failure>) -> bool {
    match result {
        Ok(()) => true,
        Err(failure) => matches!(failure.reason, Reason::AgentFailed | Reason::ApiError),
    }
}

/// Runs the checks without an agent; returns a sentence about them.
pub async fn run_checks_only(
    run: &mut Run<'_>,
    workspace: &Workspace,
    checks: &Checks,
) -> Result<String, Failure> {
    let deadline = Instant::now() + run.settings.task_timeout;
    match run_checks(run, workspace, deadline, checks).await? {
        Some(failed) => Err(failed.failure()),
        None => Ok(match checks.commands.len() {
            0 => "there are no checks".to_owned(),
            1 => "the check passed".to_owned(),
            count => format!("all {count} checks passed"),
        }),
    }
}

/// The state that all rounds share.
struct Rounds<'r, 'a> {
    run: &'r mut Run<'a>,
    workspace: &'r Workspace,
    agent: &'r mut dyn Agent,
    /// The end of the time limit for the agent and the checks.
    deadline: Instant,
    output: AgentOutput<'a>,
    /// The model gateway; started before the first round, if there is a key that the agent must not get.
    gateway: Option<Gateway>,
}

impl Rounds<'_, '_> {
    /// Runs rounds until the checks pass or the repairs are used up.
    async fn run_all(&mut self, assignment: &Assignment) -> Result<(), Failure> {
        let Assignment {
            task,
            definition,
            checks,
        } = assignment;
        self.run.check_stop()?;
        self.gateway = model_gateway::start(self.run, self.agent.report().kind).await?;
        let location = match &self.workspace.clone {
            Some(_) => Location::Clone(&self.workspace.dir),
            None => Location::Project(&self.workspace.dir),
        };
        let note = self.run.settings.note.as_ref();
        let note = note.map(|note| self.run.redactor.mask(note));
        let mut prompt =
            prompt::first_prompt(task, definition.as_ref(), location, checks, note.as_deref())?;
        let mut repairs = 0;
        let mut last_failed: Option<checks::FailedCheck> = None;
        loop {
            let result = self.run_agent(&prompt).await;
            result.map_err(|mut failure| {
                // The report also names the failed check that started this round.
                let check = last_failed.as_ref().map(checks::FailedCheck::failure);
                failure
                    .causes
                    .extend(check.map(|check| check.message_with_causes()));
                failure
            })?;
            let Some(failed) = run_checks(self.run, self.workspace, self.deadline, checks).await?
            else {
                return Ok(());
            };
            if repairs == self.run.settings.repairs {
                return Err(failed.failure());
            }
            repairs += 1;
            tracing::warn!(
                check = visible(&failed.command),
                repairs,
                "a check failed; the agent gets another round"
            );
            prompt = prompt::repair_prompt(task, &failed);
            last_failed = Some(failed);
        }
    }

    /// Runs the agent for one round, and records it in the report and in a span.
    async fn run_agent(&mut self, prompt: &str) -> Result<(), Failure> {
        self.run.check_stop()?;
        self.run.progress.enter(Phase::Agent);
        if self.run.report.prompts.len() < MAX_PROMPTS {
            let prompt = prompt::for_report(prompt, self.run.redactor);
            self.run.report.prompts.push(prompt);
        }
        let mut span = self.begin_span();
        let result = self.supervise_agent(prompt, &span.context()).await;
        let report = self.agent_report();
        if let Some(model) = &report.model {
            span.set_text("gen_ai.request.model", model);
        }
        if let Err(failure) = &result {
            span.fail(failure.reason.word());
        }
        self.run.report.agent = Some(report);
        result
    }

    /// Begins the span of the agent in this round.
    fn begin_span(&self) -> Span {
        let kind = self.agent.report().kind;
        let mut span = self.run.trace.child(&format!("invoke_agent {kind}"));
        span.set_text("gen_ai.operation.name", "invoke_agent");
        span.set_text("gen_ai.agent.name", kind);
        span
    }

    /// Starts the agent's program and decides whether the round succeeded. A failure of the gateway has priority over
    /// the agent's failure, because the failure of the gateway has caused it.
    async fn supervise_agent(&mut self, prompt: &str, trace: &TraceContext) -> Result<(), Failure> {
        let program = self.agent_program(prompt, trace);
        self.output.begin_round(trace.clone());
        self.run.report.agent = Some(self.agent_report());
        let program = program?;
        tracing::info!(agent = self.agent.report().kind, "the agent starts");
        let limits = Limits {
            run_time: self.time_left(),
            idle_timeout: self.run.settings.idle_timeout,
        };
        let Self {
            run,
            agent,
            output,
            gateway,
            ..
        } = self;
        let mut on_output = |stream, bytes: &[u8]| {
            failure_point("agent output");
            match stream {
                Stream::Stdout => agent.read_output(bytes, output),
                Stream::Stderr => {
                    output.push(bytes);
                    AfterRead::ReadMore
                }
            }
        };
        let (stop, progress) = (run.stop, run.progress);
        let event = model_gateway::wait_until_agent_cannot_go_on(gateway.as_ref());
        let ending =
            process::supervise_until(program, limits, stop, progress, event, &mut on_output).await;
        output.end_round();
        // The message names the task's time limit, not the time that was left for this round.
        let ending = ending.map(|ending| match ending {
            Ending::TimedOut(_) => Ending::TimedOut(run.settings.task_timeout),
            other => other,
        });
        let result = agent.judge(ending).map_err(|failure| {
            // Secrets are masked first: a part of a secret would not be recognised.
            let message = run.redactor.mask(&failure.message);
            let message = excerpt::first_chars(&message, MAX_MESSAGE);
            Failure { message, ..failure }
        });
        if let Some(gateway) = gateway.as_ref()
            && run.check_stop().is_ok()
        {
            let gateway_failure = gateway.failure().map(model_gateway::failure);
            let result =
                result.map_err(|failure| model_gateway::add_gateway_causes(failure, gateway));
            gateway_failure.map_or(result, Err)
        } else {
            result
        }
    }

    /// The agent's report. Numbers that the gateway has counted replace the agent's own numbers if they are larger.
    fn agent_report(&self) -> AgentReport {
        let report = self.agent.report();
        let counted_by_gateway = self.gateway.as_ref().map(Gateway::spent);
        AgentReport {
            spent: report
                .spent
                .or_larger(counted_by_gateway.unwrap_or_default()),
            ..report
        }
    }

    /// Ends the gateway, and adds its final numbers to the report. Returns why the gateway refused a request, if it
    /// did.
    async fn end_gateway(&mut self) -> Option<String> {
        let report_of_gateway = self.gateway.take()?.end().await;
        if let Some(report) = &mut self.run.report.agent {
            report.spent = self.agent.report().spent.or_larger(report_of_gateway.spent);
        }
        report_of_gateway.refusal
    }

    /// The program of the next round, with the prompt.
    fn agent_program(&mut self, prompt: &str, trace: &TraceContext) -> Result<Program, Failure> {
        let workspace = self.workspace;
        let mut environment = self.run.environment();
        let mut environment_without_variables_file = self.run.environment_without_variables_file();
        trace.add_to(&mut environment);
        trace.add_to(&mut environment_without_variables_file);
        let model_access = match &self.gateway {
            Some(gateway) => {
                model_gateway::exempt_from_proxies(&mut environment);
                model_gateway::exempt_from_proxies(&mut environment_without_variables_file);
                gateway.access()
            }
            None => &self.run.settings.agent.model_access,
        };
        let context = ProgramContext {
            dir: &workspace.dir,
            state_dir: workspace.state_dir.clone(),
            user: workspace.user.as_ref(),
            environment,
            environment_without_variables_file,
            launch: self.run.settings.isolation.launch(),
            variables_file: self.run.settings.variables_file.as_ref(),
            model_access,
        };
        let mut program = self.agent.program(context)?;
        let file = workspace.write_prompt(prompt)?;
        let variable = ("DESCARTES_PROMPT_FILE".into(), file.path.into());
        program.env.push(variable);
        program.stdin = Some(file.reader);
        Ok(program)
    }

    fn time_left(&self) -> Duration {
        time_until(self.deadline)
    }
}

/// Runs the checks; returns the first one that failed.
async fn run_checks(
    run: &mut Run<'_>,
    workspace: &Workspace,
    deadline: Instant,
    checks: &Checks,
) -> Result<Option<checks::FailedCheck>, Failure> {
    run.progress.enter(Phase::Checks);
    run.report.checks.clear();
    let mut first_failed = None;
    for command in &checks.commands {
        run.check_stop()?;
        run.progress.set_activity(command);
        let dir = workspace.dir.clone();
        let launch = run.settings.isolation.launch();
        let mut span = run.trace.child("check");
        span.set_text("descartes.check.command", command);
        let mut environment = run.environment();
        span.context().add_to(&mut environment);
        let program = Program::shell(command, dir, environment, launch);
        let limits = Limits {
            run_time: checks.time_limit(time_until(deadline)),
            idle_timeout: None,
        };
        let (redactor, stop) = (run.redactor, run.stop);
        let finished_check = checks::run(command, program, limits, redactor, stop, run.progress);
        let finished_check = finished_check
            .await
            .inspect_err(|failure| span.fail(failure.reason.word()))?;
        describe_check(&mut span, &finished_check);
        span.end();
        if run.report.checks.len() < MAX_REPORTED_CHECKS {
            run.report.checks.push(finished_check.report.clone());
        }
        if let Some(failed) = finished_check.failed_check()? {
            if time_until(deadline).is_zero() {
                return Err(timeout_failure(run.settings.task_timeout));
            }
            first_failed.get_or_insert(failed);
            if checks.stop_on_failure {
                break;
            }
        }
    }
    Ok(first_failed)
}

/// Adds the exit code and the failure of a check to its span.
fn describe_check(span: &mut Span, finished_check: &checks::FinishedCheck) {
    let code = finished_check.report.exit_code;
    if let Some(code) = code.and_then(|code| u64::try_from(code).ok()) {
        span.set_number("process.exit.code", code);
    }
    match finished_check.failed_check() {
        Ok(None) => {}
        Ok(Some(_)) => span.fail(Reason::ChecksFailed.word()),
        Err(failure) => span.fail(failure.reason.word()),
    }
}

fn time_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
