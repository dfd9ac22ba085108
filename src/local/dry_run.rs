//! `local --dry-run`: shows the prompt and the agent's command line, and starts nothing.

use std::fmt::Write as _;

use eyre::eyre;
use serde_json::json;

use super::settings::{Project, repository_of};
use crate::descartes_toml::FILE_NAME;
use crate::redact::Redactor;
use crate::runner;
use crate::runner::dry_run::{FirstRound, Key, Workplace, first_round};
use crate::runner::project_settings::FileSource;
use crate::task_list;
use crate::terminal::{Format, print_object};

/// The settings of `local --dry-run`.
#[derive(Debug)]
pub struct DryRun {
    pub project: Project,
    pub runner: runner::Settings,
    pub format: Format,
}

/// Prints the prompt, the command and the checks of the first round.
///
/// # Errors
/// If the run would fail before its agent starts.
pub async fn dry_run(settings: &DryRun, redactor: &Redactor) -> eyre::Result<()> {
    let (dir, workplace) = match &settings.project {
        Project::InPlace(dir) => (dir, Workplace::Project),
        Project::Committed(dir) => {
            repository_of(dir)?;
            (dir, Workplace::Clone)
        }
        Project::Cloned { url, .. } => {
            return Err(eyre!(
                "--dry-run cannot read the task in {url} without cloning it; clone it, and name its directory with --project"
            ));
        }
    };
    task_list::require_graph(dir)?;
    let round = first_round(&settings.runner, dir, workplace, redactor).await;
    let round = round.map_err(|failure| eyre!(failure.message_with_causes()))?;
    match settings.format {
        Format::Lines => task_list::print(&redactor.mask(&format_text(&round))),
        Format::Json => Ok(print_object("dry_run", json_fields(&round), redactor)?),
    }
}

fn command_line(round: &FirstRound) -> String {
    let words = round.command.iter().map(String::as_str);
    // Only a NUL character cannot be quoted, and no program has one in its arguments.
    shlex::try_join(words).unwrap_or_else(|_| round.command.join(" "))
}

fn format_text(round: &FirstRound) -> String {
    let FirstRound { task, .. } = round;
    let mut text = format!(
        "task      {} of phase {}: {}\nagent     {}",
        task.id, task.phase, task.title, round.agent
    );
    if let Some(model) = &round.model {
        let _ = write!(text, ", {model}");
    }
    if round.key == Key::Missing {
        text.push_str(" (a run would fail: set ANTHROPIC_API_KEY, or another agent)");
    }
    let _ = writeln!(text, "\ndirectory {}", round.dir.display());
    let _ = writeln!(text, "command   {}", command_line(round));
    let checks = match round.checks.as_slice() {
        [] => "none".to_owned(),
        checks => checks.join("\n          "),
    };
    let _ = writeln!(text, "checks    {checks}");
    for (number, source) in round.from_project.iter().enumerate() {
        let FileSource {
            variable,
            value,
            line,
        } = source;
        let head = if number == 0 { "settings" } else { "" };
        let _ = writeln!(
            text,
            "{head:10}{variable} = {value:?}, by {FILE_NAME}, line {line}"
        );
    }
    if round.workplace == Workplace::Clone {
        text.push_str(
            "note      this is read from the work tree; a run with --commit reads the last commit\n",
        );
    }
    text.push_str("\nThe prompt, on the standard input of the command:\n\n");
    text.push_str(&round.prompt);
    text
}

/// The fields of the object that `--json` prints.
fn json_fields(round: &FirstRound) -> serde_json::Value {
    json!({
        "task": round.task.id,
        "phase": round.task.phase,
        "title": round.task.title,
        "agent": round.agent,
        "model": round.model,
        "is_key_missing": round.key == Key::Missing,
        "directory": round.dir,
        "command": round.command,
        "command_line": command_line(round),
        "checks": round.checks,
        "settings_of_project": round.from_project,
        "prompt": round.prompt,
    })
}
