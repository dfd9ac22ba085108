//! Three versions of one graph, before git merges them: a letter that one side alone has changed
//! becomes the same in all three, so that changes of neighbouring lines are no conflict.
//!
//! Letters only: everything else, and a letter that both sides have changed, is for git. No I/O.

use std::collections::HashMap;

use super::graph::Row;
use super::lexer::{Item, Items};

/// Where a task's letter is, in bytes, and which one; `None` where the id is there twice, and
/// nobody can say which of the two is meant.
type Letters = HashMap<(String, String), Option<(usize, u8)>>;

/// Settles what can be settled. Where one of the versions is no graph, nothing can.
pub fn settle(base: &mut [u8], ours: &mut [u8], theirs: &mut [u8]) {
    let (Some(in_base), Some(in_ours), Some(in_theirs)) =
        (letters(base), letters(ours), letters(theirs))
    else {
        return;
    };
    for (task, in_base) in in_base {
        let there = |letters: &Letters| letters.get(&task).copied().flatten();
        let (Some((base_at, was)), Some((ours_at, our)), Some((theirs_at, their))) =
            (in_base, there(&in_ours), there(&in_theirs))
        else {
            continue;
        };
        let settled = match (our == was, their == was) {
            (_, true) => our,
            (true, false) => their,
            (false, false) if our == their => our,
            (false, false) => continue,
        };
        base[base_at] = settled;
        ours[ours_at] = settled;
        theirs[theirs_at] = settled;
    }
}

/// The letters of all tasks; `None` where the text is no graph.
fn letters(graph: &[u8]) -> Option<Letters> {
    let text = std::str::from_utf8(graph).ok()?;
    let (mut letters, mut phase) = (Letters::new(), String::new());
    for item in Items::of(text) {
        match item.ok()? {
            Item::Phase { tag, .. } | Item::Name(tag) => tag.clone_into(&mut phase),
            Item::Node(node) => {
                let Ok(row) = Row::of(node) else { continue };
                let found = Some((row.status_at, row.status.letter()));
                letters
                    .entry((phase.clone(), node.id().to_owned()))
                    .and_modify(|known| *known = None)
                    .or_insert(found);
            }
            _ => {}
        }
    }
    Some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One phase with these rows.
    fn graph(rows: &[&str]) -> Vec<u8> {
        let rows = rows.join(" | 1 | M\n");
        format!("# SCUD Graph v1\n# Phase: p\n\n@nodes\n{rows} | 1 | M\n").into_bytes()
    }

    fn settled(versions: [&[&str]; 3]) -> [String; 3] {
        let [mut base, mut ours, mut theirs] = versions.map(graph);
        settle(&mut base, &mut ours, &mut theirs);
        [base, ours, theirs].map(|version| String::from_utf8(version).unwrap())
    }

    fn as_given(versions: [&[&str]; 3]) -> [String; 3] {
        versions.map(|rows| String::from_utf8(graph(rows)).unwrap())
    }

    #[test]
    fn a_letter_that_one_side_changed_is_that_side_s_everywhere() {
        let all = settled([
            &["1 | a | P", "2 | b | P", "3 | c | P", "4 | d | P"],
            &["1 | a | D", "2 | b | P", "3 | c | D", "4 | d | P"],
            &["1 | a | P", "2 | b | D", "3 | c | D", "4 | d | P"],
        ]);
        let one: &[&str] = &["1 | a | D", "2 | b | D", "3 | c | D", "4 | d | P"];
        assert_eq!(all, as_given([one, one, one]));
    }

    #[test]
    fn a_letter_that_both_changed_differently_is_left_and_so_is_everything_else() {
        let versions: [&[&str]; 3] = [
            &["1 | a | P", "2 | b | P"],
            &["1 | a | D", "2 | new title | P"],
            &["1 | a | F", "2 | b | P", "3 | new | P"],
        ];
        assert_eq!(settled(versions), as_given(versions));
    }

    #[test]
    fn a_letter_is_settled_whatever_else_of_its_line_has_changed() {
        let all = settled([&["1 | a | P"], &["1 | longer title | P"], &["1 | a | D"]]);
        assert_eq!(
            all,
            as_given([&["1 | a | D"], &["1 | longer title | D"], &["1 | a | D"]])
        );
    }

    #[test]
    fn ids_that_are_there_twice_and_graphs_that_are_none_are_left() {
        let versions: [&[&str]; 3] = [
            &["1 | a | P", "1 | b | P"],
            &["1 | a | D", "1 | b | P"],
            &["1 | a | P", "1 | b | D"],
        ];
        assert_eq!(settled(versions), as_given(versions));
        let (mut base, mut ours) = (graph(&["1 | a | P"]), graph(&["1 | a | D"]));
        let mut theirs = b"\xff".to_vec();
        settle(&mut base, &mut ours, &mut theirs);
        assert_eq!(base, graph(&["1 | a | P"]));
    }
}
