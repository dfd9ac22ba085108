//! The pages of `--report` in a real browser: nothing is wider than the screen of a phone, every text can be read in light and
//! in dark, and a large page opens quickly.
//!
//! Needs the program `chromium`; fails if it is missing.

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "all tests share this module, and these tests need only a part of it"
)]
mod support;

#[path = "../it/dispatch/sample.rs"]
#[expect(
    dead_code,
    reason = "all tests share this module, and these tests need only a part of it"
)]
mod sample;

mod chromium;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use chromium::{Theme, measure, measure_in_frame};
use sample::Graph;
use serde_json::json;
use support::{Project, Worker};

/// The width of the smallest phones, and of a screen, in pixels.
const WIDTHS: [u64; 2] = [320, 1200];
/// The lowest contrast that WCAG allows for text.
const MIN_CONTRAST: f64 = 4.5;

/// How many times each page is opened to measure the time.
const LOADS: usize = 5;
/// The largest page of 500 tasks, in bytes.
const MAX_SIZE: u64 = 3 * 1024 * 1024;
/// The most elements of a page of 500 tasks.
const MAX_ELEMENTS: u64 = 30_000;
/// A page that shows how long Chromium needs for any page.
const TRIVIAL_PAGE: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'none'\"><title>word</title></head>\
    <body><p>word</p></body></html>";

#[test]
fn the_page_of_the_demo_fits_the_screen_and_can_be_read_in_both_themes() {
    let project = Project::empty();
    let ended = Worker::without_settings()
        .args(["demo", "--graph", "--report", "out.html"])
        .dir(project.dir())
        .run();
    ended.assert_code(0);
    assert_readable(&project.path("out.html"));
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the time depends on the machine, so it is printed for people"
)]
fn the_page_of_500_tasks_fits_the_screen_and_its_time_to_open_is_printed() {
    let (_graph, path) = large_report(500);
    assert_readable(&path);
    let trivial = path.with_file_name("trivial.html");
    fs::write(&trivial, TRIVIAL_PAGE).expect("a page");
    let (mut large, mut small) = (Vec::new(), Vec::new());
    for _ in 0..LOADS {
        large.push(measure(&path));
        small.push(measure(&trivial));
    }
    let size = fs::metadata(&path).expect("the page").len();
    let elements = large[0]["elements"].as_u64().expect("a number");
    let (large_time, trivial_time) = (median(&large), median(&small));
    println!(
        "500 tasks: {} KiB, {elements} elements, laid out after {large_time:.0} ms (median of {LOADS}); a page with one word after {trivial_time:.0} ms",
        size / 1024,
    );
    assert!(size < MAX_SIZE, "{size} bytes");
    assert!(elements < MAX_ELEMENTS, "{elements} elements");
}

/// The median of the times, in milliseconds, after which a page was laid out.
fn median(loads: &[serde_json::Value]) -> f64 {
    let times = loads.iter().map(|found| &found["laid_out_ms"]);
    let mut times: Vec<f64> = times.map(|time| time.as_f64().expect("a time")).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Asserts that a page fits into each of [`WIDTHS`], and that its texts have enough contrast in both themes.
#[track_caller]
fn assert_readable(path: &Path) {
    for width in WIDTHS {
        for theme in [Theme::Light, Theme::Dark] {
            let found = measure_in_frame(path, width, theme);
            assert_eq!(found["width"], width, "{found:#}");
            assert_eq!(found["is_dark"], theme == Theme::Dark, "{found:#}");
            // The page's policy allows its style sheet.
            assert_eq!(found["max_width"], "1280px", "{found:#}");
            assert_eq!(found["overflow"], 0, "{found:#}");
            assert!(found["texts"].as_u64() > Some(50), "{found:#}");
            let contrast = found["lowest_contrast"].as_f64().expect("a number");
            assert!(contrast >= MIN_CONTRAST, "{found:#}");
        }
    }
}

/// The report of a dispatch with this many tasks. It is made from a journal that the test writes.
fn large_report(count: i64) -> (Graph, PathBuf) {
    let (mut nodes, mut edges) = (String::new(), String::from("\n@edges\n"));
    for task in 1..=count {
        let _ = writeln!(
            nodes,
            "{task} | Task number {task} with a rather long title that does not fit | D | 1 | M"
        );
        if task > 10 {
            let _ = writeln!(
                edges,
                "{task} -> {}\n{task} -> {}",
                task - 10,
                task - 1 - task % 7
            );
        }
    }
    let graph = Graph::new(&(nodes + &edges));
    let state = graph.state_dir();
    fs::create_dir_all(state.join("runs")).expect("a directory");
    let mut journal = vec![
        json!({ "at": 0, "entry": "created", "dispatch": "d", "branch": "descartes/house" }),
        json!({ "at": 0, "entry": "begun", "version": "0", "listen": "127.0.0.1:1" }),
    ];
    for task in 1..=count {
        let (run, begin) = (format!("d-{task}-1"), task * 2_000);
        fs::create_dir(state.join("runs").join(&run)).expect("a directory");
        let log = "   1.234s  INFO agent: a line of the log with <markup> & more\n".repeat(400);
        fs::write(state.join("runs").join(&run).join("log"), log).expect("a log");
        let more = [
            json!({ "at": begin, "entry": "intent", "run": run, "task": format!("house:{task}"), "attempt": 1, "base": "b" }),
            json!({ "at": begin + 50, "entry": "handle", "run": run, "handle": { "engine": "local", "pid": 1, "start_time": 1 } }),
            json!({ "at": begin + 90, "entry": "granted", "run": run, "lease_ms": 60_000 }),
            json!({ "at": begin + 30_000, "entry": "reported", "run": run, "event": event(&run) }),
            json!({ "at": begin + 31_000, "entry": "merged", "run": run, "commit": "c" }),
        ];
        journal.extend(more);
    }
    journal.push(json!({ "at": count * 2_000 + 40_000, "entry": "ended", "how": "done" }));
    let lines: Vec<String> = journal.iter().map(|entry| format!("{entry}\n")).collect();
    fs::write(state.join("journal.jsonl"), lines.concat()).expect("a journal");
    let path = graph.project().with_file_name("out.html");
    let status = graph.command(&["status", "--report"]).arg(&path).run();
    status.assert_code(0);
    (graph, path)
}

/// The terminal event of a run.
fn event(run: &str) -> serde_json::Value {
    let hunk = "@@ -1,3 +1,3 @@\n context <b>\n-old line & more of it\n+new line & more of it\n";
    let patch = format!(
        "diff --git a/src/file.rs b/src/file.rs\n--- a/src/file.rs\n+++ b/src/file.rs\n{}",
        hunk.repeat(300)
    );
    json!({
        "run_id": run,
        "status": "completed",
        "message": "the task is done",
        "result": {
            "summary": "I changed a line.",
            "prompts": [format!("# Task: change a line\n\n{}", "A sentence of the task's description.\n".repeat(200))],
            "duration_ms": 29_000,
            "phases": [
                { "phase": "preparing", "start_ms": 0 },
                { "phase": "agent", "start_ms": 2_000 },
                { "phase": "checks", "start_ms": 20_000 },
                { "phase": "hand_over", "start_ms": 27_000 },
            ],
            "agent": { "kind": "builtin", "model": "a-model", "exit_code": 0, "turns": 12, "tool_calls": 30, "cost_usd": 0.12,
                "usage": { "input_tokens": 1_000, "output_tokens": 2_000, "cache_read_input_tokens": 30_000, "cache_creation_input_tokens": 100 } },
            "work": { "base_commit": "b", "head_commit": "h", "branch": "x", "files_changed": 1, "insertions": 300, "deletions": 300,
                "patch": patch, "patch_truncated": false },
            "checks": [{ "command": "cargo test", "exit_code": 0, "duration_ms": 7_000, "output_tail": "test result: ok\n".repeat(200) }],
            "output": { "head": "", "tail": "a line that the agent has printed\n".repeat(240), "total_bytes": 8_160, "dropped_bytes": 0 },
        },
    })
}
