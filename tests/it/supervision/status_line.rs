//! Standard error has a live status line on a terminal, and otherwise plain lines.

use super::assert_completed;
use crate::support::{Project, Receiver, Worker};

#[test]
fn a_terminal_has_a_live_status_line_with_time_phase_silence_and_counters() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project)
        .env("TERM", "xterm")
        .agent("echo building; until [ -e seen ]; do sleep 0.05; done; echo built");
    let running = worker.on_terminal(120).start();
    running.wait_for_output("· agent · 9 B out · building");
    running.wait_for_output("· silent for 0:");
    project.write("seen", "");
    let ended = running.wait();
    ended.assert_code(0);
    assert_completed(&receiver);
    let screen = &ended.stdout;
    let (before, _) = screen.split_once(" · agent · 9 B out · building").unwrap();
    let time = &before.as_bytes()[before.len() - "0:00".len()..];
    let is_time = matches!(time, [b'0'..=b'9', b':', b'0'..=b'5', b'0'..=b'9']);
    assert!(is_time, "{screen:?}");
    // The status line is removed before each log line, so that each log line is alone on its line.
    assert!(
        screen.contains("agent: building\u{1b}[0m\r\n") || screen.contains("agent: building\r\n"),
        "{screen:?}"
    );
    // At the end the status line is gone.
    let last = screen.rsplit("\u{1b}[J").next().unwrap();
    assert!(!last.contains("out ·"), "{last:?}");
}

#[test]
fn the_log_in_a_pipe_has_plain_lines() {
    for format in ["json", "pretty", "auto"] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker = Worker::new(&receiver, &project).env("DESCARTES_LOG_FORMAT", format);
        let ended = worker
            .agent("echo building; printf '50%%\\r100%%\\n'; echo '\u{1b}[1mbold'")
            .run();
        ended.assert_code(0);
        assert_completed(&receiver);
        assert!(
            ended.stderr.chars().all(|c| c == '\n' || !c.is_control()),
            "{:?}",
            ended.stderr
        );
        for shown in [
            "agent: building",
            "agent: 50%",
            "agent: 100%",
            "agent: bold",
        ] {
            assert!(ended.stderr.contains(shown), "{shown} in {}", ended.stderr);
        }
        ended.result_line();
    }
}
