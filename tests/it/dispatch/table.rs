//! The live table on a terminal.

use std::time::{Duration, Instant};

use super::sample::{Gate, Graph, number_from_environment};
use crate::support::{Emulator, Terminal, quoted, wait_until};

/// The variable with the number of workers in the test of many workers. The default is low, because each worker is a process
/// with a clone.
const WORKERS: &str = "DISPATCH_TABLE_WORKERS";
const COLUMNS: u16 = 80;
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
    let output_size_when_all_work = || {
        running
            .wait_for_live_area(&format!("{workers} working"))
            .len()
    };
    output_size_when_all_work();
    // The lines of the last starts are printed with the next drawing.
    pause(Duration::from_secs(1));
    let (begin, before) = (Instant::now(), output_size_when_all_work());
    pause(Duration::from_secs(3));
    let bytes = output_size_when_all_work() - before;
    let rate = f64::from(u32::try_from(bytes).expect("few bytes")) / begin.elapsed().as_secs_f64();
    assert!(
        rate > 0.0 && rate < MAX_BYTES_PER_SECOND,
        "{rate} bytes in a second"
    );
    gate.open();
    let ended = running.wait();
    ended.assert_code(0);
    assert_within_the_window(COLUMNS, &ended.stdout);
    assert!(ended.stdout.contains("more runs"));
    let done = format!("{workers} of {workers} tasks are done");
    assert!(ended.stdout.contains(&done), "{ended:#?}");
}

/// Asserts that the cursor never leaves the window, and that no row of the table is left at the end.
#[track_caller]
fn assert_within_the_window(columns: u16, output: &str) {
    let rows = Emulator::show(columns, output).rows();
    for row in &rows {
        let is_of_table = row.contains("more runs") || row.contains(" #1 ");
        assert!(!is_of_table, "{rows:#?}");
    }
    let ends = rows.iter().filter(|row| row.contains("tasks are done"));
    assert_eq!(ends.count(), 1, "{rows:#?}");
}

#[test]
fn a_table_in_a_window_that_becomes_narrower_leaves_nothing_behind() {
    let rows = (1..=6).map(|id| format!("{id} | A task with a long title | P | 1 | M\n"));
    let graph = Graph::new(&rows.collect::<String>());
    let gate = Gate::new();
    let terminal = Terminal::with_columns(100);
    let mut resizer = terminal.resizer();
    let activity =
        "a long line about what the agent is doing right now, which needs the whole window";
    let running = graph
        .dispatch_with_gate(
            &gate,
            &format!("echo {activity}; echo done > done-${{TASK_ID##*:}}"),
        )
        .args(["--jobs", "6"])
        .env("TERM", "xterm")
        .env("DESCARTES_HEARTBEAT", "100ms")
        .on(terminal)
        .start();
    running.wait_for_live_area("6 working");
    for columns in [60, 30, 90, 45] {
        let size = running.output_size();
        resizer.set_columns(columns, &running);
        wait_until("a drawing", || running.output_size() > size);
        pause(Duration::from_millis(600));
    }
    gate.open();
    drop(resizer);
    let ended = running.wait();
    ended.assert_code(0);
    let shown = Emulator::show(100, &ended.stdout).rows();
    for row in &shown {
        let is_of_table = row.contains(" #1 ") || row.contains(" working ·");
        assert!(!is_of_table, "{shown:#?}");
    }
}

fn pause(length: Duration) {
    let until = Instant::now() + length;
    wait_until("the end of a pause", || Instant::now() >= until);
}

#[test]
fn the_last_row_does_not_count_split_tasks_and_a_finished_run_has_one_line() {
    let graph = Graph::new(
        "1 | House | X | 1 | H\n1.1 | Walls | P | 1 | H\n1.2 | Roof | P | 1 | H\n2 | Garden | P | 1 | H\n\
         3 | Look | P | 1 | H\n\n@edges\n2 -> 1\n\n@parents\n1: 1.1, 1.2\n",
    );
    let open = graph.state_dir().with_file_name("open");
    let agent = format!(
        "case $TASK_ID in *:2) until [ -e {} ]; do sleep 0.05; done;; esac\n\
         # Task 3 changes nothing.\n[ ${{TASK_ID##*:}} = 3 ] || echo > done-${{TASK_ID##*:}}",
        quoted(&open)
    );
    let running = graph
        .dispatch(&agent)
        .env("TERM", "xterm")
        .on_terminal(COLUMNS)
        .start();
    running.wait_for_live_area("3 done · 1 working");
    std::fs::write(&open, "").expect("a file");
    let ended = running.wait();
    ended.assert_code(0);
    let rows = Emulator::show(COLUMNS, &ended.stdout).rows();
    let finished: Vec<_> = rows
        .iter()
        .filter(|row| row.contains("is done: "))
        .collect();
    assert_eq!(finished.len(), 4, "{rows:#?}");
    assert!(
        rows.iter()
            .all(|row| !row.contains("on branch descartes-runs")),
        "{rows:#?}"
    );
    assert!(
        finished
            .iter()
            .any(|row| row.contains("is done: Look (nothing was changed")),
        "{rows:#?}"
    );
}
