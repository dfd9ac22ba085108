//! The lines of `stream-json`.

use crate::stream_json::{Event, Reader, TotalsScope};

/// The size of the chunks does not change the result, and every line that is not an object is passed on.
pub fn stream_json(data: &[u8]) {
    for totals in [TotalsScope::Session, TotalsScope::Round] {
        let whole = read(data, data.len().max(1), totals);
        assert_eq!(whole, read(data, 1, totals));
        assert_eq!(whole, read(data, 7, totals));
        assert_raw_lines_are_passed_on(data, &whole.events);
    }
}

/// The result of a reader, as texts.
#[derive(Debug, PartialEq)]
struct ReadResult {
    events: Vec<String>,
    conclusion: String,
    session_id: Option<String>,
    model: Option<String>,
    /// After a second round with the same output.
    spent: String,
}

fn read(data: &[u8], chunk_size: usize, totals: TotalsScope) -> ReadResult {
    let mut reader = Reader::new(totals);
    reader.reads_tool_results = true;
    let mut events = Vec::new();
    for bytes in data.chunks(chunk_size) {
        reader.read(bytes, &mut |event: Event<'_>| {
            events.push(format!("{event:?}"))
        });
    }
    let conclusion = format!("{:?}", reader.conclusion());
    reader.next_round();
    for bytes in data.chunks(chunk_size) {
        reader.read(bytes, &mut |_| {});
    }
    let spent = reader.spent();
    assert!(spent.cost_usd.is_none_or(|cost| cost >= 0.0));
    if let Some(id) = &reader.session_id {
        assert!(!id.is_empty() && !id.starts_with('-') && id.is_ascii());
    }
    ReadResult {
        events,
        conclusion,
        spent: format!("{spent:?}"),
        session_id: reader.session_id,
        model: reader.model,
    }
}

fn assert_raw_lines_are_passed_on(data: &[u8], events: &[String]) {
    let Some(end) = data.iter().rposition(|byte| *byte == b'\n') else {
        return;
    };
    let lines = data[..end].split(|byte| *byte == b'\n');
    let raw = lines.filter(|line| {
        let line = line.trim_ascii_start();
        !line.is_empty() && line[0] != b'{'
    });
    // The reader passes on the line and its end as two events.
    let expected = raw.flat_map(|line| {
        [
            format!("{:?}", Event::Raw(line)),
            format!("{:?}", Event::Raw(b"\n")),
        ]
    });
    let mut remaining = events.iter();
    for event in expected {
        assert!(remaining.any(|found| *found == event), "{event} is missing");
    }
}
