//! For everyone who changes the project: facts that are in two places of the repository must agree.
//!
//! Reads the files of the repository. [`documents`] compares the documents with the program.

mod documents;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
#[track_caller]
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path from the root of the repository to every file below a directory.
fn files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut unread = vec![root().join(directory)];
    while let Some(next) = unread.pop() {
        for entry in fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                unread.push(path);
            } else {
                found.push(path.strip_prefix(root()).expect("below").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The text under a heading, up to the next one that is not deeper.
#[track_caller]
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let level = heading.chars().take_while(|c| *c == '#').count();
    let begin = text
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    let body = &text[begin + heading.len() + 2..];
    let ends = (1..=level).filter_map(|level| body.find(&format!("\n{} ", "#".repeat(level))));
    &body[..ends.min().unwrap_or(body.len())]
}

#[test]
fn the_code_map_lists_the_files_of_src() {
    let architecture = read("docs/architecture.md");
    let map = section(&architecture, "## Code map");
    let (_, map) = map.split_once("```\n").expect("a code block");
    let (map, _) = map.split_once("```").expect("its end");
    let (mut listed, mut folder) = (BTreeSet::new(), String::new());
    for line in map.lines() {
        let depth = line.len() - line.trim_start().len();
        let name = line.split_whitespace().next().expect("a name");
        let path = match depth {
            0 => name.to_owned(),
            2 => {
                listed.insert(name.to_owned());
                folder = name.to_owned();
                format!("src/{name}")
            }
            _ => format!("src/{folder}{name}"),
        };
        assert!(
            root().join(&path).exists(),
            "{path} is in the map, but does not exist"
        );
        assert_eq!(root().join(&path).is_dir(), path.ends_with('/'), "{path}");
    }
    let entries = fs::read_dir(root().join("src")).expect("src");
    let existing: BTreeSet<String> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    assert_eq!(listed, existing);
}

#[test]
fn every_source_file_begins_with_a_comment_about_its_purpose() {
    for path in files("src").into_iter().chain(files("tests")) {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path);
            assert!(text.starts_with("//! "), "{} has no //!", path.display());
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let (mut in_dependencies, mut comment, mut seen) = (false, String::new(), 0);
    let mut after_comment = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
            comment.clear();
        } else if let Some(more) = line.strip_prefix('#') {
            if !after_comment {
                comment.clear();
            }
            comment.push_str(more);
        } else if let (true, Some((name, _))) = (in_dependencies, line.split_once('=')) {
            let name = name.trim();
            let mut words = comment.split(|c: char| c.is_whitespace() || matches!(c, ',' | ':'));
            assert!(
                words.any(|word| word == name),
                "no comment above {name} says why it is there"
            );
            seen += 1;
        } else if line.is_empty() {
            comment.clear();
        }
        after_comment = line.starts_with('#');
    }
    assert!(seen > 20, "only {seen} dependencies were found");
}

/// The paths of the markdown files of the repository.
fn markdown() -> Vec<PathBuf> {
    let top = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ];
    let mut all: Vec<PathBuf> = top.map(PathBuf::from).into();
    for directory in ["docs", "examples", "templates"] {
        all.extend(files(directory));
    }
    all.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    all
}

/// The fragment of a link to a heading, as GitHub makes it.
fn fragment_of(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let characters = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    characters.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_to_existing_files_and_headings() {
    let mut checked = 0;
    for path in markdown() {
        let text = read(&path);
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        for (target, _) in targets {
            if target.contains("://") {
                continue;
            }
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let to = match file {
                "" => path.clone(),
                file => path.parent().expect("a folder").join(file),
            };
            assert!(
                root().join(&to).exists(),
                "{}: {target} does not exist",
                path.display()
            );
            if !fragment.is_empty() {
                let text = read(&to);
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|heading| fragment_of(heading) == fragment),
                    "{}: {target} has no such heading",
                    path.display()
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} links were found");
}

/// The paths and texts of the files of one module in `src/`.
fn module(name: &str) -> Vec<(PathBuf, String)> {
    let (file, folder) = (format!("src/{name}.rs"), format!("src/{name}/"));
    let of_module = |path: &PathBuf| {
        let path = path.to_str().expect("a name in UTF-8");
        path == file || path.starts_with(&folder)
    };
    let found: Vec<_> = files("src").into_iter().filter(of_module).collect();
    assert!(!found.is_empty(), "there is no {name}");
    found
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (path.clone(), read(path)))
        .collect()
}

/// Asserts that the code of a module contains none of these words.
#[track_caller]
fn assert_does_not_mention(name: &str, words: &[&str]) {
    for (path, text) in module(name) {
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for word in words {
                assert!(
                    !line.contains(word),
                    "{} mentions {word}: {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn modules_do_not_mention_modules_and_functions_that_they_must_not_use() {
    let exit_codes = ["ExitCode", "exit::"];
    assert_does_not_mention(
        "callback",
        &["crate::runner", "crate::config", "crate::scud"],
    );
    assert_does_not_mention("callback", &exit_codes);
    assert_does_not_mention("runner", &["crate::callback", "crate::config"]);
    assert_does_not_mention("runner", &exit_codes);
    assert_does_not_mention(
        "scud",
        &["crate::callback", "crate::config", "crate::runner"],
    );
    assert_does_not_mention("task", &["serde", "std::fs", "std::env", "tokio"]);
    assert_does_not_mention("process", &["agent::", "Agent", "scud"]);
    let process_functions = [
        "tokio::process",
        "process::Command",
        "kill_process",
        "rustix::",
    ];
    assert_does_not_mention("runner/agent", &process_functions);
}

#[test]
fn every_action_of_a_workflow_is_pinned_to_a_commit_and_names_its_version() {
    let mut count = 0;
    for path in files(".github/workflows") {
        for line in read(&path).lines() {
            let Some((_, action)) = line.split_once("uses: ") else {
                continue;
            };
            let commit_and_version = action
                .split_once('@')
                .and_then(|(_, pin)| pin.split_once(" # v"));
            let is_commit = |commit: &str| {
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            assert!(
                commit_and_version.is_some_and(|(commit, _)| is_commit(commit)),
                "{}: {action}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn a_panic_in_a_release_build_unwinds_instead_of_aborting() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("panic = \"unwind\""));
    assert!(!manifest.contains("panic = \"abort\""));
}

#[test]
fn ci_begins_with_the_commands_of_the_readme() {
    let commands = read(".ci/run");
    let mut steps = commands.lines().filter(|line| line.starts_with("step "));
    assert_eq!(steps.next(), Some("step 'cargo test'"));
    let readme = read("README.md");
    for command in ["cargo run --release -- demo", "cargo test"] {
        assert!(
            readme.contains(&format!("\n| `{command}` | ")),
            "README.md has no {command}"
        );
        let runs = commands.lines().filter(|line| *line == command).count();
        assert_eq!(runs, 1, ".ci/run runs {command} once");
    }
}
