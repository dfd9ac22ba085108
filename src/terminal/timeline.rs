//! A worker's events, log lines and status, as a person reads them.
//!
//! Checks nothing: `receiver` has already checked the events.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use console::{Style, style};

use super::clock::clock;
use super::screen::Screen;
use crate::receiver::{Notice, Received};

/// How often the status line is drawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// The timeline of one worker.
#[derive(Debug)]
pub struct Timeline<'a> {
    screen: &'a Screen,
    began: Instant,
    runs: Runs,
}

/// The runs that have a task, for the status line.
#[derive(Debug)]
struct Runs {
    /// Shown while no run has a task.
    idle_status: &'static str,
    /// For each run id, the status from its last heartbeat. Finished and dead runs are removed.
    active_runs: BTreeMap<String, String>,
    /// The run that reported last.
    last: String,
}

impl Runs {
    fn update(&mut self, received: &Received) {
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
        self.last = run_id.to_owned();
    }

    fn status(&self) -> String {
        let last = self
            .active_runs
            .get(&self.last)
            .or_else(|| self.active_runs.values().next());
        match (last, self.active_runs.len()) {
            (None, _) => self.idle_status.to_owned(),
            (Some(last), 1) => last.clone(),
            (Some(last), count) => format!("{count} runs · {last}"),
        }
    }
}

impl<'a> Timeline<'a> {
    pub fn begin(screen: &'a Screen) -> Self {
        Self {
            screen,
            began: Instant::now(),
            runs: Runs {
                idle_status: "starting",
                active_runs: BTreeMap::new(),
                last: String::new(),
            },
        }
    }

    /// From now on, the status line says that the orchestrator waits for workers, while no run has a task.
    pub fn wait_for_workers(&mut self) {
        self.runs.idle_status = "waiting for workers";
        self.draw();
    }

    /// Shows that something happened; `who` is the process that says so.
    pub fn say(&self, who: &str, what: &str) {
        self.row(&Style::new().bold(), who, what);
    }

    /// Shows what the orchestrator reports.
    pub fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Received(received) => self.show_event(received),
            Notice::Refused { path, why } => {
                self.row(
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
                self.runs.active_runs.remove(run_id);
                self.draw();
                let what = format!(
                    "{task_id}: run {run_id} has been silent for {}, its lease is over",
                    clock(*silence)
                );
                self.row(&Style::new().yellow().bold(), "lease", &what);
            }
        }
        self.draw();
    }

    /// Shows an event that arrived, and its answer if that is not the usual one.
    fn show_event(&mut self, received: &Received) {
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
        let mut what = format!("{task_id}: {message}");
        match route {
            "started" => {
                let (run, host) = (received.text("/run_id"), received.text("/worker/hostname"));
                what = format!("{task_id}: run {run} on {host}");
            }
            "failed" => what = format!("{what} [{}]", received.text("/failure/reason")),
            _ => {}
        }
        if received.is_repeated {
            what.push_str(" (again)");
        }
        if answer.cancels {
            what = format!("{what} → cancelled: {}", answer.message);
        } else if !answer.status.is_success() {
            let code = answer.status.as_u16();
            let word = match (route, code) {
                ("started", 409 | 410) => "refused",
                _ => "answered",
            };
            what = format!("{what} → {word} ({code}): {}", answer.message);
        }
        self.row(&row_style, &format!("POST /{route}"), &what);
        for problem in &received.problems {
            self.row(&Style::new().red().bold(), "protocol", problem);
        }
    }

    /// Shows a line of the worker's log.
    pub fn log(&self, line: &str) {
        self.screen
            .line(&format!("  {} {line}", style("│").for_stderr().dim()));
    }

    /// Shows a line of the worker's standard output.
    pub fn output(&self, line: &str) {
        match line.split_once(' ') {
            Some(("descartes-result", json)) => {
                self.row(
                    &Style::new().bold(),
                    "stdout",
                    &format!("descartes-result, {} bytes of JSON", json.len()),
                );
            }
            _ => self.row(&Style::new().bold(), "stdout", line),
        }
    }

    /// Shows the end of the worker.
    pub fn end(&self, code: Option<i32>) {
        self.screen.clear_status();
        let code = code.map_or("no exit code, killed by a signal".to_owned(), |code| {
            format!("exit code {code}")
        });
        self.say("worker", &format!("ended with {code}"));
    }

    /// Waits for the next time to draw the status line, and draws it.
    pub async fn tick(&self) {
        tokio::time::sleep(REDRAW_INTERVAL).await;
        self.draw();
    }

    fn draw(&self) {
        let (elapsed, status) = (clock(self.began.elapsed()), self.runs.status());
        self.screen.set_status(&format!("{elapsed} · {status}"));
    }

    fn row(&self, row_style: &Style, source: &str, text: &str) {
        let elapsed = format!("{:>8.3}s", self.began.elapsed().as_secs_f64());
        let source = row_style
            .clone()
            .for_stderr()
            .apply_to(format!("{source:<16}"));
        self.screen.line(&format!(
            "{} {source} {text}",
            style(elapsed).for_stderr().dim()
        ));
    }
}
