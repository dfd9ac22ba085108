//! The line of standard output that holds a worker's terminal event, so that the platform's log has it even if no
//! callback is delivered: `descartes-result {…}`.

use serde_json::Value;

/// The beginning of the line.
const PREFIX: &str = "descartes-result ";

/// The result line for an event in JSON, with a newline at the end.
pub fn line(event: &[u8]) -> Vec<u8> {
    [PREFIX.as_bytes(), event, b"\n"].concat()
}

/// The JSON in a line of output, if it is a result line.
pub fn json_of(line: &str) -> Option<&str> {
    line.strip_prefix(PREFIX)
}

/// The event in a line of output; `None` if it is not a result line, or its JSON is malformed.
pub fn event_of(line: &str) -> Option<Value> {
    serde_json::from_str(json_of(line)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_from_its_result_line() {
        let line = String::from_utf8(line(br#"{"run_id":"1"}"#)).unwrap();
        assert_eq!(line, "descartes-result {\"run_id\":\"1\"}\n");
        assert_eq!(event_of(line.trim_end()).unwrap()["run_id"], "1");
        assert_eq!(event_of("descartes-result {"), None);
        assert_eq!(event_of("descartes-results {}"), None);
    }
}
