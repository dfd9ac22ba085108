//! The objects of `--json`: one on each line of standard output. docs/cli.schema.json defines them.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::format::Format;
use super::output_queue::OutputQueue;
use crate::clock::now;
use crate::redact::Redactor;

/// The version of the objects. Within a version, fields are only ever added.
const SCHEMA_VERSION: u32 = 1;
/// How long [`JsonLines::close`] waits for a slow reader.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Object<'a, T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    /// When the event happened, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
    #[serde(flatten)]
    fields: T,
}

impl<'a, T: Serialize> Object<'a, T> {
    fn new(kind: &'a str, fields: T) -> Self {
        Self {
            schema: SCHEMA_VERSION,
            kind,
            at: None,
            fields,
        }
    }

    /// The object as a line. Only strings are masked, because masking a number would make the JSON invalid.
    fn line(&self, redactor: &Redactor) -> String {
        let text = serde_json::to_string(self).expect("the fields have names that are strings");
        if redactor.mask(&text) == text {
            return text + "\n";
        }
        let mut value = serde_json::from_str(&text).expect("the JSON that was just written");
        redactor.mask_json(&mut value);
        format!("{value}\n")
    }
}

/// Prints the result of a command. `kind` becomes the field `type`. It is not an error if the reader has closed the
/// pipe, as `| head` does.
///
/// # Errors
/// If standard output cannot be written for another reason, for example because the disk is full.
pub fn print_object(kind: &str, fields: impl Serialize, redactor: &Redactor) -> io::Result<()> {
    let line = Object::new(kind, fields).line(redactor);
    let mut stdout = io::stdout().lock();
    let result = stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush());
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes the events of a command to standard output, as they happen. Cheap to clone. Does nothing without `--json`,
/// or when the reader has closed the pipe. If the reader is too slow, lines are dropped, and an object of the type
/// `gap` counts them.
#[derive(Debug, Clone)]
pub struct JsonLines {
    output: Option<OutputQueue>,
    redactor: Redactor,
}

impl JsonLines {
    pub fn new(format: Format, redactor: &Redactor) -> Self {
        let output = match format {
            Format::Lines => None,
            Format::Json => Some(OutputQueue::with_note(io::stdout(), gap_line)),
        };
        Self {
            output,
            redactor: redactor.clone(),
        }
    }

    /// Writes an object whose fields already contain its time.
    pub fn write(&self, kind: &str, fields: impl Serialize) {
        self.write_object(&Object::new(kind, fields));
    }

    /// Writes an object about something that happens now.
    pub fn write_now(&self, kind: &str, fields: impl Serialize) {
        self.write_object(&Object {
            at: Some(now()),
            ..Object::new(kind, fields)
        });
    }

    fn write_object(&self, object: &Object<'_, impl Serialize>) {
        if let Some(output) = &self.output {
            output.write(object.line(&self.redactor).as_bytes());
        }
    }

    /// Waits until all objects are written. Stops waiting if the reader has closed the pipe, after [`CLOSE_TIMEOUT`],
    /// and on SIGINT or SIGTERM.
    pub async fn close(&self) {
        let Some(output) = &self.output else { return };
        let Ok(mut terminated) = signal(SignalKind::terminate()) else {
            return;
        };
        tokio::select! {
            _ = output.wait_until_written(CLOSE_TIMEOUT) => {}
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    }
}

/// The line that replaces dropped ones.
fn gap_line(lines: usize) -> String {
    Object::new("gap", json!({ "lines": lines })).line(&Redactor::new(&[]))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_secret_is_masked_in_strings_but_not_in_numbers() {
        let redactor = Redactor::new(&[SecretString::from("1234567")]);
        let fields = json!({ "number": 12_345_678, "text": "the 1234567", "list": ["1234567"] });
        let line = Object::new("log", fields).line(&redactor);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            value,
            json!({ "schema": 1, "type": "log", "number": 12_345_678, "text": "the ***", "list": ["***"] })
        );
    }

    #[test]
    fn an_object_begins_with_its_schema_and_type_and_ends_with_a_newline() {
        let line = Object::new("gap", json!({ "lines": 3 })).line(&Redactor::new(&[]));
        assert_eq!(line, gap_line(3));
        assert_eq!(line, "{\"schema\":1,\"type\":\"gap\",\"lines\":3}\n");
    }
}
