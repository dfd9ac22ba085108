//! What is opened, what is refused, and that nothing waits for ever.

use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::scud::samples::{Sample, block_on};

const GRAPH: &str = ".scud/tasks/tasks.scg";
const FOREIGN: &str =
    "is not a regular file, or reached through a symbolic link, which is not followed";
const TASK: &str = "# SCUD Graph v1\n# Phase: a\n@nodes\n8 | t | P | 1 | M\n";

fn foreign() -> String {
    format!("{GRAPH} {FOREIGN}")
}

#[test]
fn a_symbolic_link_is_followed_nowhere_below_the_root() {
    for link in [".scud", ".scud/tasks", GRAPH] {
        let elsewhere = Sample::with(TASK);
        let sample = Sample::with(TASK);
        let path = sample.root().join(link);
        std::fs::rename(&path, sample.root().join("aside")).unwrap();
        symlink(elsewhere.root().join(link), &path).unwrap();
        assert_eq!(sample.refusal("8"), foreign());
    }
}

#[test]
fn the_root_itself_may_be_a_link() {
    let sample = Sample::with(TASK);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("link");
    symlink(sample.root(), &root).unwrap();
    open(&root, &[".scud", "tasks", "tasks.scg"], Access::Write).unwrap();
}

#[test]
fn a_fifo_or_a_directory_in_the_place_of_the_graph_is_refused_at_once() {
    let sample = Sample::without_graph();
    let made = std::process::Command::new("mkfifo")
        .arg(sample.root().join(GRAPH))
        .status();
    assert!(made.unwrap().success(), "mkfifo is part of coreutils");
    assert_eq!(sample.refusal("8"), foreign());

    let sample = Sample::without_graph();
    std::fs::create_dir(sample.root().join(GRAPH)).unwrap();
    assert_eq!(sample.refusal("8"), foreign());
}

#[test]
fn a_file_in_the_place_of_a_directory_is_refused() {
    let sample = Sample::without_graph();
    std::fs::remove_dir(sample.root().join(".scud/tasks")).unwrap();
    sample.write(".scud/tasks", "");
    assert_eq!(sample.refusal("8"), foreign());
}

#[test]
fn a_graph_above_the_cap_is_refused_without_reading_it() {
    let sample = Sample::with(TASK);
    let file = File::options()
        .write(true)
        .open(sample.root().join(GRAPH))
        .unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    assert_eq!(
        sample.refusal("8"),
        format!("{GRAPH} is larger than 65536 KiB")
    );
}

#[test]
fn what_is_read_ends_at_the_limit() {
    let sample = Sample::with("12345");
    let file = open(
        sample.root(),
        &[".scud", "tasks", "tasks.scg"],
        Access::Read,
    )
    .unwrap();
    assert_eq!(read(&file, Path::new("x"), 5).unwrap(), b"12345");
    let error = read(&file, Path::new("x"), 4).unwrap_err();
    assert!(matches!(error, FileError::TooLarge { limit: 4, .. }));
}

#[test]
fn a_lock_that_is_never_released_is_given_up() {
    let sample = Sample::with(TASK);
    let held = File::open(sample.root().join(GRAPH)).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let began = std::time::Instant::now();
    let components = &[".scud", "tasks", "tasks.scg"];
    let error = block_on(open_locked(sample.root(), components, Access::Read)).unwrap_err();
    assert!(began.elapsed() < LOCK_WAIT * 3);
    let expected = format!("{GRAPH} stayed locked, or kept being replaced, for 3 s");
    assert_eq!(sample.plain(&error), expected);
}

#[test]
fn a_file_that_is_replaced_while_we_wait_for_its_lock_is_opened_anew() {
    let sample = Sample::with(TASK);
    let path = sample.root().join(GRAPH);
    let held = File::open(&path).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let (waiting, is_waiting) = mpsc::channel();
    let root = sample.root().to_owned();
    let reader = thread::spawn(move || {
        block_on(async {
            let components = &[".scud", "tasks", "tasks.scg"];
            let mut opened = std::pin::pin!(open_locked(&root, components, Access::Read));
            // One poll opens the old file and meets its lock.
            let first = std::future::poll_fn(|context| {
                std::task::Poll::Ready(opened.as_mut().poll(context).is_pending())
            });
            waiting.send(first.await).unwrap();
            read(&opened.await.unwrap(), Path::new("x"), 100).unwrap()
        })
    });
    assert!(is_waiting.recv().unwrap(), "the lock is held");
    sample.write("new", "replaced");
    std::fs::rename(sample.root().join("new"), &path).unwrap();
    assert_eq!(reader.join().unwrap(), b"replaced");
    drop(held);
}
