//! The terminal output of a dispatch: a line for each event, the live table, the status.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use console::{Style, style};
use serde::Serialize;
use serde_json::Value;

use super::decide::Decision;
use super::standing::Standing;
use super::state::{Merge, Run, State};
use crate::amounts::{bytes_in_words, dollars, possible_cost};
use crate::clock::{Millis, now};
use crate::excerpt::visible;
use crate::receiver::{Answer, Route};
use crate::scud::TaskGraph;
use crate::task::Status;
use crate::terminal::{Screen, clock_text};

/// The maximum number of runs in the live table.
const MAX_ROWS: usize = 12;
/// How many lines of the terminal are left free for events above the table.
const LINES_ABOVE: usize = 3;
/// The minimum time between two drawings. Hundreds of workers send many events in a second.
const REDRAW_INTERVAL: Duration = Duration::from_millis(250);
/// How many lines may wait for the next drawing. Further lines are printed at once.
const MAX_WAITING_LINES: usize = 10_000;

/// Prints the events of a dispatch, and draws the table.
pub struct Show<'a> {
    pub screen: &'a Screen,
    /// When this dispatcher started.
    pub start_time: Instant,
    /// The last message about a branch that could not be published.
    unpublished: Option<String>,
    /// Lines that are printed with the next drawing of the table.
    waiting_lines: RefCell<Vec<String>>,
    /// The earliest time of the next drawing.
    next_drawing: Cell<Instant>,
}

impl<'a> Show<'a> {
    pub fn new(screen: &'a Screen) -> Self {
        Self {
            screen,
            start_time: Instant::now(),
            unpublished: None,
            waiting_lines: RefCell::default(),
            next_drawing: Cell::new(Instant::now()),
        }
    }

    /// Prints a message of the dispatcher.
    pub fn print_message(&self, text: &str) {
        self.print_line(&Style::new().bold(), "dispatch", text);
    }

    /// Prints that a run is being started, or why it was not started.
    pub fn print_start(&self, run: &Run, graph: &TaskGraph) {
        let label_style = Style::new().dim();
        if let Some(fence) = &run.fence {
            return self.print_line(&label_style, &task_name(run, graph), &fence.why);
        }
        let attempt = match run.attempt {
            0 | 1 => String::new(),
            attempt => format!(", attempt {attempt}"),
        };
        let memory = run.memory.map(|memory| {
            let memory = bytes_in_words(memory);
            format!(", with {memory} of memory")
        });
        let memory = memory.unwrap_or_default();
        let what = format!("started{attempt}{memory}: run {}", run.id);
        self.print_line(&label_style, &task_name(run, graph), &what);
    }

    /// Prints an event of a worker.
    pub fn print_event(&self, route: Route, event: &Value, answer: &Answer, graph: &TaskGraph) {
        let text = |pointer| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let task = text("/task_id");
        let task = match task.split_once(':') {
            Some((phase, id)) => {
                let position = graph.position(phase, id);
                position.map_or_else(|| task.to_owned(), |task| graph.name(task))
            }
            None => task.to_owned(),
        };
        if !answer.status.is_success() {
            let label_style = Style::new().yellow().bold();
            let (code, why) = (answer.status.as_u16(), &answer.message);
            let what = format!(
                "{route} of run {} is refused ({code}): {why}",
                text("/run_id")
            );
            return self.print_line(&label_style, &task, &what);
        }
        match route {
            Route::Started => self.print_line(&Style::new().cyan().bold(), &task, "works"),
            Route::Progress => {}
            Route::Completed => {
                let message = without_branch(text("/message"), text("/result/work/branch"));
                self.print_line(&Style::new().green().bold(), &task, &message);
            }
            Route::Failed => {
                let (reason, message) = (text("/failure/reason"), text("/message"));
                self.print_line(
                    &Style::new().red().bold(),
                    &task,
                    &format!("{reason}: {message}"),
                );
            }
        }
    }

    /// Prints that a run was merged.
    pub fn print_merge(&self, run: &str, state: &State, graph: &TaskGraph) {
        let Some(run) = state.run(run) else { return };
        let Merge::Merged(commit) = &run.merge else {
            return;
        };
        let commit = commit.get(..10).unwrap_or(commit);
        self.print_line(
            &Style::new().green().bold(),
            &task_name(run, graph),
            &format!("merged: {commit}"),
        );
    }

    /// Prints why the branch could not be published, unless the last message was the same.
    pub fn print_unpublished(&mut self, why: Option<String>) {
        if let Some(why) = why
            .as_ref()
            .filter(|why| self.unpublished.as_ref() != Some(why))
        {
            self.print_message(why);
        }
        self.unpublished = why;
    }

    /// The time of the next drawing; `None` if no line waits for it.
    pub fn next_drawing(&self) -> Option<Instant> {
        let is_waiting = !self.waiting_lines.borrow().is_empty();
        is_waiting.then(|| self.next_drawing.get())
    }

    /// Prints the lines that wait for the next drawing.
    pub fn flush(&self) {
        self.screen.lines(&self.waiting_lines.take());
    }

    /// Prints the waiting lines and draws the live table if [`REDRAW_INTERVAL`] has passed since the last drawing. Does
    /// nothing if there is no terminal.
    pub fn draw(&self, state: &State, graph: &TaskGraph, decision: &Decision) {
        if !self.screen.is_live() || Instant::now() < self.next_drawing.get() {
            return;
        }
        self.next_drawing.set(Instant::now() + REDRAW_INTERVAL);
        self.flush();
        let rows = Screen::height().saturating_sub(LINES_ABOVE);
        let max_rows = rows.saturating_sub(2).min(MAX_ROWS);
        let mut lines = Vec::new();
        let running = state.live_runs().filter(|run| run.handle.is_some());
        let running: Vec<&Run> = running.collect();
        for run in running.iter().take(max_rows) {
            lines.push(live_row(run, graph));
        }
        if running.len() > max_rows {
            lines.push(format!("… and {} more runs", running.len() - max_rows));
        }
        lines.push(self.totals(state, graph, decision));
        self.screen.set_table(&lines);
    }

    /// The last row of the table: counts of tasks by their standing, and the cost. The subtasks of a split task count,
    /// but the task itself does not.
    fn totals(&self, state: &State, graph: &TaskGraph, decision: &Decision) -> String {
        let count = |word: &str| {
            let tasks = graph.tasks.iter().zip(&decision.standings);
            let tasks = tasks.filter(|(task, _)| task.status != Status::Expanded);
            tasks
                .filter(|(_, standing)| standing.word() == word)
                .count()
        };
        let mut parts = vec![clock_text(self.start_time.elapsed())];
        for word in [
            "done",
            "merging",
            "working",
            "launching",
            "ready",
            "waiting",
            "cooling",
            "blocked",
            "skipped",
        ] {
            match count(word) {
                0 => {}
                number => parts.push(format!("{number} {word}")),
            }
        }
        let chain = graph.critical_path().len();
        if chain > 0 {
            parts.push(format!("longest chain {chain}"));
        }
        let cost = state.cost_usd;
        if cost > 0.0 {
            parts.push(dollars(cost));
        }
        if let Some(why) = &decision.halt_reason {
            parts.push(format!("nothing new starts: {why}"));
        }
        if decision.waits_for_merges {
            parts.push("nothing new starts until finished work is merged".to_owned());
        }
        parts.join(" · ")
    }

    /// Prints one line: the time, a label, and the first line of the text.
    fn print_line(&self, label_style: &Style, label: &str, text: &str) {
        let elapsed = format!("{:>8.3}s", self.start_time.elapsed().as_secs_f64());
        let label = label_style
            .clone()
            .for_stderr()
            .apply_to(format!("{label:<10}"));
        let elapsed = style(elapsed).for_stderr().dim();
        // The text may come from an agent and contain control characters.
        let first_line = visible(text.lines().next().unwrap_or_default());
        let line = format!("{elapsed} {label} {first_line}");
        let mut waiting = self.waiting_lines.borrow_mut();
        if self.screen.is_live() && waiting.len() < MAX_WAITING_LINES {
            waiting.push(line);
        } else {
            waiting.push(line);
            self.screen.lines(&waiting);
            waiting.clear();
        }
    }
}

/// The message of a completed run without the name of its branch, which would need a second line of the terminal. The
/// message ends with the branch in parentheses, sometimes with further text after a comma or a semicolon.
fn without_branch(message: &str, branch: &str) -> String {
    let Some((beginning, rest)) = message.rsplit_once(&format!(" (on branch {branch}")) else {
        return message.to_owned();
    };
    if rest == ")" {
        return beginning.to_owned();
    }
    match rest.strip_prefix("; ").or_else(|| rest.strip_prefix(", ")) {
        Some(more) => format!("{beginning} ({more}"),
        None => message.to_owned(),
    }
}

/// The id of the task of a run, without its phase if that is unambiguous.
fn task_name(run: &Run, graph: &TaskGraph) -> String {
    let Some(task) = &run.task else {
        return "checks".to_owned();
    };
    let position = task
        .split_once(':')
        .and_then(|(phase, id)| graph.position(phase, id));
    position.map_or_else(|| task.clone(), |task| graph.name(task))
}

/// The row of a run: task, state, attempt, time, phase of the worker, turns, tokens, cost, last activity.
fn live_row(run: &Run, graph: &TaskGraph) -> String {
    let state = if run.grant.is_some() {
        "working"
    } else {
        "launching"
    };
    let elapsed = duration_of(now() - run.intended_at);
    let mut parts = vec![format!(
        "{:<8} {state:<9} #{} {:>6}",
        task_name(run, graph),
        run.attempt,
        clock_text(elapsed)
    )];
    let progress = run.progress.as_ref();
    let text = |pointer| progress.and_then(|progress| progress.pointer(pointer)?.as_str());
    let number = |pointer| progress.and_then(|progress| progress.pointer(pointer)?.as_u64());
    parts.extend(text("/phase").map(str::to_owned));
    parts.extend(number("/turns").map(|turns| format!("{turns} turns")));
    let input = number("/usage/input_tokens").unwrap_or_default();
    let tokens = input.saturating_add(number("/usage/output_tokens").unwrap_or_default());
    parts.extend((tokens > 0).then(|| format!("{tokens} tokens")));
    let cost = progress.and_then(|progress| progress.get("cost_usd")?.as_f64());
    let cost = cost.and_then(possible_cost).filter(|cost| *cost > 0.0);
    parts.extend(cost.map(dollars));
    parts.extend(text("/activity").map(str::to_owned));
    parts.join(" · ")
}

/// A number of milliseconds as a duration; a negative number becomes zero.
fn duration_of(millis: Millis) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// A row of `dispatch status`: one task. With `--json`, the names of the fields are those of the output.
#[derive(Debug, Serialize)]
pub struct StatusRow {
    id: String,
    phase: String,
    title: String,
    standing: &'static str,
    /// Why the task is blocked.
    why: Option<String>,
    /// The time until the next attempt in milliseconds, if the task pauses before it.
    next_attempt_ms: Option<Millis>,
    /// The number of runs of the task.
    attempts: usize,
}

/// The standing of each task of the dispatch.
pub fn status_rows(state: &State, graph: &TaskGraph, standings: &[Standing]) -> Vec<StatusRow> {
    let rows = standings.iter().enumerate();
    let rows = rows.filter(|(_, standing)| **standing != Standing::Outside);
    let rows = rows.map(|(task, standing)| StatusRow {
        id: graph.name(task),
        phase: graph.tasks[task].phase.clone(),
        title: graph.tasks[task].title.clone(),
        standing: standing.word(),
        why: match standing {
            Standing::Blocked(why) => Some(why.clone()),
            _ => None,
        },
        next_attempt_ms: match standing {
            Standing::Cooling { until } => Some((until - now()).max(0)),
            _ => None,
        },
        attempts: state.runs_of(&graph.tasks[task].key).count(),
    });
    rows.collect()
}

/// One line with the standing of each task.
pub fn status_text(rows: &[StatusRow]) -> String {
    if rows.is_empty() {
        return "there are no tasks\n".to_owned();
    }
    let mut text = String::new();
    for row in rows {
        let _ = write!(text, "{:<9} {:<8} {}", row.standing, row.id, row.title);
        if let Some(why) = &row.why {
            let _ = write!(text, " ({})", why.lines().next().unwrap_or_default());
        }
        if let Some(left) = row.next_attempt_ms {
            let _ = write!(text, " (next attempt in {})", clock_text(duration_of(left)));
        }
        if row.attempts > 1 {
            let _ = write!(text, " [{} attempts]", row.attempts);
        }
        text.push('\n');
    }
    text
}
