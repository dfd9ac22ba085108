//! Tests where fields begin and end, and their escapes.

use proptest::prelude::*;

use super::*;
use crate::scud::samples::escape;

#[test]
fn a_field_ends_only_at_a_pipe_without_backslash() {
    let fields = |line| {
        Fields::of(line)
            .map(|f| (f.text, f.offset))
            .collect::<Vec<_>>()
    };
    assert_eq!(fields(r"a | b\|c |d"), [("a", 0), (r"b\|c", 4), ("d", 10)]);
    assert_eq!(fields(r"a\\| b\"), [(r"a\\", 0), (r"b\", 5)]);
    assert_eq!(fields(r"\n|\"), [(r"\n", 0), (r"\", 3)]);
    assert_eq!(fields(""), [("", 0)]);
    assert_eq!(fields("|"), [("", 0), ("", 1)]);
}

proptest! {
    #[test]
    fn an_escaped_title_is_unescaped_to_itself(title in any::<String>()) {
        prop_assert_eq!(unescape(&escape(&title)), title);
    }

    #[test]
    fn an_escaped_title_is_one_field(title in any::<String>()) {
        let line = format!("8 | {} | P", escape(&title));
        let fields: Vec<_> = Fields::of(&line).collect();
        prop_assert_eq!(fields.len(), 3);
        for field in fields {
            prop_assert!(line[field.offset..].starts_with(field.text));
        }
    }
}
