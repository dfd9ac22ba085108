//! Tests which files are opened and which are rejected, and that every wait ends.

use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::scud::samples::{Sample, block_on};

const GRAPH: &str = ".scud/tasks/tasks.scg";
const NOT_REGULAR: &str =
    "is not a regular file, or its path contains a symbolic link, which is not followed";
const TASK: &str = "# SCUD Graph v1\n# Phase: a\n@nodes\n8 | t | P | 1 | M\n";

fn not_regular() -> String {
    format!("{GRAPH} {NOT_REGULAR}")
}

#[test]
fn no_symbolic_link_below_the_root_is_followed() {
    for link in [".scud", ".scud/tasks", GRAPH] {
        let elsewhere = Sample::with_graph(TASK);
        let sample = Sample::with_graph(TASK);
        let path = sample.root().join(link);
        std::fs::rename(&path, sample.root().join("aside")).unwrap();
        symlink(elsewhere.root().join(link), &path).unwrap();
        assert_eq!(sample.find_error("8"), not_regular());
    }
}

#[test]
fn the_root_itself_may_be_a_link() {
    let sample = Sample::with_graph(TASK);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("link");
    symlink(sample.root(), &root).unwrap();
    open(&root, &[".scud", "tasks", "tasks.scg"], Access::Write).unwrap();
}

#[test]
fn a_fifo_or_a_directory_in_place_of_the_graph_is_rejected_at_once() {
    let sample = Sample::without_graph();
    let made = std::process::Command::new("mkfifo")
        .arg(sample.root().join(GRAPH))
        .status();
    assert!(made.unwrap().success(), "mkfifo is part of coreutils");
    assert_eq!(sample.find_error("8"), not_regular());

    let sample = Sample::without_graph();
    std::fs::create_dir(sample.root().join(GRAPH)).unwrap();
    assert_eq!(sample.find_error("8"), not_regular());
}

#[test]
fn a_file_in_place_of_a_directory_is_rejected() {
    let sample = Sample::without_graph();
    std::fs::remove_dir(sample.root().join(".scud/tasks")).unwrap();
    sample.write(".scud/tasks", "");
    assert_eq!(sample.find_error("8"), not_regular());
}

#[test]
fn a_graph_above_the_size_limit_is_rejected_without_reading_it() {
    let sample = Sample::with_graph(TASK);
    let file = File::options()
        .write(true)
        .open(sample.root().join(GRAPH))
        .unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    assert_eq!(
        sample.find_error("8"),
        format!("{GRAPH} is larger than the limit of 65536 KiB")
    );
}

#[test]
fn a_file_may_have_the_size_of_the_limit_but_not_more() {
    let sample = Sample::with_graph("12345");
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
fn the_wait_for_a_lock_that_is_never_released_ends() {
    let sample = Sample::with_graph(TASK);
    let holder = File::open(sample.root().join(GRAPH)).unwrap();
    flock(&holder, FlockOperation::LockExclusive).unwrap();
    let began = std::time::Instant::now();
    let components = &[".scud", "tasks", "tasks.scg"];
    let error = block_on(open_locked(sample.root(), components, Access::Read)).unwrap_err();
    assert!(began.elapsed() < LOCK_WAIT * 20);
    let expected =
        format!("{GRAPH} was locked by another program, or replaced again and again, for 3 s");
    assert_eq!(sample.without_root(&error), expected);
}

#[test]
fn a_file_that_is_replaced_during_the_wait_for_its_lock_is_opened_again() {
    let sample = Sample::with_graph(TASK);
    let path = sample.root().join(GRAPH);
    let holder = File::open(&path).unwrap();
    flock(&holder, FlockOperation::LockExclusive).unwrap();
    let (pending_sender, pending_receiver) = mpsc::channel();
    let root = sample.root().to_owned();
    let reader = thread::spawn(move || {
        block_on(async {
            let components = &[".scud", "tasks", "tasks.scg"];
            let mut opened = std::pin::pin!(open_locked(&root, components, Access::Read));
            // One poll opens the old file and finds it locked.
            let first = std::future::poll_fn(|context| {
                std::task::Poll::Ready(opened.as_mut().poll(context).is_pending())
            });
            pending_sender.send(first.await).unwrap();
            read(&opened.await.unwrap(), Path::new("x"), 100).unwrap()
        })
    });
    assert!(pending_receiver.recv().unwrap(), "the lock is held");
    sample.write("new", "replaced");
    std::fs::rename(sample.root().join("new"), &path).unwrap();
    assert_eq!(reader.join().unwrap(), b"replaced");
    drop(holder);
}
