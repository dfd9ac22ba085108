//! What a person sees: log lines, and a live status line on a terminal.
//!
//! Standard error is written here and nowhere else, so that the two never mix. Everything is
//! redacted on its way out. Standard output is not touched. Nobody waits here for a reader.

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
use crate::progress::Progress;
use crate::redact::Redactor;

/// How often the status line is drawn; faster than a person reads, slower than a machine notices.
const REDRAW: Duration = Duration::from_millis(120);
/// How often indicatif may draw, in hertz: every time it is asked to.
const DRAW_RATE: u8 = 20;
/// How long to wait at the end for a reader of the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Which events are logged, and how.
#[derive(Debug)]
pub struct Log {
    pub filter: Targets,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    Auto,
    Pretty,
    Json,
}

/// Standard error, shared by log and status line; cheap to clone.
#[derive(Debug, Clone)]
pub struct Screen {
    redactor: Redactor,
    outlet: Outlet,
    bar: ProgressBar,
}

impl Screen {
    /// Takes over standard error and starts logging to it.
    pub fn open(log: &Log, redactor: Redactor) -> Self {
        let terminal = io::stderr().is_terminal();
        let outlet = Outlet::new(io::stderr());
        let target = if terminal {
            let terminal = Terminal::behind(outlet.clone());
            ProgressDrawTarget::term_like_with_hz(Box::new(terminal), DRAW_RATE)
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
                        .with_ansi(terminal)
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

    /// Sets the status line; nothing happens where there is no terminal.
    pub fn status(&self, status: &str) {
        self.bar.set_message(self.redactor.text(status));
        self.bar.tick();
    }

    /// Takes the status line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Shows a run's progress as the status line, until the guard is dropped.
    pub fn follow(&self, progress: &Progress) -> Following {
        let (screen, progress) = (self.clone(), progress.clone());
        let drawing = (!self.bar.is_hidden()).then(|| {
            tokio::spawn(async move {
                loop {
                    screen.status(&summary(&progress));
                    tokio::time::sleep(REDRAW).await;
                }
            })
        });
        Following {
            drawing,
            screen: self.clone(),
        }
    }

    /// Gives the last lines their chance to be read.
    pub fn close(&self) {
        self.clear();
        // Nobody is left to tell where nobody reads.
        self.outlet.drain(LAST_LINES);
    }

    fn write(&self, bytes: &[u8]) {
        self.bar.suspend(|| self.outlet.write(bytes));
    }
}

/// The terminal as the status line needs it: what draws one state is written in one piece, and
/// not at all where nobody seems to be reading.
#[derive(Debug)]
struct Terminal {
    outlet: Outlet,
    drawn: Mutex<String>,
}

impl Terminal {
    fn behind(outlet: Outlet) -> Self {
        Self {
            outlet,
            drawn: Mutex::default(),
        }
    }

    fn draw(&self, what: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.write_fmt(what).map_err(io::Error::other)
    }

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

/// Seconds since the worker began: what a person wants to know who watches one.
struct SinceStart(Instant);

impl FormatTime for SinceStart {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:>8.3}s", self.0.elapsed().as_secs_f64())
    }
}

/// While this lives, the status line shows a run's progress.
#[derive(Debug)]
pub struct Following {
    drawing: Option<JoinHandle<()>>,
    screen: Screen,
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(drawing) = &self.drawing {
            drawing.abort();
        }
        self.screen.clear();
    }
}

/// Prints a line where there is no screen yet.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn summary(progress: &Progress) -> String {
    let now = progress.snapshot();
    let mut parts = vec![
        clock(now.elapsed),
        now.phase.to_string(),
        format!("{} out", HumanBytes(now.output_bytes)),
    ];
    let counted = [(now.spent.turns, "turns"), (now.spent.tool_calls, "tools")];
    let counted = counted
        .into_iter()
        .filter_map(|(count, of)| Some((count?, of)));
    parts.extend(counted.map(|(count, of)| format!("{count} {of}")));
    let usage = now.spent.usage.map(Usage::in_short);
    parts.extend(usage.map(|tokens| format!("{tokens} tokens")));
    if now.idle > Duration::from_secs(2) {
        parts.push(format!("silent for {}", clock(now.idle)));
    }
    parts.extend(now.activity);
    parts.join(" · ")
}

/// One log event on its way to standard error: whole, so that lines never mix.
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
