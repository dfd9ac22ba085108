//! Tests the kinds of lines, and the errors for broken ones.

use super::*;

fn items(text: &str) -> Vec<Item<'_>> {
    Items::of(text).map(Result::unwrap).collect()
}

fn error(text: &str) -> (usize, String) {
    let error = Items::of(text)
        .find_map(Result::err)
        .expect("a syntax error");
    (error.line, error.message)
}

fn texts(text: &str) -> Vec<&str> {
    let found = items(text).into_iter().filter_map(|item| match item {
        Item::Text(line) => Some(line),
        _ => None,
    });
    found.collect()
}

fn node_ids(text: &str) -> Vec<&str> {
    let found = items(text).into_iter().filter_map(|item| match item {
        Item::Node(node) => Some(node.id()),
        _ => None,
    });
    found.collect()
}

#[test]
fn an_empty_file_has_no_items() {
    assert_eq!(items(""), []);
    assert_eq!(items(" \r\n\n \u{3000}\n"), []);
}

#[test]
fn the_old_epic_header_and_any_version_name_a_phase() {
    for header in [
        "# SCUD Graph v1\n# Epic: a",
        "\n  # SCUD Graph v99 x\r\n# Phase:a \r\n",
    ] {
        let [Item::Phase { tag, .. }] = items(header)[..] else {
            panic!("{header:?}");
        };
        assert_eq!(tag, "a");
    }
}

#[test]
fn a_broken_header_is_an_error_with_its_line() {
    let good = "# SCUD Graph v1\n# Phase: a\n@nodes\n1 | t | P | 1 | M\n";
    let expected = "expected `# SCUD Graph v1`, found `oops`".to_owned();
    assert_eq!(error("\noops\n"), (2, expected.clone()));
    assert_eq!(error(&format!("{good}\n---\n\noops\n")), (8, expected));
    assert_eq!(
        error("# SCUD Graph v1\n\n# Phase: a"),
        (2, "expected `# Phase: <tag>`, found ``".to_owned())
    );
    assert_eq!(
        error("# SCUD Graph v1"),
        (
            2,
            "expected `# Phase: <tag>`, found the end of the file".to_owned()
        )
    );
    assert_eq!(
        error(&format!("\u{feff}{good}")),
        (
            1,
            "the file begins with a byte order mark, which scud does not accept".to_owned()
        )
    );
    assert_eq!(
        error(&format!("{good}@meta\nname b\n")),
        (
            6,
            "the name of a phase must come before its nodes".to_owned()
        )
    );
}

#[test]
fn the_items_end_after_a_syntax_error() {
    let mut items = Items::of("oops\nagain\n");
    assert!(items.next().unwrap().is_err());
    assert_eq!(items.next(), None);
}

#[test]
fn an_error_message_quotes_only_the_beginning_of_a_long_line() {
    let (_, message) = error(&"\u{1b}".repeat(1 << 20));
    assert!(message.len() < 400 && message.ends_with("…`"), "{message}");
    assert!(!message.contains('\u{1b}'));
}

#[test]
fn an_indented_line_below_a_heading_is_text_even_if_it_looks_like_something_else() {
    let text = "# SCUD Graph v1\n# Phase: a\n@details\n1 | details |\n  ---\n  @nodes\n  # Phase: x\n  2 | b | P | 1 | M\n\n    deep\n  }\n---\n\n# SCUD Graph v1\n# Phase: b\n";
    assert_eq!(
        texts(text),
        [
            "---",
            "@nodes",
            "# Phase: x",
            "2 | b | P | 1 | M",
            "",
            "  deep",
            "}"
        ]
    );
    assert_eq!(node_ids(text), [""; 0]);
}

#[test]
fn sections_of_a_newer_scud_are_skipped() {
    let text = "# SCUD Graph v1\n# Phase: a\n@nodes\n1 | t | P | 1 | M\n@nodes2\n2 | no | P | 1 | M\n@weave\nw:1 | x | 1 | Y | Mutex | k\n@nodes\n3 | t | P | 1 | M";
    assert_eq!(node_ids(text), ["1", "3"]);
}

#[test]
fn comments_blank_lines_and_braces_between_nodes_are_skipped() {
    let text = "# SCUD Graph v1\n# Phase: a\nstray\n@meta\n@nodes \n # c | c | P | 1 | M\n\n}\n\t7 | t | P | 1 | M\n";
    assert_eq!(node_ids(text), ["7"]);
}

#[test]
fn only_an_arrow_is_read_as_a_dependency() {
    let text = "# SCUD Graph v1\n# Phase: a\n@edges\n1 -> 2\n1 ~~ 3\n1 >> 4\n1 != 5\n1->x:6\n";
    let edges: Vec<_> = items(text)
        .into_iter()
        .filter_map(|item| match item {
            Item::Edge(line) => parse_edge(line),
            _ => None,
        })
        .collect();
    assert_eq!(edges, [("1", "2"), ("1", "x:6")]);
}

#[test]
fn a_very_long_tag_is_an_error() {
    let tag = "x".repeat(257);
    let words = format!("the tag `{}…` is longer than 256 bytes", &tag[..40]);
    assert_eq!(
        error(&format!("# SCUD Graph v1\n# Phase: {tag}\n")),
        (2, words.clone())
    );
    assert_eq!(
        error(&format!(
            "# SCUD Graph v1\n# Phase: a\n@meta {{\nname {tag}\n}}\n"
        )),
        (4, words)
    );
    let longest = &tag[1..];
    assert!(matches!(
        items(&format!("# SCUD Graph v1\n# Phase: {longest}\n"))[..],
        [Item::Phase { .. }]
    ));
}
