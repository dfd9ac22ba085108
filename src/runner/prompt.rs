//! The prompts of the agent: the task, and how to work.
//!
//! The template of an agent definition replaces the part about the task. It never replaces the part
//! about how to work, which describes what the worker does.

use std::fmt::Write;
use std::path::Path;

use super::checks::{Checks, FailedCheck};
use crate::excerpt;
use crate::redact::Redactor;
use crate::scud::{AgentDefinition, MAX_PROMPT_SIZE};
use crate::task::{Failure, Reason, Task};

/// The largest part of the orchestrator's note that the prompt contains, in bytes: enough for the output of a
/// few failed checks.
pub const MAX_NOTE_SIZE: usize = 16 * 1024;

/// The largest part of a prompt that a report contains, in bytes.
const MAX_REPORTED_SIZE: usize = 16 * 1024;

/// The directory that the agent works in, as the prompt names it.
#[derive(Debug, Clone, Copy)]
pub enum Location<'a> {
    /// The user's own directory, which the worker changes in place.
    Project(&'a Path),
    /// A clone, whose changes the worker commits.
    Clone(&'a Path),
}

/// The prompt of the first round. `note` is the orchestrator's note about this run, with masked secrets.
///
/// # Errors
/// If the prompt is larger than `MAX_PROMPT_SIZE`.
pub fn first_prompt(
    task: &Task,
    definition: Option<&AgentDefinition>,
    location: Location<'_>,
    checks: &Checks,
    note: Option<&str>,
) -> Result<String, Failure> {
    let template = definition.and_then(|definition| definition.render(task));
    let mut prompt = template.unwrap_or_else(|| task_section(task));
    if prompt.trim_start().starts_with('/') {
        // Harnesses would treat a prompt that begins with a slash as a command.
        prompt = format!("Task {}:\n\n{prompt}", task.id);
    }
    prompt.truncate(prompt.trim_end().len());
    prompt.push_str("\n\n");
    prompt.push_str(&how_to_work(location, checks));
    if prompt.len() > MAX_PROMPT_SIZE {
        let message = format!(
            "the prompt of task {} would be larger than {} MiB; shorten the task's texts, or the template of its agent",
            task.id,
            MAX_PROMPT_SIZE >> 20
        );
        return Err(Failure {
            retryable: false,
            ..Failure::new(Reason::WorkspaceFailed, message)
        });
    }
    prompt.extend(note.map(note_section));
    Ok(prompt)
}

/// The section with the orchestrator's note, at the end of the first prompt.
fn note_section(note: &str) -> String {
    let note = note.trim();
    if note.is_empty() {
        return String::new();
    }
    format!(
        "\n## A note about this run\n\n{}\n",
        excerpt::both_ends(note, MAX_NOTE_SIZE)
    )
}

/// The prompt as a report contains it: without secrets, and without its middle if it is long.
pub fn for_report(prompt: &str, redactor: &Redactor) -> String {
    excerpt::both_ends(&redactor.mask(prompt), MAX_REPORTED_SIZE)
}

/// The prompt of a round after a failed check.
pub fn repair_prompt(task: &Task, failed: &FailedCheck) -> String {
    let FailedCheck {
        command,
        how_it_ended,
        output_tail,
    } = failed;
    let fence = fence(output_tail);
    format!(
        "Your work on task {id} ({title}) is not done: the check `{command}` {how_it_ended}.\n\n\
         The end of its output:\n\n{fence}\n{output_tail}\n{fence}\n\n\
         Find the cause and fix it, so that the check passes. Don't weaken the check.\n",
        id = task.id,
        title = task.title,
        output_tail = output_tail.trim_end(),
    )
}

/// The section about the task, for a task without an agent definition that has a template.
fn task_section(task: &Task) -> String {
    let mut text = format!("# Task {}: {}\n\n", task.id, task.title);
    let _ = writeln!(text, "Phase: {}", task.phase);
    if task.complexity > 0 {
        let _ = writeln!(text, "Complexity: {}", task.complexity);
    }
    let _ = writeln!(text, "Priority: {}", task.priority);
    let parts = [
        ("Description", &task.description),
        ("Details", &task.details),
        ("Test strategy", &task.test_strategy),
    ];
    for (heading, body) in parts {
        if let Some(body) = body {
            let _ = write!(text, "\n## {heading}\n\n{}\n", body.trim_end());
        }
    }
    if !task.dependencies.is_empty() {
        text.push_str("\n## This task builds on\n\n");
    }
    for dependency in &task.dependencies {
        let title = dependency.title.as_deref().unwrap_or("not in the graph");
        let _ = match dependency.status {
            Some(status) => writeln!(text, "- {}: {title} ({status})", dependency.id),
            None => writeln!(text, "- {}: {title}", dependency.id),
        };
    }
    text
}

/// The section about how to work.
fn how_to_work(location: Location<'_>, checks: &Checks) -> String {
    let (Location::Project(dir) | Location::Clone(dir)) = location;
    let mut text = format!(
        "## How to work\n\n\
         - You are in {}, the project's directory. Change nothing outside it.\n\
         - No one will answer questions: decide, and say in your last message what you decided and why.\n",
        dir.display()
    );
    if checks.commands.is_empty() {
        text.push_str(
            "- The project defines no checks, so verify yourself that your work is right.\n",
        );
    } else {
        text.push_str("- When you are done, these commands will run, and all of them must pass:\n");
    }
    for command in &checks.commands {
        let _ = writeln!(text, "  - `{command}`");
    }
    text.push_str(match location {
        Location::Clone(_) => {
            "- Commit as you like, on top of the commit that is checked out. Don't push: the worker commits \
             what you leave in the directory, and pushes it all to a branch of its own.\n\
             - Leave .scud alone: the worker marks the task.\n"
        }
        Location::Project(_) => {
            "- Don't commit or push, and leave .scud alone: the files that you leave in the directory are the result.\n"
        }
    });
    text
}

/// A code fence that is longer than any run of backticks in the text.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}
