//! The summary at the end of `local` and `demo`: what the worker reported, and where the work is.

use std::path::Path;
use std::time::Duration;

use console::{Style, style};
use reqwest::Url;
use serde_json::{Value, json};

use super::worker_end::WorkerEnd;
use crate::amounts::{dollars, possible_cost, with_commas};
use crate::durations::in_words;
use crate::excerpt::visible;
use crate::terminal::{JsonLines, Screen};

/// The width of the column with the labels.
const LABEL_WIDTH: usize = 11;
/// How many lines of the cause are shown at most: the last ones, because the end of a check's output says most.
const MAX_CAUSE_LINES: usize = 20;
/// How many checks are shown at most.
const MAX_CHECKS: usize = 20;

/// The rows of the summary.
struct Rows(Vec<String>);

impl Rows {
    /// Adds a row.
    fn add(&mut self, label: &str, text: &str) {
        self.add_styled(&Style::new().bold(), label, text);
    }

    /// Adds a row whose label has this style.
    fn add_styled(&mut self, label_style: &Style, label: &str, text: &str) {
        let label = format!("{label:<LABEL_WIDTH$}");
        let label = label_style.clone().for_stderr().apply_to(label);
        self.0.push(format!("{label} {text}"));
    }

    /// Adds a line to the last row.
    fn add_line(&mut self, text: &str) {
        self.add("", text);
    }
}

/// Prints the summary.
pub fn show(worker_end: &WorkerEnd, screen: &Screen) {
    screen.lines(&summary_lines(worker_end, screen));
}

/// Writes the result object of `--json`. `diff` is the diff that the demo shows. Waits for the events first: a reader
/// that is too slow for them must still get the result.
pub async fn write_result(worker_end: &WorkerEnd, json: &JsonLines, diff: Option<&str>) {
    json.close().await;
    let patch = worker_end
        .patch
        .as_ref()
        .and_then(|patch| patch.as_ref().ok());
    let mut fields = json!({
        "exit_code": worker_end.exit_code(),
        "event": worker_end.event,
        "directory": worker_end.directory,
        "repository": worker_end.repository,
        "patch_file": patch,
    });
    if let Some(diff) = diff {
        fields["diff"] = diff.into();
    }
    json.write_now("result", fields);
    json.close().await;
}

/// The lines of the summary.
fn summary_lines(worker_end: &WorkerEnd, screen: &Screen) -> Vec<String> {
    let mut rows = Rows(vec![String::new()]);
    add_verdict(&mut rows, worker_end);
    if let Some(duration) = worker_end.number("/result/duration_ms") {
        rows.add("time", &in_words(Duration::from_millis(duration)));
    }
    add_agent(&mut rows, worker_end);
    let event = worker_end.event.as_ref();
    let result = event.map(|event| &event["result"]);
    // Without an agent, checks or work, a run ended before its first step.
    let has_worked = result.is_some_and(|result| {
        let has_checks = result["checks"]
            .as_array()
            .is_some_and(|checks| !checks.is_empty());
        has_checks || !result["agent"].is_null() || !result["work"].is_null()
    });
    if has_worked {
        add_checks(&mut rows, worker_end);
        add_work(&mut rows, worker_end, screen);
    }
    rows.0
}

/// Adds the outcome and, after a failure, the reason.
fn add_verdict(rows: &mut Rows, worker_end: &WorkerEnd) {
    let message = visible(worker_end.text("/message").unwrap_or_default());
    match worker_end.text("/status") {
        Some("completed") => {
            rows.add_styled(&Style::new().green().bold(), "completed", &message);
        }
        Some(_) => {
            rows.add_styled(&Style::new().red().bold(), "failed", &message);
            let reason = worker_end.text("/failure/reason").unwrap_or_default();
            let retryable = match worker_end.event.as_ref() {
                Some(event) if event["failure"]["retryable"] == true => {
                    "another attempt may succeed"
                }
                _ => "another attempt would fail too, unless something is changed",
            };
            rows.add("reason", &format!("{reason}; {retryable}"));
            add_causes(rows, worker_end.text("/failure/detail").unwrap_or_default());
        }
        None => {
            let ending = match worker_end.status.code() {
                Some(code) => format!("ended with exit code {code}"),
                None => "was killed".to_owned(),
            };
            rows.add_styled(
                &Style::new().red().bold(),
                "no result",
                &format!("the worker {ending} before it had a result; the lines above say why"),
            );
        }
    }
}

/// Adds the last lines of the cause.
fn add_causes(rows: &mut Rows, detail: &str) {
    let detail = visible(detail.trim());
    let lines: Vec<&str> = detail.lines().collect();
    let skipped = lines.len().saturating_sub(MAX_CAUSE_LINES);
    let mut label = "cause";
    if skipped > 0 {
        rows.add(label, &format!("[{skipped} lines left out]"));
        label = "";
    }
    for line in &lines[skipped..] {
        rows.add(label, line);
        label = "";
    }
}

/// Adds which agent worked, and its turns, tokens and cost.
fn add_agent(rows: &mut Rows, worker_end: &WorkerEnd) {
    let number = |field: &str| worker_end.number(&format!("/result/agent/{field}"));
    let Some(kind) = worker_end.text("/result/agent/kind") else {
        return;
    };
    let mut parts = vec![kind.to_owned()];
    parts.extend(worker_end.text("/result/agent/model").map(visible));
    parts.extend(number("turns").map(|turns| count_of(turns, "turn", "turns")));
    parts.extend(number("tool_calls").map(|calls| count_of(calls, "tool call", "tool calls")));
    rows.add("agent", &parts.join(", "));
    let tokens = [
        ("input_tokens", "in"),
        ("cache_creation_input_tokens", "written to the cache"),
        ("cache_read_input_tokens", "read from the cache"),
        ("output_tokens", "out"),
    ];
    let tokens: Vec<String> = tokens
        .into_iter()
        .filter_map(|(field, what)| {
            let count = number(&format!("usage/{field}")).filter(|count| *count > 0)?;
            Some(format!("{} {what}", with_commas(count)))
        })
        .collect();
    if !tokens.is_empty() {
        rows.add("tokens", &tokens.join(", "));
    }
    let cost = worker_end.event.as_ref();
    let cost = cost.and_then(|event| event.pointer("/result/agent/cost_usd")?.as_f64());
    if let Some(cost) = cost.and_then(possible_cost) {
        rows.add("cost", &dollars(cost));
    }
}

/// A number with its noun: "1 turn", "2 turns".
fn count_of(count: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        with_commas(count),
        if count == 1 { one } else { many }
    )
}

/// Adds the checks of the last round.
fn add_checks(rows: &mut Rows, worker_end: &WorkerEnd) {
    let event = worker_end.event.as_ref();
    let Some(checks) = event.and_then(|event| event.pointer("/result/checks")?.as_array()) else {
        return;
    };
    let mut label = "checks";
    if checks.is_empty() {
        rows.add(label, "none");
    }
    for check in checks.iter().take(MAX_CHECKS) {
        let command = check["command"].as_str().unwrap_or_default();
        let command = visible(command.lines().next().unwrap_or_default());
        let result = match check["exit_code"].as_i64() {
            Some(0) => style("passed".to_owned()).for_stderr().green(),
            Some(code) => style(format!("failed with exit code {code}"))
                .for_stderr()
                .red(),
            None => style("failed without an exit code".to_owned())
                .for_stderr()
                .red(),
        };
        let duration = Duration::from_millis(check["duration_ms"].as_u64().unwrap_or_default());
        rows.add(
            label,
            &format!("{command}: {result} ({})", in_words(duration)),
        );
        label = "";
    }
    if let Some(left @ 1..) = checks.len().checked_sub(MAX_CHECKS) {
        rows.add_line(&format!("and {left} more"));
    }
}

/// Adds how much was changed, and where the changes are.
fn add_work(rows: &mut Rows, worker_end: &WorkerEnd, screen: &Screen) {
    if let Some(dir) = &worker_end.directory {
        let link = file_link(dir, screen);
        rows.add("changes", &format!("in {link}; nothing is committed"));
        return;
    }
    let event = worker_end.event.as_ref();
    let Some(work) = event
        .map(|event| &event["result"]["work"])
        .filter(|work| !work.is_null())
    else {
        return;
    };
    rows.add("changes", &change_counts(work));
    if let Some(branch) = work["branch"].as_str() {
        let url = worker_end.repository.as_deref().unwrap_or_default();
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        let repository = match &worker_end.committed_to {
            Some(dir) => file_link(dir, screen),
            None if is_web => screen.link(url, url),
            None => url.to_owned(),
        };
        rows.add("branch", &format!("{} of {repository}", visible(branch)));
        if worker_end.committed_to.is_some() && worker_end.text("/status") == Some("completed") {
            rows.add(
                "next",
                &format!("git merge {}", quote_for_shell(&visible(branch))),
            );
        }
    }
    match &worker_end.patch {
        Some(Ok(path)) => {
            rows.add("patch", &file_link(path, screen));
            let path = path.display().to_string();
            rows.add_line(&format!(
                "apply it with: git apply {}",
                quote_for_shell(&path)
            ));
        }
        Some(Err(why)) => rows.add("patch", &format!("could not be saved: {why}")),
        None if work["patch_truncated"] == true && work["pushed"] != true => {
            rows.add("patch", "left out, because it is too large for the result");
        }
        None => {}
    }
}

/// How many files and lines were changed.
fn change_counts(work: &Value) -> String {
    let number = |field: &str| work[field].as_u64().unwrap_or_default();
    match number("files_changed") {
        0 => "none".to_owned(),
        files => format!(
            "{}, {} and {}",
            count_of(files, "file", "files"),
            count_of(number("insertions"), "line added", "lines added"),
            count_of(number("deletions"), "removed", "removed")
        ),
    }
}

/// The path as a link to the file.
fn file_link(path: &Path, screen: &Screen) -> String {
    let shown = visible(&path.display().to_string());
    let absolute = std::path::absolute(path).ok();
    match absolute.and_then(|path| Url::from_file_path(path).ok()) {
        Some(url) => screen.link(&shown, url.as_str()),
        None => shown,
    }
}

/// The text as one word of a shell.
fn quote_for_shell(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), Into::into)
}
