//! Standard error: log lines, and a status line or table if it is a terminal.
//!
//! No other module writes to standard error, so that lines never mix. Secrets in all text are masked before
//! it is written. No method of [`Screen`] waits for a slow reader, except [`Screen::close`], which has a time limit.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;

use super::clock::clock_text;
use super::live_area::{LiveArea, Size};
use super::no_spans::NoSpans;
use super::output_queue::OutputQueue;
use crate::amounts::bytes_in_words;
use crate::model::Usage;
use crate::progress::{Progress, Transfer};
use crate::redact::Redactor;

/// The time between two drawings of the status line.
const REDRAW_INTERVAL: Duration = Duration::from_millis(120);
/// The characters before the status line. Each drawing shows the next one, so that people see that the program works.
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// If the agent has been silent for longer, the status line says how long.
const MIN_SHOWN_SILENCE: Duration = Duration::from_secs(2);
/// How long [`Screen::close`] waits until the last lines are written.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// Which events are logged, and how.
#[derive(Debug)]
pub struct LogSettings {
    pub filter: Targets,
    pub format: LogFormat,
    pub color: ColorChoice,
}

/// When to use colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorChoice {
    /// Colors on a terminal unless `NO_COLOR` is set, and everywhere if `CLICOLOR_FORCE` is set.
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Applies this choice to everything that is printed with styles.
    fn apply(self) {
        let is_enabled = match self {
            Self::Auto => return,
            Self::Always => true,
            Self::Never => false,
        };
        console::set_colors_enabled(is_enabled);
        console::set_colors_enabled_stderr(is_enabled);
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
    output: OutputQueue,
    /// `None` if standard error is not a terminal.
    live_area: Option<LiveArea>,
    /// How many times the status line was set. Chooses the character of [`SPINNER`].
    status_count: Arc<AtomicUsize>,
}

impl Screen {
    /// Starts logging to standard error.
    pub fn open(log: &LogSettings, redactor: Redactor) -> Self {
        log.color.apply();
        let is_terminal = io::stderr().is_terminal();
        let output = OutputQueue::new(io::stderr());
        let live_area = is_terminal.then(|| LiveArea::new(output.clone()));
        let screen = Self {
            redactor,
            output,
            live_area,
            status_count: Arc::default(),
        };
        let filtered = NoSpans.with(log.filter.clone());
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(screen.clone())
            .with_span_events(FmtSpan::NONE);
        let is_json = match log.format {
            LogFormat::Auto => !is_terminal,
            LogFormat::Pretty => false,
            LogFormat::Json => true,
        };
        if is_json {
            filtered
                .with(layer.json().flatten_event(true).with_ansi(false))
                .init();
        } else {
            filtered
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
        let line = self.redactor.mask(line);
        self.write(format!("{line}\n").as_bytes());
    }

    /// Prints several lines above the status line. Draws the status line only once.
    pub fn lines(&self, lines: &[String]) {
        if !lines.is_empty() {
            self.line(&lines.join("\n"));
        }
    }

    /// The redactor for the secrets of this process.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The text as a link to the URL, if the terminal supports links; otherwise only the text. Neither the text nor the
    /// URL may come from an agent, because they are not cleaned.
    #[expect(clippy::unused_self, reason = "only a screen shows links")]
    pub fn link(&self, text: &str, url: &str) -> String {
        let is_printable = url.chars().all(|c| c.is_ascii_graphic());
        if is_printable && supports_hyperlinks::on(supports_hyperlinks::Stream::Stderr) {
            format!("\x1b]8;;{url}\x1b\\{text}\x1b]8;;\x1b\\")
        } else {
            text.to_owned()
        }
    }

    /// Sets the status line; does nothing without a terminal.
    pub fn set_status(&self, status: &str) {
        let Some(live_area) = &self.live_area else {
            return;
        };
        let count = self.status_count.fetch_add(1, Ordering::Relaxed);
        let spinner = SPINNER[count % SPINNER.len()];
        let status = without_control_characters(&self.redactor.mask(status));
        live_area.set(vec![format!("{spinner} {status}")], size());
    }

    /// Whether standard error is a terminal, so that the status line is shown.
    pub fn is_live(&self) -> bool {
        self.live_area.is_some()
    }

    /// The number of lines of the terminal.
    pub fn height() -> usize {
        size().height
    }

    /// Sets several lines as the status, each cut to the width of the terminal.
    pub fn set_table(&self, lines: &[String]) {
        if let Some(live_area) = &self.live_area {
            let lines = lines.iter();
            let lines = lines.map(|line| without_control_characters(&self.redactor.mask(line)));
            live_area.set(lines.collect(), size());
        }
    }

    /// Removes the status line.
    pub fn clear_status(&self) {
        if let Some(live_area) = &self.live_area {
            live_area.clear(size());
        }
    }

    /// Shows a run's progress in the status line until the returned guard is dropped.
    pub fn show_progress(&self, progress: &Progress) -> StatusLine {
        let (screen, progress) = (self.clone(), progress.clone());
        let drawing_task = self.is_live().then(|| {
            tokio::spawn(async move {
                loop {
                    screen.set_status(&status_text(&progress));
                    tokio::time::sleep(REDRAW_INTERVAL).await;
                }
            })
        });
        StatusLine {
            drawing_task,
            screen: self.clone(),
        }
    }

    /// Removes the status line, and waits up to [`LAST_LINES_TIMEOUT`] until all lines are written.
    pub fn close(&self) {
        self.clear_status();
        // Ignore a failed write: there is no other place to report it.
        self.output.block_until_written(LAST_LINES_TIMEOUT);
    }

    /// Writes bytes above the status line.
    fn write(&self, bytes: &[u8]) {
        match &self.live_area {
            Some(live_area) => live_area.print_above(bytes, size()),
            None => self.output.write(bytes),
        }
    }
}

/// The size of the terminal.
fn size() -> Size {
    let (height, width) = console::Term::stderr().size();
    Size {
        height: height.into(),
        width: width.into(),
    }
}

/// A line without control characters, which could move the cursor.
fn without_control_characters(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
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
    drawing_task: Option<JoinHandle<()>>,
    screen: Screen,
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if let Some(task) = &self.drawing_task {
            task.abort();
        }
        self.screen.clear_status();
    }
}

/// Prints an error before the [`Screen`] is open.
pub fn print_error(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The text of the status line.
fn status_text(progress: &Progress) -> String {
    let now = progress.snapshot();
    let mut parts = vec![
        clock_text(now.elapsed),
        now.phase.to_string(),
        format!("{} out", bytes_in_words(now.output_bytes)),
    ];
    let counts = [(now.spent.turns, "turns"), (now.spent.tool_calls, "tools")];
    let counts = counts
        .into_iter()
        .filter_map(|(count, unit)| Some((count?, unit)));
    parts.extend(counts.map(|(count, unit)| format!("{count} {unit}")));
    let usage = now.spent.usage.map(Usage::short_text);
    parts.extend(usage.map(|tokens| format!("{tokens} tokens")));
    parts.extend(now.transfer.map(transfer_text));
    if now.idle > MIN_SHOWN_SILENCE {
        parts.push(format!("silent for {}", clock_text(now.idle)));
    }
    parts.extend(now.activity);
    parts.join(" · ")
}

/// The progress of a clone or a push.
fn transfer_text(transfer: Transfer) -> String {
    let Transfer { step, percent, .. } = transfer;
    match transfer.bytes {
        Some(bytes) => format!("{step}: {percent} %, {}", bytes_in_words(bytes)),
        None => format!("{step}: {percent} %"),
    }
}

/// Collects the text of one log event, and writes it in one piece when it is dropped.
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
            .write(self.screen.redactor.mask(&text).as_bytes());
    }
}
