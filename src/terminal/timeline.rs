//! The life of a worker as a person reads it: events, log lines, a status line.
//!
//! Only shows; what is right and wrong about an event was found out before.

use std::time::{Duration, Instant};

use console::{Style, style};

use super::clock::clock;
use super::screen::Screen;
use crate::receiver::Received;

const REDRAW: Duration = Duration::from_millis(200);

/// What has been shown so far.
#[derive(Debug)]
pub struct Timeline<'a> {
    screen: &'a Screen,
    began: Instant,
    /// What the last heartbeat said.
    last: String,
}

impl<'a> Timeline<'a> {
    pub fn begin(screen: &'a Screen) -> Self {
        Self {
            screen,
            began: Instant::now(),
            last: "starting".to_owned(),
        }
    }

    /// Something that happened, and who says so.
    pub fn say(&self, who: &str, what: &str) {
        self.row(&Style::new().bold(), who, what);
    }

    /// A callback that arrived.
    pub fn event(&mut self, heard: &Received) {
        let route = heard.text("/event").trim_start_matches("task.");
        let look = match route {
            "completed" => Style::new().green().bold(),
            "failed" => Style::new().red().bold(),
            _ => Style::new().cyan().bold(),
        };
        let mut what = format!("{}: {}", heard.text("/task_id"), heard.text("/message"));
        match route {
            "started" => {
                let (run, host) = (heard.text("/run_id"), heard.text("/worker/hostname"));
                what = format!("{}: run {run} on {host}", heard.text("/task_id"));
            }
            "progress" => {
                let sequence = heard.number("/sequence").unwrap_or_default();
                self.last = format!("{} · heartbeat {sequence}", heard.text("/message"));
                self.draw();
            }
            "failed" => what = format!("{what} [{}]", heard.text("/failure/reason")),
            _ => {}
        }
        if heard.repeated {
            what.push_str(" (again)");
        }
        self.row(&look, &format!("POST /{route}"), &what);
        for problem in &heard.problems {
            self.row(&Style::new().red().bold(), "protocol", problem);
        }
    }

    /// A line of the worker's log.
    pub fn log(&self, line: &str) {
        self.screen
            .line(&format!("  {} {line}", style("│").for_stderr().dim()));
    }

    /// A line of the worker's standard output.
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

    /// The worker has ended.
    pub fn end(&self, code: Option<i32>) {
        self.screen.clear();
        let code = code.map_or("no exit code, killed by a signal".to_owned(), |code| {
            format!("exit code {code}")
        });
        self.say("worker", &format!("ended with {code}"));
    }

    /// Redraws the status line after a while.
    pub async fn tick(&self) {
        tokio::time::sleep(REDRAW).await;
        self.draw();
    }

    fn draw(&self) {
        self.screen
            .status(&format!("{} · {}", clock(self.began.elapsed()), self.last));
    }

    fn row(&self, look: &Style, who: &str, what: &str) {
        let elapsed = format!("{:>8.3}s", self.began.elapsed().as_secs_f64());
        let who = look.clone().for_stderr().apply_to(format!("{who:<16}"));
        self.screen.line(&format!(
            "{} {who} {what}",
            style(elapsed).for_stderr().dim()
        ));
    }
}
