//! The git token is in no environment, no argument and no file while git uses it.

use std::fs;

use crate::support::{Forge, Origin, Receiver, Worker, quoted, wait_until};

/// The git token of the worker.
const TOKEN: &str = "the-secret-git-token";
/// Only one test uses this token, so no process of another test contains it.
const TOKEN_OF_ONE_TEST: &str = "the-token-of-one-test";

/// A worker that pushes to a server that requires the token.
fn worker_with_token(origin: &Origin, receiver: &Receiver, forge: &Forge, token: &str) -> Worker {
    let worker = origin.worker(receiver).env("DESCARTES_REPO", forge.url());
    let worker = worker.env("DESCARTES_GIT_TOKEN", token);
    worker.agent("echo mine > mine")
}

/// The paths and contents of all files that this process can read of other processes: environment, command line and open files.
/// Skips the process `except`.
fn readable_files(except: i32) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        if pid == except {
            continue;
        }
        let mut paths = vec![entry.path().join("environ"), entry.path().join("cmdline")];
        // Only regular files: reading a pipe would block, and reading a device could have an effect.
        let descriptors = fs::read_dir(entry.path().join("fd"));
        let descriptors = descriptors.into_iter().flatten().flatten();
        let descriptors = descriptors.map(|descriptor| descriptor.path());
        paths.extend(
            descriptors.filter(|path| fs::metadata(path).is_ok_and(|found| found.is_file())),
        );
        for path in paths {
            let is_small = fs::metadata(&path).is_ok_and(|found| found.len() < 1 << 20);
            if is_small && let Ok(content) = fs::read(&path) {
                found.push((path.display().to_string(), content));
            }
        }
    }
    found
}

/// Whether the bytes contain the text.
fn contains(content: &[u8], part: &str) -> bool {
    content
        .windows(part.len())
        .any(|window| window == part.as_bytes())
}

#[test]
fn no_process_but_the_worker_has_the_token_in_a_readable_place_while_git_pushes() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN_OF_ONE_TEST));
    let (begin, end) = (origin.path("begin"), origin.path("end"));
    let script = format!(
        ": > {}; until [ -e {} ]; do sleep 0.05; done",
        quoted(&begin),
        quoted(&end)
    );
    origin.install_hook("pre-receive", &script);
    let worker = worker_with_token(&origin, &receiver, &forge, TOKEN_OF_ONE_TEST).start();
    wait_until("the push to begin", || begin.exists());
    let files = readable_files(worker.pid().as_raw_nonzero().get());
    std::fs::write(&end, "").unwrap();
    worker.wait();
    // git was running if the files contain its environment, which names the credential helper for the forge.
    let helper = format!("credential.{}.helper", forge.base_url());
    assert!(files.iter().any(|(_, content)| contains(content, &helper)));
    for (path, content) in files {
        let text = String::from_utf8_lossy(&content);
        assert!(
            !contains(&content, TOKEN_OF_ONE_TEST),
            "{path} has the token: {text}"
        );
    }
}

#[test]
fn git_gets_the_token_as_often_as_it_asks() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let worker = worker_with_token(&origin, &receiver, &forge, TOKEN);
    worker.run().assert_completed(&receiver);
    assert_eq!(origin.show("descartes/proj-456/8", "mine"), "mine");
    let requests = forge.requests();
    let accepted = requests
        .iter()
        .filter(|request| request.authorization.is_some())
        .count();
    assert!(accepted >= 4, "{requests:?}");
}

#[test]
fn if_the_descriptors_3_to_9_are_in_use_the_run_fails_before_the_agent_starts() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let worker =
        worker_with_token(&origin, &receiver, &forge, TOKEN).started_by("/bin/sh", |program| {
            let open = "exec 3>&1 4>&1 5>&1 6>&1 7>&1 8>&1 9>&1; exec \"$0\"";
            vec!["-c".into(), open.into(), program.into()]
        });
    let event = worker.run().assert_failed(&receiver, "workspace_failed");
    let words = "the descriptors 3 to 9 were all open when the worker started";
    assert!(event["failure"].to_string().contains(words), "{event:#}");
}

#[test]
fn git_gets_the_token_although_the_worker_inherits_some_descriptors() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let worker =
        worker_with_token(&origin, &receiver, &forge, TOKEN).started_by("/bin/sh", |program| {
            let open = "exec 3>&1 4>&1 6>&1 9>&1; exec \"$0\"";
            vec!["-c".into(), open.into(), program.into()]
        });
    worker.run().assert_completed(&receiver);
}
