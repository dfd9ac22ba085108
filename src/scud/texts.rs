//! The texts of all tasks of a graph, from the sections `@details`.

use std::collections::HashMap;

use super::lexer::{Item, Items};
use super::search::id_in_phase;

/// The texts of one task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskTexts {
    pub description: Option<String>,
    pub details: Option<String>,
    pub test_strategy: Option<String>,
}

impl TaskTexts {
    /// Sets a field. If a graph has two texts for one field, the last one counts, as in SCUD.
    pub(super) fn set(&mut self, field: &str, content: &str) {
        // Blank lines before and after a text only separate it from other lines; those inside belong to it.
        let content = content.trim_end().trim_start_matches('\n');
        let content = (!content.is_empty()).then(|| content.to_owned());
        match field {
            "description" => self.description = content,
            "details" => self.details = content,
            "test_strategy" => self.test_strategy = content,
            _ => {}
        }
    }
}

/// The texts of all tasks that have texts, by phase and id. Stops reading at the first syntax error.
pub fn task_texts(text: &str) -> HashMap<(String, String), TaskTexts> {
    let mut all: HashMap<(String, String), TaskTexts> = HashMap::new();
    let mut tag = "";
    // The id, the field and the lines of the text that is being read.
    let mut open_text: Option<(&str, &str, String)> = None;
    let mut store = |tag: &str, finished: Option<(&str, &str, String)>| {
        if let Some((id, field, content)) = finished {
            let key = (tag.to_owned(), id_in_phase(tag, id).to_owned());
            all.entry(key).or_default().set(field, &content);
        }
    };
    for item in Items::of(text).map_while(Result::ok) {
        match item {
            Item::Phase { tag: next, .. } => {
                store(tag, open_text.take());
                tag = next;
            }
            Item::Name(name) => tag = name,
            Item::Heading { id, field } => {
                store(tag, open_text.take());
                open_text = Some((id, field, String::new()));
            }
            Item::Text(line) => {
                if let Some((_, _, content)) = &mut open_text {
                    content.push_str(line);
                    content.push('\n');
                }
            }
            _ => {}
        }
    }
    store(tag, open_text.take());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_all_phases_are_found_by_phase_and_id() {
        let graph = "# SCUD Graph v1\n# Phase: house\n\n@nodes\n1 | A | P | 1 | H\n\n@details\n1 | description |\n  One.\n\n  Two.\n\
            1 | test_strategy |\n  Look.\n\n---\n\n# SCUD Graph v1\n# Phase: garden\n\n@nodes\n1 | B | P | 1 | H\n\n@details\n1 | details |\n  Dig.\n";
        let texts = task_texts(graph);
        let text = |phase: &str| &texts[&(phase.to_owned(), "1".to_owned())];
        assert_eq!(text("house").description.as_deref(), Some("One.\n\nTwo."));
        assert_eq!(text("house").test_strategy.as_deref(), Some("Look."));
        assert_eq!(text("house").details, None);
        assert_eq!(text("garden").details.as_deref(), Some("Dig."));
        assert_eq!(texts.len(), 2);
    }
}
