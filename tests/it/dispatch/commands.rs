//! `dispatch status`, `retry` and `cancel` at the moment at which a dispatcher starts or ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use rustix::fs::{FlockOperation, flock};

use super::sample::Graph;

/// A dispatch whose only task is blocked.
fn blocked_dispatch() -> Graph {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    graph.dispatch("false").run().assert_code(1);
    graph
}

/// Takes the lock of the journal, as a dispatcher does.
fn lock(graph: &Graph) -> File {
    let file = File::create(graph.state_dir().join("lock")).expect("the lock file");
    flock(&file, FlockOperation::NonBlockingLockExclusive).expect("a free lock");
    writeln!(&file, "{}", std::process::id()).expect("the lock file");
    file
}

/// Stands for a dispatcher that ends before it answers: reads this many questions, and then calls `after`.
fn listen(
    graph: &Graph,
    questions: usize,
    after: impl FnOnce() + Send + 'static,
) -> JoinHandle<()> {
    let _ = std::fs::remove_file(graph.state_dir().join("socket"));
    // The path of a socket may not be long, and that of the state directory may be.
    let dir = File::open(graph.state_dir()).expect("the state directory");
    let path = format!("/proc/self/fd/{}/socket", dir.as_raw_fd());
    let listener = UnixListener::bind(path).expect("a socket");
    thread::spawn(move || {
        for _ in 0..questions {
            let (stream, _) = listener.accept().expect("a connection");
            let mut question = String::new();
            let read = BufReader::new(&stream).read_line(&mut question);
            assert!(read.expect("a question") > 0);
        }
        after();
    })
}

#[test]
fn a_command_is_written_to_the_journal_if_the_dispatcher_ends_before_it_answers() {
    let graph = blocked_dispatch();
    let dispatcher = listen(&graph, 1, || {});
    let retry = graph.command(&["retry", "1"]).run();
    retry.assert_code(0);
    assert!(retry.stdout.contains("noted; "), "{retry:#?}");
    assert_eq!(graph.entries("asked").len(), 1);
    dispatcher.join().expect("a question");
    graph.dispatch("echo done > done").run().assert_code(0);
}

#[test]
fn commands_wait_until_a_dispatcher_that_ends_has_left_the_journal() {
    let commands: [&[&str]; 2] = [&["retry", "1"], &["status"]];
    for command in commands {
        let graph = blocked_dispatch();
        let lock = lock(&graph);
        let dispatcher = listen(&graph, 2, move || {
            flock(&lock, FlockOperation::Unlock).expect("a lock");
        });
        let ended = graph.command(command).run();
        ended.assert_code(0);
        assert!(!ended.stdout.is_empty(), "{ended:#?}");
        dispatcher.join().expect("questions");
    }
}

#[test]
fn a_command_that_reaches_no_dispatcher_and_not_the_journal_says_who_has_it() {
    let graph = blocked_dispatch();
    let _lock = lock(&graph);
    let status = graph.command(&["status"]).run();
    status.assert_code(2);
    let process = std::process::id();
    let words = format!("process {process} starts or ends a dispatch");
    assert!(status.stderr.contains(&words), "{status:#?}");
    assert!(!status.stderr.contains("shows its state"), "{status:#?}");
}

#[test]
fn a_dispatcher_waits_for_a_command_that_uses_the_journal() {
    let graph = blocked_dispatch();
    graph.command(&["retry", "1"]).run().assert_code(0);
    let lock = lock(&graph);
    let running = graph.dispatch("echo done > done").start();
    running.wait_for_log("waiting for process ");
    flock(&lock, FlockOperation::Unlock).expect("a lock");
    running.wait().assert_code(0);
    assert_eq!(graph.show("descartes/house", "done"), "done\n");
}
