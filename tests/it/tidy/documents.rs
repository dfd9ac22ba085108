//! For readers of the documents: the tables and names in them are the same as in the program.
//!
//! `descartes-worker vocabulary` prints the program's own tables; every test here compares a
//! document with them.

mod names;

use std::collections::BTreeSet;

use serde_json::Value;

use super::{markdown, read, section};
use crate::support::{Worker, schema};

/// The output of `descartes-worker vocabulary`.
fn vocabulary() -> Value {
    let ended = Worker::without_settings().arg("vocabulary").run();
    ended.assert_code(0);
    serde_json::from_str(&ended.stdout).expect("the vocabulary is JSON")
}

/// The list with this name in the vocabulary; it must not be empty.
#[track_caller]
fn list<'a>(vocabulary: &'a Value, name: &str) -> &'a Vec<Value> {
    let list = vocabulary[name].as_array();
    list.filter(|list| !list.is_empty())
        .unwrap_or_else(|| panic!("the vocabulary has no {name}"))
}

/// A text field of an entry.
#[track_caller]
fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} is not a text in {entry}"))
}

/// The cells of every table row in a text, except the rows with headings. Backticks are removed.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with('|') {
            continue;
        }
        if lines.peek().is_some_and(|next| next.starts_with("| ---")) {
            lines.next();
            continue;
        }
        // A bar inside a cell is written `\|`.
        let row = line.trim().trim_matches('|').replace("\\|", "\u{0}");
        let cells = row.split('|').map(|cell| {
            let cell = cell.trim().replace('`', "");
            cell.replace('\u{0}', "|")
        });
        rows.push(cells.collect());
    }
    rows
}

/// Asserts that the tables of a section have exactly these rows, in any order. Compares only the first `columns` cells.
#[track_caller]
fn assert_rows(document: &str, heading: &str, columns: usize, expected: &[Vec<String>]) {
    let whole = read(document);
    let found: BTreeSet<Vec<String>> = rows(section(&whole, heading))
        .into_iter()
        .map(|row| row.into_iter().take(columns).collect())
        .collect();
    let expected: BTreeSet<Vec<String>> = expected.iter().cloned().collect();
    let format_rows = |rows: Vec<&Vec<String>>| {
        let rows = rows
            .into_iter()
            .map(|row| format!("| {} |", row.join(" | ")));
        rows.collect::<Vec<_>>().join("\n")
    };
    let missing = format_rows(expected.difference(&found).collect());
    let wrong = format_rows(found.difference(&expected).collect());
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "{document}, {heading}: these rows are missing:\n{missing}\nand these should not be there:\n{wrong}"
    );
}

#[test]
fn the_reference_lists_every_setting_as_the_program_knows_it() {
    let vocabulary = vocabulary();
    let settings: Vec<_> = list(&vocabulary, "settings")
        .iter()
        .map(|setting| {
            let default = match setting["required"].as_bool() {
                Some(true) => "required",
                _ => setting["default"]
                    .as_str()
                    .or(setting["when_unset"].as_str())
                    .unwrap_or("–"),
            };
            vec![
                setting["flag"].as_str().unwrap_or("–").to_owned(),
                text(setting, "variable").to_owned(),
                default.to_owned(),
                text(setting, "meaning").to_owned(),
            ]
        })
        .collect();
    assert_rows("docs/reference.md", "## Settings", 4, &settings);
}

#[test]
fn the_reference_lists_every_setting_that_a_project_may_set() {
    let vocabulary = vocabulary();
    let keys: Vec<_> = list(&vocabulary, "settings")
        .iter()
        .filter(|setting| !setting["key"].is_null())
        .map(|setting| {
            ["key", "kind_in_file", "variable"].map(|field| text(setting, field).to_owned())
        })
        .map(Vec::from)
        .collect();
    assert_rows("docs/reference.md", "## Settings of the project", 3, &keys);
}

#[test]
fn the_settings_that_the_program_asks_for_are_the_required_ones() {
    let vocabulary = vocabulary();
    let required = list(&vocabulary, "settings")
        .iter()
        .filter(|setting| setting["required"] == true)
        .map(|setting| text(setting, "variable").to_owned());
    let stderr = Worker::without_settings()
        .run()
        .assert_code(2)
        .stderr
        .clone();
    let missing = stderr
        .lines()
        .filter_map(|line| line.trim().split_once(": is missing"))
        .map(|(name, _)| name.to_owned());
    assert_eq!(
        missing.collect::<BTreeSet<_>>(),
        required.collect::<BTreeSet<_>>()
    );
}

#[test]
fn the_reference_lists_every_command() {
    let vocabulary = vocabulary();
    let commands: Vec<_> = list(&vocabulary, "subcommands")
        .iter()
        .filter(|command| command["hidden"] == false)
        .map(|command| {
            vec![
                text(command, "name").to_owned(),
                text(command, "about").to_owned(),
            ]
        })
        .collect();
    assert_rows("docs/reference.md", "## Commands", 2, &commands);
}

#[test]
fn the_reference_lists_the_exit_codes_of_every_command() {
    let vocabulary = vocabulary();
    let codes: Vec<_> = list(&vocabulary, "exit_codes")
        .iter()
        .map(|entry| {
            vec![
                text(entry, "command").to_owned(),
                entry["code"].to_string(),
                text(entry, "meaning").to_owned(),
            ]
        })
        .collect();
    assert_rows("docs/reference.md", "## Exit codes", 3, &codes);
}

/// The list of words at `/$defs/{definition}` in the schema of callbacks.
fn words_in_schema(definition: &str) -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(schema::CALLBACK_SCHEMA).expect("the schema is JSON");
    let words = schema
        .pointer(&format!("/$defs/{definition}"))
        .expect(definition);
    let words = words.as_array().expect("a list").iter();
    words
        .map(|word| word.as_str().expect("a word").to_owned())
        .collect()
}

#[test]
fn the_failure_reasons_are_the_same_in_every_document() {
    let vocabulary = vocabulary();
    let reasons: Vec<_> = list(&vocabulary, "failure_reasons")
        .iter()
        .map(|reason| {
            let retryable = if reason["retryable"] == true {
                "yes"
            } else {
                "no"
            };
            vec![text(reason, "word").to_owned(), retryable.to_owned()]
        })
        .collect();
    assert_rows("docs/reference.md", "## Failure reasons", 2, &reasons);
    assert_rows("docs/protocol.md", "### Failure reasons", 2, &reasons);
    let words: BTreeSet<String> = reasons.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(words_in_schema("failure/properties/reason/enum"), words);
}

#[test]
fn the_table_of_git_errors_is_the_same_as_in_the_program() {
    let vocabulary = vocabulary();
    let trouble = list(&vocabulary, "git_errors").iter().map(|entry| {
        let retryable = if entry["retryable"] == true {
            "yes"
        } else {
            "no"
        };
        vec![text(entry, "phrase").replace('`', ""), retryable.to_owned()]
    });
    let mut rows: Vec<Vec<String>> = trouble.collect();
    rows.push(vec!["anything else".to_owned(), "yes".to_owned()]);
    assert_rows("docs/operations.md", "## Trouble with git", 2, &rows);
}

#[test]
fn the_kinds_of_agents_are_the_same_in_every_document() {
    let vocabulary = vocabulary();
    let kinds: BTreeSet<String> = list(&vocabulary, "agent_kinds")
        .iter()
        .map(|kind| kind.as_str().expect("a word").to_owned())
        .collect();
    let rows: Vec<_> = kinds.iter().map(|kind| vec![kind.clone()]).collect();
    assert_rows("docs/agents.md", "## The kinds of agents", 1, &rows);
    assert_eq!(words_in_schema("agent-kind/examples"), kinds);
    let settings = list(&vocabulary, "settings");
    let agent = settings
        .iter()
        .find(|setting| setting["variable"] == "DESCARTES_AGENT")
        .expect("the setting of the agent");
    let protocol = read("docs/protocol.md");
    for kind in kinds {
        assert!(text(agent, "meaning").contains(&kind), "{kind}: {agent}");
        assert!(
            protocol.contains(&format!("`{kind}`")),
            "docs/protocol.md does not name {kind}"
        );
    }
}

#[test]
fn the_phases_are_the_same_in_schema_and_protocol() {
    let vocabulary = vocabulary();
    let phases: BTreeSet<String> = list(&vocabulary, "phases")
        .iter()
        .map(|phase| phase.as_str().expect("a word").to_owned())
        .collect();
    assert_eq!(words_in_schema("progress/properties/phase/enum"), phases);
    let protocol = read("docs/protocol.md");
    for phase in phases {
        assert!(
            protocol.contains(&format!("`{phase}`")),
            "docs/protocol.md does not name {phase}"
        );
    }
}

#[test]
fn the_readme_explains_every_letter_of_the_graph() {
    let vocabulary = vocabulary();
    let letters: Vec<_> = list(&vocabulary, "task_statuses")
        .iter()
        .map(|status| {
            vec![
                text(status, "letter").to_owned(),
                text(status, "name").to_owned(),
            ]
        })
        .collect();
    assert_rows("README.md", "### The letters", 2, &letters);
}

#[test]
fn the_environment_of_an_agent_is_documented_variable_by_variable() {
    let vocabulary = vocabulary();
    let documented = read("docs/agents.md");
    let documented = section(&documented, "## The environment of an agent");
    for list_name in ["passed_on_variables", "model_variables"] {
        for variable in list(&vocabulary, list_name) {
            let variable = variable.as_str().expect("a name");
            assert!(
                documented.contains(&format!("`{variable}`")),
                "docs/agents.md does not name {variable}, one of the {list_name}"
            );
        }
    }
}

#[test]
fn the_names_that_make_a_variable_a_secret_are_documented() {
    let vocabulary = vocabulary();
    let documented = read("docs/reference.md");
    let documented = section(&documented, "## Secrets");
    for ending in list(&vocabulary, "secret_endings") {
        let ending = ending.as_str().expect("an ending");
        assert!(
            documented.contains(&format!("`{ending}`")),
            "docs/reference.md does not name the ending {ending}"
        );
    }
    let shortest = vocabulary["limits"]["shortest_secret_bytes"].to_string();
    assert!(documented.contains(&format!("at least {shortest} bytes")));
}

#[test]
fn the_table_of_timeouts_has_the_defaults_of_the_settings() {
    let vocabulary = vocabulary();
    let settings = list(&vocabulary, "settings");
    let document = read("docs/operations.md");
    let mut compared = 0;
    for row in rows(section(&document, "## Timeouts")) {
        let Some(setting) = settings
            .iter()
            .find(|setting| setting["variable"] == row[0].as_str())
        else {
            continue;
        };
        assert_eq!(setting["default"], row[1].as_str(), "{row:?}");
        compared += 1;
    }
    let durations = settings.iter().filter(|setting| {
        let default = setting["default"].as_str().unwrap_or_default();
        default.starts_with(|c: char| c.is_ascii_digit()) && default.ends_with(['s', 'm', 'h'])
    });
    assert_eq!(compared, durations.count(), "a timeout is missing");
}

#[test]
fn the_shares_of_the_stop_window_are_documented() {
    let vocabulary = vocabulary();
    let limits = &vocabulary["limits"];
    let document = read("docs/operations.md");
    let document = section(&document, "## Timeouts");
    for (limit, unit) in [
        ("agent_share_of_stop_window", " %"),
        ("hand_over_share_of_stop_window", " %"),
    ] {
        let percent = limits[limit].as_f64().expect("a share") * 100.0;
        assert!(
            document.contains(&format!("{percent:.0}{unit}")),
            "docs/operations.md does not say {limit}: {percent:.0}{unit}"
        );
    }
    let grace = limits["kill_grace_ms"].as_u64().expect("a number") / 1000;
    assert!(document.contains(&format!("{grace} s")), "{grace} s");
    let margin = limits["stop_window_margin_ms"].to_string();
    assert!(document.contains(&format!("{margin} ms")), "{margin} ms");
}

#[test]
fn the_protocol_has_the_sizes_of_the_reported_output() {
    let vocabulary = vocabulary();
    let protocol = read("docs/protocol.md");
    for (limit, row) in [
        ("output_head_bytes", "| `result.output.head` |"),
        ("output_tail_bytes", "| `result.output.tail` |"),
        ("heartbeat_output_bytes", "| `output.text` |"),
    ] {
        let size = vocabulary["limits"][limit].as_u64().expect("a number") / 1024;
        let row = protocol.lines().find(|line| line.starts_with(row));
        assert!(
            row.is_some_and(|row| row.contains(&format!("{size} KiB"))),
            "{limit} is {size} KiB, and the row is {row:?}"
        );
    }
}

#[test]
fn the_readme_has_at_most_150_lines() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines; 150 are allowed");
}
