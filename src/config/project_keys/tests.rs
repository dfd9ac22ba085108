//! Tests which keys a project's file may have, and what the errors say.

use super::*;

fn mistakes(text: &str) -> String {
    read(text, &[]).unwrap_err().join("; ")
}

#[test]
fn every_setting_of_the_table_that_may_be_in_the_file_is_read_from_it() {
    for setting in WORKER_SETTINGS {
        let key = setting.key();
        let text = match setting.in_project_file {
            InProjectFile::Forbidden => continue,
            InProjectFile::Text => format!("{key} = \"builtin\""),
            InProjectFile::Number | InProjectFile::NumberUpToDefault => format!("{key} = 1"),
            InProjectFile::Texts => format!("{key} = [\"true\"]"),
            InProjectFile::DurationUpToDefault => format!("{key} = \"1s\""),
        };
        let project = read(&text, &[]).unwrap_or_else(|why| panic!("{why:?}"));
        assert_eq!(project.sources.len(), 1, "{text} has no effect");
        assert_eq!(project.sources[0].variable, setting.name());
        let ignored = read(&text, &[setting.variable]).unwrap();
        assert!(ignored.sources.is_empty(), "{text} wins over the variable");
    }
}

#[test]
fn every_other_setting_is_rejected_with_its_key_and_the_place_where_it_can_be_set() {
    for setting in WORKER_SETTINGS.iter().chain(&settings::DISPATCH_SETTINGS) {
        if setting.in_project_file == InProjectFile::Forbidden {
            let (key, name) = (setting.key(), setting.name());
            let why = mistakes(&format!("\n{key} = \"a-private-value\""));
            assert!(
                why.starts_with(&format!("line 2: {key} ")) && why.contains(name),
                "{why}"
            );
            assert!(!why.contains("a-private-value"), "{why}");
        }
    }
}

#[test]
fn a_mistake_is_named_with_its_line_and_what_would_be_right() {
    for (text, words) in [
        (
            "agnet = \"x\"",
            "line 1: agnet is not a known key; did you mean agent?",
        ),
        ("max-turns = 1", "did you mean max_turns?"),
        ("[[neds]]", "did you mean needs?"),
        ("colour = 1", "the keys are agent, agent_command, "),
        ("memory = \"1GiB\"", "belongs in a table [[needs]]"),
        (
            "checks = \"cargo test\"",
            "checks must be a list of strings, for example checks = [\"cargo test\"]",
        ),
        ("checks = [1]", "checks must be a list of strings"),
        ("checks = [\"a\\nb\"]", "which is not one line"),
        ("max_turns = \"5\"", "max_turns must be a number"),
        ("max_turns = 0", "max_turns = \"0\" is not a number from 1"),
        ("model = 3", "model must be a string"),
        ("model = \"\"", "model is empty"),
        ("agent = \"claude\"", "is not a kind of agent"),
        (
            "task_timeout = \"2h\"",
            "task_timeout = \"2h\" is longer than 1h, the default; only the operator can allow more",
        ),
        ("idle_timeout = \"0\"", "means no limit"),
        (
            "repairs = 2",
            "repairs = \"2\" is more than 1, the default; only the operator can allow more, with DESCARTES_REPAIRS",
        ),
        (
            "\"\\u001b[2J\" = 1",
            "line 1: \\u{1b}[2J is not a known key",
        ),
        (
            "task_timeout = 60",
            "task_timeout must be a string, for example task_timeout = \"10m\"",
        ),
        ("sample = \"../other\"", "sample must be the path"),
        ("sample = \"/etc\"", "sample must be the path"),
        ("callback_secret = \"\"", "is a secret"),
        (
            "callback_url = \"\"",
            "before it has the project; set --callback-url or CALLBACK_URL",
        ),
        (
            "branch = \"main\"",
            "is not for the project to decide; the operator can set --branch or DESCARTES_BRANCH",
        ),
        ("a = 1\nb = ", "line 2: "),
    ] {
        let why = mistakes(text);
        assert!(why.contains(words), "{text}: {why}");
    }
}

#[test]
fn a_limit_that_a_flag_or_a_variable_has_replaced_may_have_any_valid_value() {
    for (text, variable) in [
        ("task_timeout = \"2h\"", settings::TASK_TIMEOUT.variable),
        ("idle_timeout = \"2h\"", settings::IDLE_TIMEOUT.variable),
        ("idle_timeout = \"0\"", settings::IDLE_TIMEOUT.variable),
        ("repairs = 5", settings::REPAIRS.variable),
    ] {
        assert!(read(text, &[]).is_err(), "{text}");
        let project = read(text, &[variable]).unwrap_or_else(|why| panic!("{text}: {why:?}"));
        assert!(project.sources.is_empty(), "{text}");
    }
    assert!(
        read(
            "task_timeout = \"soon\"",
            &[settings::TASK_TIMEOUT.variable]
        )
        .is_err()
    );
}

#[test]
fn of_many_mistakes_the_first_are_listed_and_the_others_counted() {
    let count = 5000;
    let keys: Vec<String> = (0..count)
        .map(|number| format!("k{number} = 1\n"))
        .collect();
    let text = format!("repairs = true\n{}", keys.concat());
    let why = read(&text, &[]).unwrap_err();
    assert_eq!(why.len(), MAX_MISTAKES + 1);
    assert!(why[0].starts_with("line 1: repairs "), "{why:?}");
    assert!(why[19].starts_with("line 20: k18 "), "{why:?}");
    assert_eq!(why[20], format!("and {} more", count + 1 - MAX_MISTAKES));
    assert!(why.join("; ").len() < 8 << 10, "{why:?}");
}

#[test]
fn a_mistake_with_a_long_key_or_value_is_short() {
    let long = "x".repeat(60 << 10);
    for text in [
        format!("{long} = 1"),
        format!("agent = \"{long}\""),
        format!("checks = [\"{long}\\n\"]"),
        format!("a.{long} = 1\na.{long} = 1"),
    ] {
        let why = mistakes(&text);
        assert!(why.len() < 500, "{} bytes: {why}", why.len());
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_their_lines() {
    let why = mistakes("max_turns = \"5\"\ncolour = 1\nrepairs = 1000");
    let lines = ["line 1", "line 2", "line 3"].map(|line| why.find(line).expect(line));
    assert!(lines.is_sorted(), "{why}");
}
