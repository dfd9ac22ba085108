//! The needs of tasks, such as memory or an engine: the tables `[[needs]]` in the project's `.descartes.toml`.
//! No I/O. Each table has conditions and needs. If several tables fit a task, a later one overrides an earlier one.

use std::collections::HashMap;

use serde::Deserialize;

use super::engine::{EngineKind, TaskNeeds, parse_image_name};
use crate::amounts::{parse_memory, parse_nano_cpus};
use crate::excerpt::{first_bytes, visible};
use crate::scud::{TaskGraph, TaskNode};

/// The maximum length of the message about a syntax error, in bytes.
const MAX_MESSAGE_LENGTH: usize = 1000;

/// The part of `.descartes.toml` that this module reads. The other keys are settings, which the caller validates.
#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    needs: Vec<Table>,
}

/// One table. A table without conditions fits every task.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Fits tasks with this complexity, or a higher one.
    complexity: Option<u32>,
    /// Fits tasks of these phases.
    tags: Option<Vec<String>>,
    /// Fits these tasks. A name is `phase:id`, or an id alone for the tasks with this id in all phases.
    tasks: Option<Vec<String>>,
    memory: Option<String>,
    cpus: Option<f64>,
    image: Option<String>,
    engine: Option<String>,
}

impl Table {
    /// Whether a task meets all conditions of the table.
    fn fits(&self, task: &TaskNode) -> bool {
        let is_named = |tasks: &Vec<String>| {
            tasks
                .iter()
                .any(|name| *name == task.key || *name == task.id)
        };
        self.complexity
            .is_none_or(|minimum| task.complexity >= minimum)
            && self
                .tags
                .as_ref()
                .is_none_or(|tags| tags.contains(&task.phase))
            && self.tasks.as_ref().is_none_or(is_named)
    }

    /// The needs of the table, or a message about its first mistake.
    fn needs(&self) -> Result<TaskNeeds, String> {
        let quoted = |name: &str, text: &str, why: String| format!("{name} = {text:?} {why}");
        let memory = self
            .memory
            .as_deref()
            .map(|text| parse_memory(text).map_err(|why| quoted("memory", text, why)));
        let cpus = self.cpus.map(|number| {
            let text = number.to_string();
            parse_nano_cpus(&text).map_err(|why| quoted("cpus", &text, why))
        });
        let engine = self.engine.as_deref().map(|text| {
            EngineKind::of_word(text).ok_or_else(|| {
                let words = EngineKind::ALL.map(EngineKind::word).join(", ");
                quoted("engine", text, format!("is none of {words}"))
            })
        });
        let image = self.image.as_deref().map(|text| {
            parse_image_name(text)
                .map_err(|why| format!("image must be the name of an image: {text:?} {why}"))
        });
        Ok(TaskNeeds {
            memory: memory.transpose()?,
            nano_cpus: cpus.transpose()?,
            image: image.transpose()?,
            engine: engine.transpose()?,
        })
    }
}

/// The needs of a graph's tasks, by the key of the task. Tasks that no table fits are left out.
///
/// # Errors
/// A sentence about the first mistake in the file's text.
pub fn read(text: &str, graph: &TaskGraph) -> Result<HashMap<String, TaskNeeds>, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        // The error quotes the line, which may be as long as the file.
        visible(first_bytes(&error.to_string(), MAX_MESSAGE_LENGTH).trim_end())
    })?;
    let mut tables_with_needs = Vec::new();
    for (number, table) in (1..).zip(&file.needs) {
        let needs = table.needs();
        tables_with_needs.push((
            table,
            needs.map_err(|why| format!("in table {number} of [[needs]], {why}"))?,
        ));
    }
    let mut all = HashMap::new();
    for task in &graph.tasks {
        let fitting = tables_with_needs
            .iter()
            .filter(|(table, _)| table.fits(task));
        let needs = fitting.fold(TaskNeeds::default(), |needs, (_, later)| {
            needs.overridden_by(later)
        });
        if needs != TaskNeeds::default() {
            all.insert(task.key.clone(), needs);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAPH: &str = "# SCUD Graph v1\n# Phase: web\n\n@nodes\n1 | A | P | 2 | H\n2 | B | P | 8 | H\n---\n\n# SCUD Graph v1\n# Phase: api\n\n@nodes\n2 | C | P | 13 | H\n";

    fn needs_in(text: &str) -> Result<HashMap<String, TaskNeeds>, String> {
        read(text, &TaskGraph::parse(GRAPH).unwrap())
    }

    #[test]
    fn a_table_fits_tasks_that_meet_all_its_conditions_and_a_later_one_overrides_an_earlier_one() {
        let needs = needs_in(
            "[[needs]]\ncomplexity = 8\nmemory = \"4GiB\"\ncpus = 2\n\n\
            [[needs]]\ntags = [\"api\"]\ncomplexity = 8\ncpus = 1.5\nengine = \"fly\"\n\n\
            [[needs]]\ntasks = [\"web:1\"]\nimage = \"tools@sha256:12\"\n",
        )
        .unwrap();
        let memory = Some(4 << 30);
        assert_eq!(needs.len(), 3);
        assert_eq!(
            needs["web:2"],
            TaskNeeds {
                memory,
                nano_cpus: Some(2_000_000_000),
                ..TaskNeeds::default()
            }
        );
        let expected = TaskNeeds {
            memory,
            nano_cpus: Some(1_500_000_000),
            engine: Some(EngineKind::Fly),
            image: None,
        };
        assert_eq!(needs["api:2"], expected);
        assert_eq!(needs["web:1"].image.as_deref(), Some("tools@sha256:12"));
    }

    #[test]
    fn an_id_without_a_phase_and_a_table_without_conditions_fit_tasks_of_all_phases() {
        let needs = needs_in(
            "[[needs]]\nmemory = \"1GiB\"\n[[needs]]\ntasks = [\"2\"]\nmemory = \"2GiB\"\n",
        )
        .unwrap();
        let memory = |key: &str| needs[key].memory.map(|bytes| bytes >> 30);
        assert_eq!(
            [memory("web:1"), memory("web:2"), memory("api:2")],
            [Some(1), Some(2), Some(2)]
        );
        assert!(needs_in("").unwrap().is_empty());
    }

    #[test]
    fn the_error_names_the_mistake_and_its_table() {
        for (text, words) in [
            (
                "[[needs]]\nmemory = \"much\"\n",
                "in table 1 of [[needs]], memory = \"much\" is not an amount",
            ),
            (
                "[[needs]]\n[[needs]]\ncpus = 0\n",
                "in table 2 of [[needs]], cpus = \"0\" is not a number of processors",
            ),
            (
                "[[needs]]\nengine = \"cloud\"\n",
                "engine = \"cloud\" is none of local, docker, command, fly",
            ),
            ("[[needs]]\nimage = \"\"\n", "image must be"),
            ("[[needs]]\nimage = \"../containers/x\"\n", "image must be"),
            ("[[needs]]\nimage = \"worker?a=b\"\n", "image must be"),
            ("[[needs]]\nmemroy = \"1GiB\"\n", "unknown field `memroy`"),
            ("[needs]\n", "expected a sequence"),
            ("needs = 1 # \u{9b}2J\n", "# \u{fffd}2J"),
            ("needs", "expected"),
        ] {
            let error = needs_in(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
