//! Shows a worker's events, log lines and status to people.
//!
//! Does not check the events: `receiver` has checked them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use console::{Style, style};
use serde_json::json;

use super::clock::clock_text;
use super::json_lines::JsonLines;
use super::log_line::{self, Level};
use super::markdown::Markdown;
use super::screen::Screen;
use crate::excerpt::visible;
use crate::receiver::{Notice, ReceivedEvent};
use crate::result_line;

/// How often the status line is drawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// The beginning of the lines in a worker's log that show texts of its agent.
const AGENT_PREFIX: &str = "agent: ";

/// The timeline of one worker, or of all workers of an orchestrator. Also prints the objects of `--json`.
#[derive(Debug)]
pub struct Timeline<'a> {
    screen: &'a Screen,
    json: JsonLines,
    started_at: Instant,
    runs: Runs,
    heartbeats: Heartbeats,
    markdown: Markdown,
}

/// Decides which heartbeats get a line: only those whose text differs from the last one of their run.
#[derive(Debug)]
struct Heartbeats {
    content: HeartbeatContent,
    /// The last text that was shown, for each run id.
    last_texts: BTreeMap<String, String>,
}

/// Whether an orchestrator verifies signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    Required,
    NotChecked,
}

/// The part of a heartbeat that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatContent {
    /// The phase and the activity.
    Message,
    /// Only the phase: the worker's log is shown too, and contains the activity.
    Phase,
}

/// The runs that have a task, for the status line.
#[derive(Debug)]
struct Runs {
    /// Shown while no run has a task.
    idle_status: &'static str,
    /// The status line for each run id, from the run's last heartbeat. Finished runs and runs without a lease are
    /// removed.
    active_runs: BTreeMap<String, String>,
    /// The id of the run that sent the last event.
    last_run_id: String,
}

impl Runs {
    /// Updates the status lines after an event.
    fn update(&mut self, received: &ReceivedEvent) {
        let (run_id, task_id) = (received.text("/run_id"), received.text("/task_id"));
        match received.route.word() {
            "started" if received.answer.status.is_success() => {
                self.active_runs
                    .insert(run_id.to_owned(), format!("{task_id}: started"));
            }
            // The worker of a cancelled or finished run sends no further heartbeats.
            "progress" if !received.answer.status.is_client_error() => {
                let sequence = received.number("/sequence").unwrap_or_default();
                let message = received.text("/message");
                let status = format!("{task_id}: {message} · heartbeat {sequence}");
                self.active_runs.insert(run_id.to_owned(), status);
            }
            "completed" | "failed" if received.answer.ends_delivery() => {
                self.active_runs.remove(run_id);
            }
            _ => {}
        }
        self.last_run_id = run_id.to_owned();
    }

    /// The text of the status line.
    fn status(&self) -> String {
        let last = self
            .active_runs
            .get(&self.last_run_id)
            .or_else(|| self.active_runs.values().next());
        match (last, self.active_runs.len()) {
            (None, _) => self.idle_status.to_owned(),
            (Some(last), 1) => last.clone(),
            (Some(last), count) => format!("{count} runs · {last}"),
        }
    }
}

impl Heartbeats {
    /// The text for a heartbeat; `None` if the last line of its run has the same one.
    fn new_text(&mut self, received: &ReceivedEvent) -> Option<String> {
        let text = match self.content {
            HeartbeatContent::Message => received.text("/message"),
            HeartbeatContent::Phase => received.text("/progress/phase"),
        };
        let run_id = received.text("/run_id");
        if self.last_texts.get(run_id).is_some_and(|last| last == text) {
            return None;
        }
        self.last_texts.insert(run_id.to_owned(), text.to_owned());
        Some(text.to_owned())
    }
}

impl<'a> Timeline<'a> {
    /// A timeline that begins now.
    pub fn begin(screen: &'a Screen, json: JsonLines, content: HeartbeatContent) -> Self {
        Self {
            screen,
            json,
            heartbeats: Heartbeats {
                content,
                last_texts: BTreeMap::new(),
            },
            markdown: Markdown::default(),
            started_at: Instant::now(),
            runs: Runs {
                idle_status: "starting",
                active_runs: BTreeMap::new(),
                last_run_id: String::new(),
            },
        }
    }

    /// From now on, the status line says "waiting for workers" while no run has a task.
    pub fn wait_for_workers(&mut self) {
        self.runs.idle_status = "waiting for workers";
        self.draw();
    }

    /// Shows the URL at which the orchestrator listens.
    pub fn show_url(&self, url: &str, signatures: Signatures) {
        let word = match signatures {
            Signatures::Required => "required",
            Signatures::NotChecked => "not_checked",
        };
        let fields = json!({ "url": url, "signatures": word });
        self.json.write_now("listening", fields);
        let label = Style::new().bold().for_stderr();
        let label = label.apply_to(format!("{:<16}", "orchestrator"));
        self.print_with_time(&format!(
            "{label} listens at {}",
            self.screen.link(url, url)
        ));
    }

    /// Shows a message of a process, such as `worker`.
    pub fn show_message(&self, process: &str, message: &str) {
        self.print_row(&Style::new().bold(), process, message);
    }

    /// Shows a notice of the orchestrator.
    pub fn show_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Event(received) => {
                self.json.write_now("event", event_fields(received));
                self.show_event(received);
            }
            Notice::Refused { path, why } => {
                let fields = json!({ "path": path, "why": why });
                self.json.write_now("refused", fields);
                self.print_row(
                    &Style::new().red().bold(),
                    "refused",
                    &format!("{path}: {why}"),
                );
            }
            Notice::LeaseOver {
                task_id,
                run_id,
                silence,
            } => {
                self.json.write_now(
                    "lease_over",
                    json!({
                        "task_id": task_id,
                        "run_id": run_id,
                        "silence_ms": u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
                    }),
                );
                self.runs.active_runs.remove(run_id);
                self.heartbeats.last_texts.remove(run_id);
                self.draw();
                let row_text = format!(
                    "{task_id}: run {run_id} has been silent for {}, its lease is over",
                    clock_text(*silence)
                );
                self.print_row(&Style::new().yellow().bold(), "lease", &row_text);
            }
        }
        self.draw();
    }

    /// Shows an event that arrived, and the answer unless it is the usual one.
    fn show_event(&mut self, received: &ReceivedEvent) {
        self.runs.update(received);
        // Drawn before the row: otherwise the old status line would appear below it.
        self.draw();
        let route = received.route.word();
        let (task_id, message) = (received.text("/task_id"), received.text("/message"));
        let answer = &received.answer;
        let row_style = match route {
            _ if !answer.status.is_success() => Style::new().yellow().bold(),
            "completed" => Style::new().green().bold(),
            "failed" => Style::new().red().bold(),
            _ => Style::new().cyan().bold(),
        };
        let mut row_text = format!("{task_id}: {message}");
        if received.route.is_terminal() {
            self.heartbeats.last_texts.remove(received.text("/run_id"));
        }
        match route {
            "started" => {
                let (run, host) = (received.text("/run_id"), received.text("/worker/hostname"));
                row_text = format!("{task_id}: run {run} on {host}");
            }
            "failed" => row_text = format!("{row_text} [{}]", received.text("/failure/reason")),
            "progress" => {
                let text = self.heartbeats.new_text(received);
                let is_usual = answer.status.is_success() && !answer.cancels;
                if !answer.status.is_success() {
                    // A run whose events are rejected may never send its last event, which would remove the text.
                    self.heartbeats.last_texts.remove(received.text("/run_id"));
                }
                match text {
                    Some(text) => row_text = format!("{task_id}: {text}"),
                    None if is_usual && !received.is_repeated && received.problems.is_empty() => {
                        return;
                    }
                    None => {}
                }
            }
            _ => {}
        }
        if received.is_repeated {
            row_text.push_str(" (again)");
        }
        if answer.cancels {
            row_text = format!("{row_text} → cancelled: {}", answer.message);
        } else if !answer.status.is_success() {
            let code = answer.status.as_u16();
            let word = match (route, code) {
                ("started", 409 | 410) => "refused",
                _ => "answered",
            };
            row_text = format!("{row_text} → {word} ({code}): {}", answer.message);
        }
        self.print_row(&row_style, &format!("POST /{route}"), &row_text);
        for problem in &received.problems {
            self.print_row(&Style::new().red().bold(), "protocol", problem);
        }
    }

    /// Shows a line of the worker's log.
    pub fn show_log_line(&mut self, line: &str) {
        let (level, text) = log_line::parse(line);
        let word = level.map(Level::word);
        self.json
            .write_now("log", json!({ "level": word, "line": text }));
        let bar = style("│").for_stderr().dim();
        let text = visible(text);
        let text = match text.split_once(AGENT_PREFIX) {
            Some(("", agent_text)) if self.screen.is_live() => {
                format!("{AGENT_PREFIX}{}", self.markdown.style_line(agent_text))
            }
            _ => text,
        };
        let Some(level) = level else {
            return self.print_with_time(&format!("{bar} {text}"));
        };
        let label = format!("{:<5}", level.label());
        let label = level_style(level).for_stderr().apply_to(label);
        self.print_with_time(&format!("{bar} {label} {text}"));
    }

    /// Shows a line of the worker's standard output.
    pub fn show_output_line(&self, line: &str) {
        let label_style = Style::new().bold();
        if let Some(json) = result_line::json_of(line) {
            let size = json.len();
            let text = format!("descartes-result, {size} bytes of JSON");
            return self.print_row(&label_style, "stdout", &text);
        }
        self.json.write_now("output", json!({ "line": line }));
        self.print_row(&label_style, "stdout", line);
    }

    /// Shows the end of the worker.
    pub fn show_end(&self, code: Option<i32>) {
        self.screen.clear_status();
        let code = code.map_or("no exit code, killed by a signal".to_owned(), |code| {
            format!("exit code {code}")
        });
        self.show_message("worker", &format!("ended with {code}"));
    }

    /// Waits for the next time to draw the status line, and draws it.
    pub async fn tick(&self) {
        tokio::time::sleep(REDRAW_INTERVAL).await;
        self.draw();
    }

    fn draw(&self) {
        let (elapsed, status) = (clock_text(self.started_at.elapsed()), self.runs.status());
        self.screen
            .set_status(&format!("{elapsed} · {}", visible(&status)));
    }

    /// Prints a line with the source of the text in its first column.
    fn print_row(&self, row_style: &Style, source: &str, text: &str) {
        let source = row_style
            .clone()
            .for_stderr()
            .apply_to(format!("{source:<16}"));
        // The text may come from an agent, or from anyone who sends a request.
        let text = visible(text).replace('\n', "␊");
        self.print_with_time(&format!("{source} {text}"));
    }

    /// Prints a line that begins with the time since the timeline began.
    fn print_with_time(&self, text: &str) {
        let elapsed = format!("{:>8.3}s", self.started_at.elapsed().as_secs_f64());
        let elapsed = style(elapsed).for_stderr().dim();
        self.screen.line(&format!("{elapsed} {text}"));
    }
}

fn level_style(level: Level) -> Style {
    match level {
        Level::Error => Style::new().red().bold(),
        Level::Warn => Style::new().yellow().bold(),
        Level::Info => Style::new().green(),
        Level::Debug | Level::Trace => Style::new().blue(),
    }
}

/// The fields of an event for `--json`.
fn event_fields(received: &ReceivedEvent) -> serde_json::Value {
    let answer = &received.answer;
    json!({
        "route": received.route.word(),
        "event": received.event,
        "problems": received.problems,
        "is_repeated": received.is_repeated,
        "answer": {
            "status": answer.status.as_u16(),
            "message": answer.message,
            "cancel": answer.cancels,
        },
    })
}
