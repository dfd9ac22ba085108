//! Reads the output files of a run.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use crate::result_line;

/// How much of the end of a file is read, in bytes: more than the size of the largest event.
const MAX_TAIL_SIZE: u64 = 1024 * 1024;
/// How much of a log is quoted, in bytes.
const MAX_QUOTE_SIZE: usize = 600;

/// The terminal event of this run in the output of its worker; `None` if there is none, or if it is of another run.
pub fn find_report(output: &Path, run: &str) -> Option<Value> {
    let text = tail(output)?;
    let last_result_line = text
        .lines()
        .rev()
        .find(|line| result_line::json_of(line).is_some())?;
    let event = result_line::event_of(last_result_line)?;
    (event.get("run_id").and_then(Value::as_str) == Some(run)).then_some(event)
}

/// Explains the end of a run without a report.
pub fn describe_loss(exit_code: Option<i32>, log: &Path) -> String {
    let how = match exit_code {
        Some(code) => format!("the worker ended with exit code {code} and without a report"),
        None => "the worker was killed, or ended while no dispatcher watched".to_owned(),
    };
    let log = tail(log).unwrap_or_default();
    let last_lines: Vec<&str> = log
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(3)
        .collect();
    if exit_code.is_none() || last_lines.is_empty() {
        return how;
    }
    let mut quote: String = last_lines
        .into_iter()
        .rev()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" / ");
    if quote.len() > MAX_QUOTE_SIZE {
        let cut = (0..=MAX_QUOTE_SIZE)
            .rev()
            .find(|at| quote.is_char_boundary(*at));
        quote.truncate(cut.unwrap_or_default());
    }
    format!("{how}; the end of its log: {quote}")
}

/// The commands of the checks that failed in a terminal event, each with the end of its output.
pub fn failed_output(event: &Value) -> String {
    let checks = event.pointer("/result/checks").and_then(Value::as_array);
    let failed = checks
        .into_iter()
        .flatten()
        .filter(|check| check.get("exit_code").and_then(Value::as_i64) != Some(0));
    let texts = failed.filter_map(|check| {
        let text = |field| check.get(field).and_then(Value::as_str);
        Some(format!("$ {}\n{}", text("command")?, text("output_tail")?))
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The last lines of the log in the directory of a run, at most `max_bytes`; `None` if there are none.
pub fn tail_of_log(dir: &Path, max_bytes: usize) -> Option<String> {
    let text = last_bytes(
        &dir.join("log"),
        u64::try_from(max_bytes).unwrap_or(MAX_TAIL_SIZE),
    )?;
    // If the log is longer, the text may begin in the middle of a line.
    let complete_lines = match text.split_once('\n') {
        Some((_, rest)) if text.len() >= max_bytes => rest,
        _ => text.as_str(),
    };
    (!complete_lines.trim().is_empty()).then(|| complete_lines.to_owned())
}

/// The last [`MAX_TAIL_SIZE`] bytes of a file as text; `None` if it cannot be read.
fn tail(path: &Path) -> Option<String> {
    last_bytes(path, MAX_TAIL_SIZE)
}

/// The last `max` bytes of a file as text; `None` if it cannot be read.
fn last_bytes(path: &Path, max: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(max))).ok()?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
