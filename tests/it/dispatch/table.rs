//! The live table on a terminal.

use std::time::{Duration, Instant};

use super::sample::{Gate, Graph, number_from_environment};
use crate::support::wait_until;

/// The variable with the number of workers of this test. The default is low, because each worker is a process with a
/// clone.
const WORKERS: &str = "DISPATCH_TABLE_WORKERS";
const COLUMNS: u16 = 80;
/// The number of lines of the terminal in the tests.
const LINES: usize = 24;
/// The maximum output while only heartbeats arrive. In a second, the table is drawn four times, or up to eight times if
/// lines are printed above it.
const MAX_BYTES_PER_SECOND: f64 = 16.0 * 1024.0;

#[test]
fn the_table_of_many_workers_fits_in_the_window_and_is_drawn_rarely() {
    let workers = number_from_environment(WORKERS).unwrap_or(20);
    let rows = (1..=workers).map(|id| format!("{id} | A task with a long title | P | 1 | M\n"));
    let graph = Graph::new(&rows.collect::<String>());
    let gate = Gate::new();
    let running = graph
        .dispatch_with_gate(&gate, "echo done > done-${TASK_ID##*:}")
        .args(["--jobs", &workers.to_string()])
        .env("TERM", "xterm")
        .env("DESCARTES_HEARTBEAT", "200ms")
        .on_terminal(COLUMNS)
        .start();
    let size = || running.wait_for_screen(&format!("{workers} working")).len();
    size();
    // The lines of the last starts are printed with the next drawing.
    pause(Duration::from_secs(1));
    let (began, before) = (Instant::now(), size());
    pause(Duration::from_secs(3));
    let written = size() - before;
    let rate =
        f64::from(u32::try_from(written).expect("few bytes")) / began.elapsed().as_secs_f64();
    assert!(
        rate > 0.0 && rate < MAX_BYTES_PER_SECOND,
        "{rate} bytes in a second"
    );
    gate.open();
    let ended = running.wait();
    ended.assert_code(0);
    assert_within_the_window(&ended.stdout);
    assert!(ended.stdout.contains("more runs"));
    let done = format!("{workers} of {workers} tasks are done");
    assert!(ended.stdout.contains(&done), "{ended:#?}");
}

/// Every table fits in the window, and the cursor never moves up by more lines than the window has.
#[track_caller]
fn assert_within_the_window(output: &str) {
    let mut parts = output.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic());
        let end = end.expect("the end of an escape sequence");
        let (sequence, text) = part.split_at(end);
        let lines: usize = sequence.trim_start_matches('[').parse().unwrap_or(1);
        if text.starts_with('A') {
            assert!(lines < LINES, "the cursor moves up by {lines} lines");
        }
        // `K` clears the line.
        plain.push_str(if text.starts_with('K') { "\n" } else { "" });
        plain.push_str(&text[1..]);
    }
    // Rows are filled with blanks to the width of the window and follow each other without line breaks. The last row
    // has the totals.
    let columns = usize::from(COLUMNS);
    let mut tables = 0;
    for table in plain.lines().filter(|line| line.contains("more runs")) {
        let table: Vec<char> = table.chars().filter(|c| !c.is_control()).collect();
        let rows: Vec<String> = table
            .chunks(columns)
            .map(|row| row.iter().collect())
            .collect();
        assert!(rows.len() < LINES, "{rows:#?}");
        let (last, others) = rows.split_last().expect("rows");
        assert!(last.contains(" · "), "{rows:#?}");
        for row in others {
            let begins_with_task = row.starts_with(|c: char| c.is_ascii_digit());
            assert!(begins_with_task || row.starts_with('…'), "{rows:#?}");
        }
        tables += 1;
    }
    assert!(tables > 0, "{plain:?}");
}

fn pause(length: Duration) {
    let until = Instant::now() + length;
    wait_until("the end of a pause", || Instant::now() >= until);
}
