//! Prepares three versions of one graph for git's merge: if only one side changed a status letter, the
//! letter becomes the same in all three, so that changes in adjacent lines do not conflict.
//!
//! Only status letters are changed. git merges all other changes, and reports a conflict for a letter that both sides
//! changed in different ways. No I/O.

use std::collections::HashMap;

use super::lexer::{Item, Items};
use super::row::Row;

/// For each phase and id, the offset of the status letter in bytes, and the letter. `None` if the id is defined twice,
/// because it is then unknown which of the two tasks is meant.
type StatusLetters = HashMap<(String, String), Option<(usize, u8)>>;

/// Unifies the letters that only one side changed. Changes nothing if one of the versions is not a graph.
pub fn unify_status_letters(base: &mut [u8], ours: &mut [u8], theirs: &mut [u8]) {
    let (Some(base_letters), Some(our_letters), Some(their_letters)) = (
        status_letters(base),
        status_letters(ours),
        status_letters(theirs),
    ) else {
        return;
    };
    for (task, base_letter) in base_letters {
        let find = |letters: &StatusLetters| letters.get(&task).copied().flatten();
        let (
            Some((base_offset, base_letter)),
            Some((our_offset, our_letter)),
            Some((their_offset, their_letter)),
        ) = (base_letter, find(&our_letters), find(&their_letters))
        else {
            continue;
        };
        let unified = match (our_letter == base_letter, their_letter == base_letter) {
            (_, true) => our_letter,
            (true, false) => their_letter,
            (false, false) if our_letter == their_letter => our_letter,
            (false, false) => continue,
        };
        base[base_offset] = unified;
        ours[our_offset] = unified;
        theirs[their_offset] = unified;
    }
}

/// The status letters of all tasks; `None` if the text is not a graph.
fn status_letters(graph: &[u8]) -> Option<StatusLetters> {
    let text = std::str::from_utf8(graph).ok()?;
    let (mut letters, mut phase) = (StatusLetters::new(), String::new());
    for item in Items::of(text) {
        match item.ok()? {
            Item::Phase { tag, .. } | Item::Name(tag) => tag.clone_into(&mut phase),
            Item::Node(node) => {
                let Ok(row) = Row::of(node) else { continue };
                let letter = Some((row.status_offset, row.status.letter()));
                letters
                    .entry((phase.clone(), node.id().to_owned()))
                    .and_modify(|entry| *entry = None)
                    .or_insert(letter);
            }
            _ => {}
        }
    }
    Some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph with one phase. Each row ends after the status.
    fn graph(rows: &[&str]) -> Vec<u8> {
        let rows = rows.join(" | 1 | M\n");
        format!("# SCUD Graph v1\n# Phase: p\n\n@nodes\n{rows} | 1 | M\n").into_bytes()
    }

    fn unify(versions: [&[&str]; 3]) -> [String; 3] {
        let [mut base, mut ours, mut theirs] = versions.map(graph);
        unify_status_letters(&mut base, &mut ours, &mut theirs);
        [base, ours, theirs].map(|version| String::from_utf8(version).unwrap())
    }

    fn graphs(versions: [&[&str]; 3]) -> [String; 3] {
        versions.map(|rows| String::from_utf8(graph(rows)).unwrap())
    }

    #[test]
    fn a_letter_that_one_side_changed_becomes_the_same_in_all_versions() {
        let all = unify([
            &["1 | a | P", "2 | b | P", "3 | c | P", "4 | d | P"],
            &["1 | a | D", "2 | b | P", "3 | c | D", "4 | d | P"],
            &["1 | a | P", "2 | b | D", "3 | c | D", "4 | d | P"],
        ]);
        let one: &[&str] = &["1 | a | D", "2 | b | D", "3 | c | D", "4 | d | P"];
        assert_eq!(all, graphs([one, one, one]));
    }

    #[test]
    fn a_letter_that_both_sides_changed_differently_stays_and_so_does_all_other_text() {
        let versions: [&[&str]; 3] = [
            &["1 | a | P", "2 | b | P"],
            &["1 | a | D", "2 | new title | P"],
            &["1 | a | F", "2 | b | P", "3 | new | P"],
        ];
        assert_eq!(unify(versions), graphs(versions));
    }

    #[test]
    fn a_letter_is_unified_although_the_title_in_its_line_changed() {
        let all = unify([&["1 | a | P"], &["1 | longer title | P"], &["1 | a | D"]]);
        assert_eq!(
            all,
            graphs([&["1 | a | D"], &["1 | longer title | D"], &["1 | a | D"]])
        );
    }

    #[test]
    fn duplicate_ids_and_text_that_is_not_a_graph_stay_unchanged() {
        let versions: [&[&str]; 3] = [
            &["1 | a | P", "1 | b | P"],
            &["1 | a | D", "1 | b | P"],
            &["1 | a | P", "1 | b | D"],
        ];
        assert_eq!(unify(versions), graphs(versions));
        let (mut base, mut ours) = (graph(&["1 | a | P"]), graph(&["1 | a | D"]));
        let mut theirs = b"\xff".to_vec();
        unify_status_letters(&mut base, &mut ours, &mut theirs);
        assert_eq!(base, graph(&["1 | a | P"]));
    }
}
