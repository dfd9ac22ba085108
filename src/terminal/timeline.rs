//! A worker's events, log lines and status, as a person reads them.
//!
//! Only shows them; the receiver has already verified the events.

use std::time::{Duration, Instant};

use console::{Style, style};

use super::clock::clock;
use super::screen::Screen;
use crate::receiver::Received;

/// How often the status line is drawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// The timeline of one worker.
#[derive(Debug)]
pub struct Timeline<'a> {
    screen: &'a Screen,
    began: Instant,
    /// The message of the last heartbeat.
    last_message: String,
}

impl<'a> Timeline<'a> {
    pub fn begin(screen: &'a Screen) -> Self {
        Self {
            screen,
            began: Instant::now(),
            last_message: "starting".to_owned(),
        }
    }

    /// Shows one line with its source.
    pub fn say(&self, source: &str, text: &str) {
        self.row(&Style::new().bold(), source, text);
    }

    /// Shows a callback.
    pub fn event(&mut self, received: &Received) {
        let route = received.text("/event").trim_start_matches("task.");
        let style = match route {
            "completed" => Style::new().green().bold(),
            "failed" => Style::new().red().bold(),
            _ => Style::new().cyan().bold(),
        };
        let mut text = format!(
            "{}: {}",
            received.text("/task_id"),
            received.text("/message")
        );
        match route {
            "started" => {
                let (run, host) = (received.text("/run_id"), received.text("/worker/hostname"));
                text = format!("{}: run {run} on {host}", received.text("/task_id"));
            }
            "progress" => {
                let sequence = received.number("/sequence").unwrap_or_default();
                self.last_message = format!("{} · heartbeat {sequence}", received.text("/message"));
                self.draw();
            }
            "failed" => text = format!("{text} [{}]", received.text("/failure/reason")),
            _ => {}
        }
        if received.repeated {
            text.push_str(" (again)");
        }
        self.row(&style, &format!("POST /{route}"), &text);
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
        self.screen.set_status(&format!(
            "{} · {}",
            clock(self.began.elapsed()),
            self.last_message
        ));
    }

    fn row(&self, look: &Style, source: &str, text: &str) {
        let elapsed = format!("{:>8.3}s", self.began.elapsed().as_secs_f64());
        let source = look.clone().for_stderr().apply_to(format!("{source:<16}"));
        self.screen.line(&format!(
            "{} {source} {text}",
            style(elapsed).for_stderr().dim()
        ));
    }
}
