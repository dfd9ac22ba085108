//! Reads the terminal event of a run.

use serde_json::Value;

use super::model::{Agent, Attempt, Check, End, Output, Usage, Work};
use super::patch::changed_files;
use super::samples::cost;
use super::text::{Cleaner, Text};
use super::text_limits::{Detail, TextLimits};

/// Adds the data of a terminal event to an attempt. Fields of the wrong type count as absent, because the event may
/// come from another version of the worker.
pub fn add_terminal_event(
    attempt: &mut Attempt,
    event: &Value,
    cleaner: &Cleaner,
    limits: TextLimits,
) {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let message = cleaner.line(text("/message").unwrap_or_default());
    attempt.end = match event.get("failure") {
        Some(failure) if failure.is_object() => End::Failed {
            reason: cleaner.line(text("/failure/reason").unwrap_or_default()),
            message,
            detail: block(cleaner, text("/failure/detail"), limits.max_message()),
            is_retryable: event.pointer("/failure/retryable") == Some(&Value::Bool(true)),
        },
        _ => End::Completed { message },
    };
    attempt.summary = block(cleaner, text("/result/summary"), limits.max_message());
    let prompts = event.pointer("/result/prompts").and_then(Value::as_array);
    attempt.prompts = read_prompts(prompts.map_or(&[], Vec::as_slice), cleaner, limits);
    let result = event.get("result").unwrap_or(&Value::Null);
    attempt.agent = result
        .get("agent")
        .filter(|agent| agent.is_object())
        .map(|agent| read_agent(agent, cleaner));
    let checks = result.get("checks").and_then(Value::as_array);
    let checks = checks.map_or(&[][..], Vec::as_slice);
    let max_output = limits.max_check_output(checks.len());
    attempt.checks = checks
        .iter()
        .map(|check| Check {
            command: cleaner.line(string(check, "command").unwrap_or_default()),
            exit_code: check.get("exit_code").and_then(Value::as_i64),
            duration: milliseconds(check, "duration_ms"),
            output: cleaner.block(string(check, "output_tail").unwrap_or_default(), max_output),
        })
        .collect();
    attempt.work = result
        .get("work")
        .filter(|work| work.is_object())
        .map(|work| read_work(work, cleaner, limits));
    attempt.output = result
        .get("output")
        .and_then(|output| read_output(output, cleaner, limits));
}

/// The prompts with the numbers of their rounds. A large page has only the last prompt after failed
/// checks. Instead of the first prompt, it shows the texts of the task and the note.
fn read_prompts(prompts: &[Value], cleaner: &Cleaner, limits: TextLimits) -> Vec<(usize, Text)> {
    let first_position = match limits.detail() {
        Detail::Full => 0,
        Detail::Short => prompts.len().saturating_sub(1).max(1),
    };
    let shown = prompts.iter().enumerate().skip(first_position);
    let max_prompt = limits.max_prompt(shown.len());
    shown
        .filter_map(|(at, prompt)| Some((at + 1, block(cleaner, prompt.as_str(), max_prompt)?)))
        .collect()
}

fn read_agent(agent: &Value, cleaner: &Cleaner) -> Agent {
    let usage = agent.get("usage").filter(|usage| usage.is_object());
    Agent {
        kind: cleaner.line(string(agent, "kind").unwrap_or_default()),
        model: string(agent, "model").map(|model| cleaner.line(model)),
        exit_code: agent.get("exit_code").and_then(Value::as_i64),
        turns: agent.get("turns").and_then(Value::as_u64),
        tool_calls: agent.get("tool_calls").and_then(Value::as_u64),
        cost_usd: cost(agent),
        usage: usage.map(|usage| Usage {
            input: count(usage, "input_tokens"),
            output: count(usage, "output_tokens"),
            cached: count(usage, "cache_read_input_tokens")
                .saturating_add(count(usage, "cache_creation_input_tokens")),
        }),
    }
}

fn read_work(work: &Value, cleaner: &Cleaner, limits: TextLimits) -> Work {
    let patch = string(work, "patch");
    Work {
        base: cleaner.line(string(work, "base_commit").unwrap_or_default()),
        head: cleaner.line(string(work, "head_commit").unwrap_or_default()),
        branch: string(work, "branch").map(|branch| cleaner.line(branch)),
        files_changed: count(work, "files_changed"),
        insertions: count(work, "insertions"),
        deletions: count(work, "deletions"),
        files: changed_files(patch.unwrap_or_default(), cleaner),
        patch: patch.map(|patch| cleaner.code(patch, limits.max_patch())),
        is_truncated: work.get("patch_truncated") == Some(&Value::Bool(true)),
    }
}

fn read_output(output: &Value, cleaner: &Cleaner, limits: TextLimits) -> Option<Output> {
    let (head, tail) = (
        string(output, "head").unwrap_or_default(),
        string(output, "tail").unwrap_or_default(),
    );
    let total_bytes = count(output, "total_bytes");
    let dropped = count(output, "dropped_bytes");
    let text = match dropped {
        0 => format!("{head}{tail}"),
        _ => format!("{head}{}{tail}", crate::excerpt::left_out_note(dropped)),
    };
    let text = cleaner.block(&text, limits.max_log());
    (!text.is_empty()).then_some(Output { text, total_bytes })
}

fn block(cleaner: &Cleaner, text: Option<&str>, max_bytes: usize) -> Option<Text> {
    let text = cleaner.block(text?, max_bytes);
    (!text.is_empty()).then_some(text)
}

fn string<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

fn count(object: &Value, field: &str) -> u64 {
    object
        .get(field)
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

fn milliseconds(object: &Value, field: &str) -> i64 {
    i64::try_from(count(object, field)).unwrap_or(i64::MAX)
}
