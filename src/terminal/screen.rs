//! Standard error: log lines, and a status line or table if it is a terminal.
//!
//! No other module writes to standard error, so that lines never mix. All text is redacted before it
//! is written. No method of [`Screen`] waits for a slow reader, except `close` for a limited time.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use tokio::task::JoinHandle;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;

use super::clock::clock;
use super::outlet::Outlet;
use crate::model::Usage;
use crate::progress::{Progress, Transfer};
use crate::redact::Redactor;

/// The time between two drawings of the status line.
const REDRAW_INTERVAL: Duration = Duration::from_millis(120);
/// The maximum rate at which indicatif draws, in hertz. It is higher than that of [`REDRAW_INTERVAL`], so that
/// indicatif skips no drawing.
const MAX_DRAW_RATE: u8 = 20;
/// If the agent has been silent for longer, the status line says how long.
const MIN_SHOWN_SILENCE: Duration = Duration::from_secs(2);
/// How long [`Screen::close`] waits until the last lines are written.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// Which events are logged, and how.
#[derive(Debug)]
pub struct Log {
    pub filter: Targets,
    pub format: LogFormat,
    pub color: Color,
}

/// When to use colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` says otherwise; or if `CLICOLOR_FORCE` says so.
    Auto,
    Always,
    Never,
}

impl Color {
    /// Makes this the choice for everything that is printed with styles.
    fn choose(self) {
        let always = match self {
            Self::Auto => return,
            Self::Always => true,
            Self::Never => false,
        };
        console::set_colors_enabled(always);
        console::set_colors_enabled_stderr(always);
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `Pretty` on a terminal, otherwise `Json`.
    Auto,
    Pretty,
    Json,
}

/// Standard error, shared by the log and the status line; cheap to clone.
#[derive(Debug, Clone)]
pub struct Screen {
    redactor: Redactor,
    outlet: Outlet,
    bar: ProgressBar,
}

impl Screen {
    /// Starts logging to standard error.
    pub fn open(log: &Log, redactor: Redactor) -> Self {
        log.color.choose();
        let terminal = io::stderr().is_terminal();
        let outlet = Outlet::new(io::stderr());
        let target = if terminal {
            let terminal = Terminal::new(outlet.clone());
            ProgressDrawTarget::term_like_with_hz(Box::new(terminal), MAX_DRAW_RATE)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(
            ProgressStyle::with_template("{spinner} {wide_msg}").expect("a valid template"),
        );
        let screen = Self {
            redactor,
            outlet,
            bar,
        };
        let registry = tracing_subscriber::registry().with(log.filter.clone());
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(screen.clone())
            .with_span_events(FmtSpan::NONE);
        let json = match log.format {
            LogFormat::Auto => !terminal,
            LogFormat::Pretty => false,
            LogFormat::Json => true,
        };
        if json {
            registry
                .with(layer.json().flatten_event(true).with_ansi(false))
                .init();
        } else {
            registry
                .with(
                    layer
                        .with_ansi(console::colors_enabled_stderr())
                        .with_target(false)
                        .with_timer(SinceStart(Instant::now())),
                )
                .init();
        }
        screen
    }

    /// Prints one line above the status line.
    pub fn line(&self, line: &str) {
        let line = self.redactor.text(line);
        self.write(format!("{line}\n").as_bytes());
    }

    /// Prints several lines above the status line. Draws the status line only once.
    pub fn lines(&self, lines: &[String]) {
        if !lines.is_empty() {
            self.line(&lines.join("\n"));
        }
    }

    /// Sets the status line; does nothing without a terminal.
    pub fn set_status(&self, status: &str) {
        self.bar.set_message(self.redactor.text(status));
        self.bar.tick();
    }

    /// Whether standard error is a terminal, so that the status line is shown.
    pub fn is_live(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// How many lines the terminal has.
    pub fn height() -> usize {
        usize::from(console::Term::stderr().size().0)
    }

    /// Sets several lines as the status, each cut to the width of the terminal.
    pub fn set_table(&self, lines: &[String]) {
        let width = usize::from(console::Term::stderr().size().1).max(20);
        let lines = lines.iter().map(|line| {
            let line = self.redactor.text(line);
            // Control characters could move the cursor.
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            console::truncate_str(&line, width - 1, "…").into_owned()
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        self.bar
            .set_style(ProgressStyle::with_template("{msg}").expect("a valid template"));
        self.bar.set_message(text);
        self.bar.tick();
    }

    /// Removes the status line.
    pub fn clear_status(&self) {
        self.bar.finish_and_clear();
    }

    /// Shows a run's progress in the status line until the returned guard is dropped.
    pub fn show_progress(&self, progress: &Progress) -> StatusLine {
        let (screen, progress) = (self.clone(), progress.clone());
        let drawing = (!self.bar.is_hidden()).then(|| {
            tokio::spawn(async move {
                loop {
                    screen.set_status(&status_text(&progress));
                    tokio::time::sleep(REDRAW_INTERVAL).await;
                }
            })
        });
        StatusLine {
            drawing,
            screen: self.clone(),
        }
    }

    /// Removes the status line, and waits up to [`LAST_LINES_TIMEOUT`] until all lines are written.
    pub fn close(&self) {
        self.clear_status();
        // Ignore a failed write: there is no other place to report it.
        self.outlet.drain(LAST_LINES_TIMEOUT);
    }

    fn write(&self, bytes: &[u8]) {
        self.bar.suspend(|| self.outlet.write(bytes));
    }
}

/// The terminal to which indicatif draws. Each drawing is collected and written in one piece. It is skipped if the
/// terminal does not accept output at the moment.
#[derive(Debug)]
struct Terminal {
    outlet: Outlet,
    /// What indicatif has drawn since the last flush.
    drawn: Mutex<String>,
}

impl Terminal {
    fn new(outlet: Outlet) -> Self {
        Self {
            outlet,
            drawn: Mutex::default(),
        }
    }

    fn draw(&self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.write_fmt(text).map_err(io::Error::other)
    }

    /// Moves the cursor by a number of cells; `direction` is the final letter of the escape sequence.
    fn cursor(&self, cells: usize, direction: char) -> io::Result<()> {
        match cells {
            0 => Ok(()),
            cells => self.draw(format_args!("\x1b[{cells}{direction}")),
        }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        console::Term::stderr().size().1
    }

    fn height(&self) -> u16 {
        console::Term::stderr().size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.draw(format_args!("{s}\n"))
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.draw(format_args!("{s}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let drawn = std::mem::take(&mut *drawn);
        if !self.outlet.is_stuck() {
            self.outlet.write(drawn.as_bytes());
        }
        Ok(())
    }
}

/// Timestamps in seconds since the start of the worker.
struct SinceStart(Instant);

impl FormatTime for SinceStart {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:>8.3}s", self.0.elapsed().as_secs_f64())
    }
}

/// Removes the status line when it is dropped.
#[derive(Debug)]
pub struct StatusLine {
    drawing: Option<JoinHandle<()>>,
    screen: Screen,
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if let Some(drawing) = &self.drawing {
            drawing.abort();
        }
        self.screen.clear_status();
    }
}

/// Prints an error before a [`Screen`] exists.
pub fn print_error(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The text of the status line.
fn status_text(progress: &Progress) -> String {
    let now = progress.snapshot();
    let mut parts = vec![
        clock(now.elapsed),
        now.phase.to_string(),
        format!("{} out", HumanBytes(now.output_bytes)),
    ];
    let counted = [(now.spent.turns, "turns"), (now.spent.tool_calls, "tools")];
    let counted = counted
        .into_iter()
        .filter_map(|(count, unit)| Some((count?, unit)));
    parts.extend(counted.map(|(count, unit)| format!("{count} {unit}")));
    let usage = now.spent.usage.map(Usage::short_text);
    parts.extend(usage.map(|tokens| format!("{tokens} tokens")));
    parts.extend(now.transfer.map(transfer_text));
    if now.idle > MIN_SHOWN_SILENCE {
        parts.push(format!("silent for {}", clock(now.idle)));
    }
    parts.extend(now.activity);
    parts.join(" · ")
}

/// How far a clone or a push is.
fn transfer_text(transfer: Transfer) -> String {
    let Transfer { phase, percent, .. } = transfer;
    match transfer.bytes {
        Some(bytes) => format!("{phase}: {percent} %, {}", HumanBytes(bytes)),
        None => format!("{phase}: {percent} %"),
    }
}

/// Collects the text of one log event and writes it in one piece.
#[derive(Debug)]
pub struct LogLine<'a> {
    screen: &'a Screen,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine {
            screen: self,
            bytes: Vec::new(),
        }
    }
}

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes);
        self.screen
            .write(self.screen.redactor.text(&text).as_bytes());
    }
}
