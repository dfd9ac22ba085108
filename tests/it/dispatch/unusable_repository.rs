//! Directories whose repository git cannot use.

use std::fs::{self, OpenOptions};
use std::io::Write;

use super::sample::Graph;

#[test]
fn outside_a_repository_dispatch_advises_git_init() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    fs::remove_dir_all(graph.project().join(".git")).expect("no repository");
    let ended = graph.dispatch("true").run();
    ended.assert_code(2);
    let words = "is not in a git repository (`git init` makes one; then commit the project)";
    assert!(ended.stderr.contains(words), "{ended:#?}");
}

#[test]
fn a_mistake_in_the_configuration_of_the_repository_is_reported_with_gits_words() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let config = graph.project().join(".git/config");
    let mut config = OpenOptions::new()
        .append(true)
        .open(config)
        .expect("a file");
    config.write_all(b"[broken\n").expect("a line");
    let ended = graph.dispatch("true").run();
    ended.assert_code(2);
    for words in [
        format!(
            "the repository of {} cannot be read: ",
            graph.project().display()
        ),
        "bad config line".to_owned(),
    ] {
        assert!(ended.stderr.contains(&words), "{ended:#?}");
    }
    assert!(!ended.stderr.contains("git init"), "{ended:#?}");
}
