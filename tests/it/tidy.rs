//! For whoever changes the project: what is written down twice says the same twice.
//!
//! Reads the repository, not the program, but for `--help`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Worker, schema};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a directory of the repository, by its path from the root.
fn files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root().join(directory)];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
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

/// The rows of the first table in a text, without its head.
fn table(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().skip_while(|line| !line.starts_with("| "));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let row = row.trim_matches('|');
        row.split(" | ").map(str::trim).collect()
    })
    .collect()
}

fn unquoted(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// The settings in a help text, as the rows of the README: those with a flag, those without.
fn settings_of(args: &[&str]) -> (Vec<String>, Vec<String>) {
    let worker = args.iter().fold(Worker::bare(), Worker::arg);
    let help = worker.arg("--help").run().assert_code(0).stdout.clone();
    let (options, unflagged) = help
        .split_once("From the environment only:\n")
        .unwrap_or((&help, ""));
    let (_, options) = options.split_once("Options:\n").expect("options");
    let mut flagged: Vec<String> = Vec::new();
    for line in options.lines() {
        let text = line.trim_start();
        if text.starts_with("--") || text.starts_with("-h") {
            // The flag and its value end where the help begins: at two spaces, or on the next line.
            flagged.push(
                text.split_once("  ")
                    .map_or("", |(_, help)| help)
                    .to_owned(),
            );
        } else if let Some(last) = flagged.last_mut() {
            *last = format!("{last} {text}");
        }
    }
    let flagged = flagged.iter().filter_map(|help| {
        let help = help.trim().strip_suffix(']')?;
        let (meaning, names) = help.rsplit_once(" [").expect("the variable in brackets");
        let (variable, default) = names.split_once("; default: ").unwrap_or((names, ""));
        let default = match (variable, default) {
            ("TASK_ID" | "PROJECT_ID" | "CALLBACK_URL", _) => "required".to_owned(),
            (_, "") => "–".to_owned(),
            (_, default) => format!("`{default}`"),
        };
        Some(format!("| `{variable}` | {default} | {meaning} |"))
    });
    let mut unflagged_rows: Vec<String> = Vec::new();
    for line in unflagged.lines().filter(|line| !line.trim().is_empty()) {
        let text = line.trim();
        match unflagged_rows.last_mut() {
            Some(last) if line.starts_with("          ") => *last = format!("{last} {text}"),
            _ => unflagged_rows.push(format!("| `{text}` |")),
        }
    }
    let unflagged_rows = unflagged_rows.iter().map(|row| format!("{row} |"));
    (flagged.collect(), unflagged_rows.collect())
}

fn rows(text: &str) -> Vec<String> {
    let table = table(text);
    let row = |cells: &Vec<&str>| format!("| {} |", cells.join(" | "));
    table.iter().map(row).collect()
}

#[test]
fn the_readme_s_settings_are_those_of_the_help() {
    let (mut flagged, unflagged) = settings_of(&[]);
    let (received, _) = settings_of(&["receive"]);
    flagged.extend(
        received
            .into_iter()
            .filter(|row| row.contains("DESCARTES_LISTEN")),
    );
    let readme = read("README.md");
    assert_same_rows(&rows(section(&readme, "## Settings")), &flagged);
    let given = rows(section(&readme, "### From the environment only"));
    assert_same_rows(&given, &unflagged);
}

#[track_caller]
fn assert_same_rows(readme: &[String], help: &[String]) {
    assert!(
        readme == help,
        "README.md must have these rows:\n{}\nbut has\n{}",
        help.join("\n"),
        readme.join("\n")
    );
}

#[test]
fn the_readme_s_exit_codes_are_those_of_main() {
    let exit = read("src/exit.rs");
    let codes = exit.lines().filter_map(|line| {
        let (variant, code) = line.trim().strip_prefix("Worker::")?.split_once(" => ")?;
        let code: u8 = code.strip_suffix(',')?.parse().ok()?;
        assert!(variant.chars().all(char::is_alphanumeric), "{line}");
        Some(code.to_string())
    });
    let readme = read("README.md");
    let told = table(section(&readme, "## Exit codes"));
    let told: Vec<&str> = told.iter().map(|row| row[0]).collect();
    assert_eq!(told, codes.collect::<Vec<_>>());
}

/// The arms of a `match` in a function of a source file, as pairs of variant and the rest.
fn words(source: &str, function: &str) -> Vec<(String, String)> {
    let (_, body) = source.split_once(function).expect(function);
    let body = &body[..body.find("\n    }\n").expect("the function's end")];
    let arms = body
        .lines()
        .filter_map(|line| line.trim().split_once(" => \""));
    arms.map(|(variant, word)| {
        let variant = variant.trim_start_matches("Self::").to_owned();
        (variant, word.trim_end_matches("\",").to_owned())
    })
    .collect()
}

/// The reasons in the code, with `yes` for those that are retryable.
fn reasons() -> Vec<(String, &'static str)> {
    let task = read("src/task.rs");
    let (_, of_reason) = task.split_once("impl Reason {").expect("impl Reason");
    let (_, retryable) = of_reason.split_once("fn retryable").expect("retryable");
    let (retryable, _) = retryable.split_once("=> true").expect("the retryable ones");
    let retryable: BTreeSet<&str> = retryable.split(|c: char| !c.is_alphanumeric()).collect();
    let words = words(of_reason, "pub fn word");
    assert!(words.len() > 10, "{words:?}");
    words
        .into_iter()
        .map(|(variant, word)| {
            let yes = retryable.contains(variant.as_str());
            (word, if yes { "yes" } else { "no" })
        })
        .collect()
}

fn definition(name: &str) -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(schema::TEXT).expect("the schema is JSON");
    let words = schema.pointer(&format!("/$defs/{name}")).expect(name);
    let words = words.as_array().expect("a list").iter();
    words
        .map(|word| word.as_str().expect("a word").to_owned())
        .collect()
}

#[test]
fn the_failure_reasons_are_those_of_the_code_wherever_they_are_told() {
    let reasons = reasons();
    let (readme, protocol) = (read("README.md"), read("docs/protocol.md"));
    let readme = table(section(&readme, "## Failure reasons"));
    let readme: Vec<_> = readme
        .iter()
        .map(|row| (unquoted(row[0]).to_owned(), row[1]))
        .collect();
    assert_eq!(readme, reasons, "README.md");
    let protocol = table(section(&protocol, "### Failure reasons"));
    let protocol: Vec<_> = protocol
        .iter()
        .map(|row| (unquoted(row[0]).to_owned(), row[2]))
        .collect();
    assert_eq!(protocol, reasons, "docs/protocol.md");
    let words: BTreeSet<String> = reasons.into_iter().map(|(word, _)| word).collect();
    assert_eq!(definition("failure/properties/reason/enum"), words);
}

#[test]
fn the_schema_s_other_words_are_those_of_the_code() {
    let in_code = |path: &str, begin: &str| -> BTreeSet<String> {
        let source = read(path);
        let (_, source) = source.split_once(begin).expect(begin);
        words(source, "pub fn word")
            .into_iter()
            .map(|(_, word)| word)
            .collect()
    };
    let kinds = Worker::bare().args(["--agent", "?"]).run().stderr;
    let (_, kinds) = kinds.split_once("there are auto, ").expect("the kinds");
    let kinds = kinds.lines().next().expect("a line").split(", ");
    let kinds: BTreeSet<String> = kinds.map(str::to_owned).collect();
    assert!(kinds.len() > 2, "{kinds:?}");
    assert_eq!(definition("agent-kind/examples"), kinds);
    let readme = read("README.md");
    let row = readme
        .lines()
        .find(|line| line.starts_with("| `DESCARTES_AGENT` |"));
    for kind in kinds {
        assert!(
            row.is_some_and(|row| row.contains(&kind)),
            "{kind}: {row:?}"
        );
        assert!(
            read("docs/protocol.md").contains(&format!("`{kind}`")),
            "{kind}"
        );
    }
    let phases = in_code("src/progress.rs", "impl Phase {");
    assert_eq!(definition("progress/properties/phase/enum"), phases);
}

#[test]
fn the_code_map_is_the_tree() {
    let architecture = read("docs/architecture.md");
    let map = section(&architecture, "## Code map");
    let (_, map) = map.split_once("```\n").expect("a code block");
    let (map, _) = map.split_once("```").expect("its end");
    let (mut told, mut place) = (BTreeSet::new(), String::new());
    for line in map.lines() {
        let depth = line.len() - line.trim_start().len();
        let name = line.split_whitespace().next().expect("a name");
        let path = match depth {
            0 => name.to_owned(),
            2 => {
                told.insert(name.to_owned());
                place = name.to_owned();
                format!("src/{name}")
            }
            _ => format!("src/{place}{name}"),
        };
        assert!(
            root().join(&path).exists(),
            "{path} is in the map, but not there"
        );
        assert_eq!(root().join(&path).is_dir(), path.ends_with('/'), "{path}");
    }
    let entries = fs::read_dir(root().join("src")).expect("src");
    let there: BTreeSet<String> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    assert_eq!(told, there);
}

#[test]
fn every_source_file_says_what_it_answers_for() {
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

/// The markdown files of the repository.
fn markdown() -> Vec<PathBuf> {
    let mut all = vec![PathBuf::from("README.md")];
    all.extend(files("docs").into_iter().chain(files("examples")));
    all.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    all
}

/// A heading as the part of a link after `#`.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
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
                "{}: {target} is not there",
                path.display()
            );
            if !fragment.is_empty() {
                let text = read(&to);
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|heading| anchor(heading) == fragment),
                    "{}: {target} has no such heading",
                    path.display()
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} links were found");
}

/// The modules of one part of the house.
fn part(name: &str) -> Vec<(PathBuf, String)> {
    let (file, folder) = (format!("src/{name}.rs"), format!("src/{name}/"));
    let of_part = |path: &PathBuf| {
        let path = path.to_str().expect("a name in UTF-8");
        path == file || path.starts_with(&folder)
    };
    let found: Vec<_> = files("src").into_iter().filter(of_part).collect();
    assert!(!found.is_empty(), "there is no {name}");
    found
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (path.clone(), read(path)))
        .collect()
}

#[track_caller]
fn assert_ignorant(name: &str, of: &[&str]) {
    for (path, text) in part(name) {
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for what in of {
                assert!(
                    !line.contains(what),
                    "{} knows {what}: {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn who_must_not_know_whom_does_not() {
    let exits = ["ExitCode", "exit::"];
    assert_ignorant(
        "callback",
        &["crate::runner", "crate::config", "crate::scud"],
    );
    assert_ignorant("callback", &exits);
    assert_ignorant("runner", &["crate::callback", "crate::config"]);
    assert_ignorant("runner", &exits);
    assert_ignorant(
        "scud",
        &["crate::callback", "crate::config", "crate::runner"],
    );
    assert_ignorant("task", &["serde", "std::fs", "std::env", "tokio"]);
    assert_ignorant("process", &["agent::", "Agent", "scud"]);
    let spawning = [
        "tokio::process",
        "process::Command",
        "kill_process",
        "rustix::",
    ];
    assert_ignorant("runner/agent", &spawning);
}

#[test]
fn a_panic_unwinds() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("panic = \"unwind\""));
    assert!(!manifest.contains("panic = \"abort\""));
}

#[test]
fn ci_begins_with_the_readme_s_tests() {
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
