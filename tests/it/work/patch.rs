//! The patch in `result.work`.

use std::fs;

use serde_json::Value;

use super::{BRANCH, completed_work};
use crate::support::origin::{git, write_program};
use crate::support::{Origin, Receiver, path, quoted};

#[test]
fn large_files_are_left_out_of_the_patch_without_being_compared() {
    let origin = Origin::new();
    let work = completed_work(&origin, "truncate -s 40M large; echo fine > fine");
    let patch = work["patch"].as_str().unwrap();
    assert!(
        patch.contains("+fine") && !patch.contains("large"),
        "{patch}"
    );
    assert_eq!(work["patch_truncated"], true);
    assert_eq!(work["files_changed"], 3);
    origin.git(&["cat-file", "-e", &format!("{BRANCH}:large")]);
}

/// With the patch in the same command, git would read and compare large files before it prints that they are binary.
#[test]
fn the_git_command_that_lists_the_changes_makes_no_patch() {
    let (origin, receiver) = (Origin::new(), Receiver::start());
    let (bin, log) = (origin.path("wrapper"), origin.path("git.log"));
    fs::create_dir(&bin).expect("a directory");
    let real_path = path().into_string().expect("a PATH in UTF-8");
    let script = format!(
        "printf '%s\\n' \"$*\" >> {}; PATH={} exec git \"$@\"",
        quoted(&log),
        quoted(&real_path)
    );
    write_program(&bin.join("git"), &script);
    let worker = origin.worker(&receiver).agent("echo fine > fine");
    let worker = worker.env("PATH", format!("{}:{real_path}", bin.display()));
    worker.run().assert_code(0);
    let calls = fs::read_to_string(&log).expect("a log");
    let lists: Vec<&str> = calls
        .lines()
        .filter(|call| call.starts_with("diff ") && call.contains("--raw"))
        .collect();
    assert_eq!(lists.len(), 1, "{calls}");
    assert!(
        !lists[0].contains("--binary") && !lists[0].contains("--patch"),
        "{calls}"
    );
}

/// Asserts that the patch in `result.work`, applied to the base, gives the files of the pushed commit.
#[track_caller]
fn assert_patch_applies(origin: &Origin, work: &Value) {
    let (tree, patch) = (origin.path("tree"), origin.path("patch"));
    fs::write(&patch, work["patch"].as_str().expect("a patch")).unwrap();
    let url = origin.url();
    git(
        &origin.path(""),
        &["clone", "-q", &url, tree.to_str().unwrap()],
    );
    git(&tree, &["apply", "--index", patch.to_str().unwrap()]);
    let head = work["head_commit"].as_str().unwrap();
    assert_eq!(
        git(&tree, &["write-tree"]),
        origin.git(&["rev-parse", &format!("{head}^{{tree}}")])
    );
    assert_eq!(work["patch_truncated"], false);
}

#[test]
fn the_patch_applies_with_binary_files_links_and_unusual_names() {
    let binary = "head -c 3000 /dev/urandom > noise; ln -s noise link; chmod +x README; rm old";
    let latin = "printf 'caf\\351\\n' > menu; echo plain > plain";
    let names = "echo 1 > 'new\nline'; echo 2 > ./-dash; echo 3 > \"$(printf 'bell\\007')\"";
    for agent in [
        binary,
        latin,
        names,
        "printf 'no line feed' > end; printf 'a\\r\\nb\\r\\n' > dos",
    ] {
        let origin = Origin::with_files(&[("old", "away\n"), ("README", "A house.\n")]);
        assert_patch_applies(&origin, &completed_work(&origin, agent));
    }
}

#[test]
fn a_patch_that_is_too_long_is_cut_between_characters_and_marked_as_truncated() {
    for (agent, max_size) in [
        (
            "yes 'größer als gedacht' | head -c 300001 > long",
            128 * 1024,
        ),
        // Every byte takes six bytes in JSON.
        (
            "head -c 200000 /dev/zero | tr '\\0' '\\001' > controls",
            22 * 1024,
        ),
    ] {
        let origin = Origin::new();
        let work = completed_work(&origin, agent);
        assert_eq!(work["patch_truncated"], true);
        let patch = work["patch"].as_str().unwrap();
        assert!(
            !patch.contains('\u{fffd}') && patch.len() <= max_size,
            "{}",
            patch.len()
        );
        let size_in_json = work["patch"].to_string().len();
        assert!(
            (120 * 1024..=128 * 1024 + 2).contains(&size_in_json),
            "{size_in_json}"
        );
    }
}
