//! The settings, commands, flags and types of JSON objects that the documents name exist.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{list, markdown, read, text, vocabulary};

/// Variables that the documents may name although they are not settings.
const OTHER_VARIABLES: [&str; 2] = ["DESCARTES_PROMPT_FILE", "DESCARTES_REVISION"];

/// The names of variables in a text that begin with this prefix.
fn names_with_prefix<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix).map(move |(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn every_setting_that_a_document_names_exists() {
    let vocabulary = vocabulary();
    let known: BTreeSet<&str> = list(&vocabulary, "settings")
        .iter()
        .flat_map(|setting| [text(setting, "variable"), text(setting, "long_variable")])
        .chain(OTHER_VARIABLES)
        .collect();
    let mut seen = 0;
    for path in markdown() {
        for name in names_with_prefix(&read(&path), "DESCARTES_") {
            // For example in "variables that begin with `DESCARTES_`".
            let is_prefix = name.ends_with('_');
            assert!(
                is_prefix || known.contains(name),
                "{}: {name} is not a known setting",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} names were found");
}

/// The pieces of code in a document: the lines of code blocks, and the texts in backticks.
fn pieces_of_code(document: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut in_block = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            pieces.push(line);
        } else {
            pieces.extend(line.split('`').skip(1).step_by(2));
        }
    }
    pieces
}

/// The arguments in a piece of code that calls the program; `None` if it does not call the program.
fn arguments(code: &str) -> Option<Vec<&str>> {
    const CALLS: [&str; 4] = [
        "descartes-worker ",
        "cargo run --release -- ",
        "cargo run -p descartes-worker -- ",
        "nix run . -- ",
    ];
    let call = CALLS
        .into_iter()
        .filter_map(|call| Some(code.find(call)? + call.len()))
        .max()?;
    // Words in quotes are arguments of another program.
    let unquoted = code[call..].split('\'').step_by(2);
    Some(unquoted.flat_map(str::split_whitespace).collect())
}

#[test]
fn every_command_and_flag_that_a_document_shows_exists() {
    let vocabulary = vocabulary();
    let commands = list(&vocabulary, "subcommands");
    let mut seen = 0;
    for path in markdown() {
        let document = read(&path);
        for words in pieces_of_code(&document).into_iter().filter_map(arguments) {
            let path = path.display();
            let first = words.first().copied().unwrap_or_default();
            let command = commands.iter().find(|command| command["name"] == first);
            let is_name = first.starts_with(|c: char| c.is_ascii_lowercase());
            assert!(
                command.is_some() || !is_name,
                "{path}: there is no command {first:?}"
            );
            seen += usize::from(is_name);
            // The first entry is the worker itself.
            let flags = command.unwrap_or(&commands[0])["flags"].as_array();
            let flags = flags.expect("a list of flags");
            for word in words.iter().filter(|word| word.starts_with("--")) {
                let flag = word.split('=').next().unwrap_or(word);
                assert!(
                    matches!(flag, "--help" | "--version")
                        || flags.iter().any(|known| known == flag),
                    "{path}: {first:?} has no flag {flag}"
                );
            }
        }
    }
    assert!(seen > 10, "only {seen} commands were found");
}

#[test]
fn every_type_of_json_object_is_in_the_document_and_in_the_schema() {
    let schema: Value = serde_json::from_str(&read("docs/cli.schema.json")).expect("JSON");
    let definitions = schema["$defs"].as_object().expect("definitions").values();
    let in_schema: BTreeSet<String> = definitions
        .filter_map(|definition| definition.pointer("/properties/type/const")?.as_str())
        .map(str::to_owned)
        .collect();
    let document = read("docs/json.md");
    let (_, types) = document
        .split_once("| type | meaning |")
        .expect("the table");
    let rows = types
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<String> = rows.map(|(word, _)| word.to_owned()).collect();
    assert_eq!(documented, in_schema);
}
