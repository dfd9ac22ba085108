//! What becomes of what a child prints: redacted first, then kept, told and shown.
//!
//! However much there is: what is kept has a cap in `progress`, what is shown has a rate.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Spent;
use crate::progress::Progress;
use crate::redact::{Redactor, Stream};

/// The longest line that is shown, in bytes; logs are for people.
const LINE: usize = 500;
/// The most lines that are shown per [`RATE`].
const LINES: u32 = 100;
const RATE: Duration = Duration::from_secs(1);
/// The most of what an agent does that is told, in characters.
const DEED: usize = 200;

/// A child's output, live: into the progress, and as readable lines into the log.
pub struct Live<'a> {
    redactor: Redactor,
    redacted: Stream,
    sink: Sink<'a>,
    /// What was told of last.
    turns: u64,
}

struct Sink<'a> {
    progress: &'a Progress,
    lines: Lines,
}

impl<'a> Live<'a> {
    /// `who` is what the lines begin with.
    pub fn new(who: &'static str, redactor: &Redactor, progress: &'a Progress) -> Self {
        Self {
            redactor: redactor.clone(),
            redacted: redactor.stream(),
            sink: Sink {
                progress,
                lines: Lines::new(who),
            },
            turns: 0,
        }
    }

    /// Words of the agent's, whole; they do not mix with the bytes that are heard.
    pub fn words(&mut self, text: &str) {
        let clean = self.redactor.text(text);
        self.told("agent", &clean, &clean);
    }

    /// Something that the agent does; of any length.
    pub fn deed(&mut self, text: &str) {
        // Masked before it is cut, or half of a secret would be none.
        let clean = self.redactor.text(text);
        let mut line = String::new();
        for word in clean.split_whitespace() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            if let Some((end, _)) = line.char_indices().nth(DEED) {
                line.truncate(end);
                line.push('…');
                break;
            }
        }
        self.told("tool", &line, &format!("tool: {line}"));
    }

    /// What the agent has taken so far; every turn is worth a line.
    pub fn spent(&mut self, spent: &Spent) {
        self.sink.progress.set_spent(*spent);
        let turns = spent.turns.unwrap_or(0);
        if let (true, Some(usage)) = (turns > self.turns, spent.usage) {
            self.sink.lines.say("tokens", &usage.in_short());
        }
        self.turns = turns;
    }

    fn told(&mut self, who: &str, shown: &str, kept: &str) {
        let Sink { progress, lines } = &mut self.sink;
        progress.add_output(kept.as_bytes());
        progress.add_output(b"\n");
        if let Some(line) = lines.say(who, shown) {
            progress.set_activity(&line);
        }
    }

    /// The next bytes, cut anywhere.
    pub fn hear(&mut self, bytes: &[u8]) {
        let Self { redacted, sink, .. } = self;
        redacted.push(bytes, &mut |clean| sink.take(clean));
    }

    /// There will be no more.
    pub fn finish(&mut self) {
        let Self { redacted, sink, .. } = self;
        redacted.finish(&mut |clean| sink.take(clean));
        sink.lines.finish();
        // The last words count, whether they were too many to be shown or ended without a newline.
        let tail = sink.progress.output().tail;
        let mut lines = tail
            .rsplit(['\n', '\r'])
            .map(|line| readable(line.as_bytes()));
        if let Some(line) = lines.find(|line| !line.is_empty()) {
            sink.progress.set_activity(&line);
        }
    }
}

impl Sink<'_> {
    fn take(&mut self, clean: &[u8]) {
        self.progress.add_output(clean);
        if let Some(line) = self.lines.push(clean) {
            self.progress.set_activity(&line);
        }
    }
}

/// Readable lines in the log, no more than a person could have read.
#[derive(Debug)]
pub struct Lines {
    who: &'static str,
    partial: Vec<u8>,
    since: Instant,
    shown: u32,
    /// Bytes that were not shown since the rate was exceeded.
    skipped: u64,
}

impl Lines {
    pub fn new(who: &'static str) -> Self {
        Self {
            who,
            partial: Vec::new(),
            since: Instant::now(),
            shown: 0,
            skipped: 0,
        }
    }

    /// Shows the whole lines in `bytes`; gives the last one.
    pub fn push(&mut self, bytes: &[u8]) -> Option<String> {
        if self.since.elapsed() >= RATE {
            self.next_second();
        }
        let mut last = None;
        let mut rest = bytes;
        while self.shown < LINES {
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                let room = (LINE + 1).saturating_sub(self.partial.len());
                self.partial
                    .extend_from_slice(&rest[..rest.len().min(room)]);
                return last;
            };
            let room = (LINE + 1).saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&rest[..end.min(room)]);
            last = self.show().or(last);
            rest = &rest[end + 1..];
        }
        self.skipped += rest.len() as u64;
        last
    }

    /// Shows a text of somebody's own, line by line; gives its last line.
    pub fn say(&mut self, who: &str, text: &str) -> Option<String> {
        if self.since.elapsed() >= RATE {
            self.next_second();
        }
        let mut last = None;
        let lines = text.lines().map(|line| readable(line.as_bytes()));
        for line in lines.filter(|line| !line.is_empty()) {
            if self.shown < LINES {
                tracing::info!("{who}: {line}");
                self.shown += 1;
            } else {
                self.skipped += line.len() as u64;
            }
            last = Some(line);
        }
        last
    }

    /// There will be no more.
    pub fn finish(&mut self) {
        self.show();
        self.next_second();
    }

    fn next_second(&mut self) {
        if self.skipped > 0 {
            tracing::info!("{}: [{} bytes not shown]", self.who, self.skipped);
        }
        (self.since, self.shown, self.skipped) = (Instant::now(), 0, 0);
    }

    fn show(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.partial);
        let line = readable(&bytes);
        if line.is_empty() {
            return None;
        }
        tracing::info!("{}: {line}", self.who);
        self.shown += 1;
        Some(line)
    }
}

/// A line without escape sequences and control characters, and not too long.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LINE)]);
    let text = console::strip_ansi_codes(&text);
    let mut line: String = text
        .chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .collect();
    line.truncate(line.trim_end().len());
    if bytes.len() > LINE {
        line.push('…');
    }
    line
}
