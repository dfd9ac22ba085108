//! Reads a whole task: its line of `@nodes`, and its lines in the other sections.

use super::dependencies;
use super::fields::first_two_fields;
use super::lexer::{Item, Items, Position, SyntaxError, parse_edge};
use super::row::{Row, title_for_display};
use super::search::{Candidate, Search, id_in_phase};
use super::texts::TaskTexts;
use crate::task::Task;

/// Reads all data of a candidate in the graph.
pub(super) fn read_task(
    search: &Search<'_>,
    candidate: Candidate<'_>,
) -> Result<Task, SyntaxError> {
    let Candidate { phase, node, .. } = candidate;
    let row = Row::of(node)?;
    let sections = Sections::of_task(node.id(), search.text, search.phases[phase].body);
    let tag = search.phases[phase].tag;
    Ok(Task {
        id: id_in_phase(tag, node.id()).to_owned(),
        phase: tag.to_owned(),
        title: title_for_display(row.title),
        status: row.status,
        complexity: row.complexity,
        priority: row.priority,
        description: sections.texts.description,
        details: sections.texts.details,
        test_strategy: sections.texts.test_strategy,
        dependencies: dependencies::resolve(search, phase, &sections.dependencies),
        agent: sections.agent.map(str::to_owned),
    })
}

/// The maximum number of dependencies of a task. Further dependencies are ignored.
const MAX_DEPENDENCIES: usize = 1_000;

/// The data of one task in the sections after `@nodes`.
#[derive(Debug, Default)]
struct Sections<'a> {
    dependencies: Vec<&'a str>,
    agent: Option<&'a str>,
    texts: TaskTexts,
}

impl<'a> Sections<'a> {
    /// Reads the sections of the phase that begins at `body`. If a task has two agents or two texts for one field, the
    /// last one counts, as in SCUD.
    fn of_task(id: &str, text: &'a str, body: Position) -> Self {
        let mut sections = Self::default();
        let mut is_pipeline = false;
        // The field and the lines of the text that is being read.
        let mut open_text: Option<(&str, String)> = None;
        // `flatten` ignores no error: the search has already read the whole text without a syntax error.
        for item in Items::of_body(text, body).flatten() {
            match item {
                Item::Phase { .. } => break,
                Item::Pipeline => is_pipeline = true,
                // The cheap test of the prefix comes first, because it rules out most lines.
                Item::Edge(line) if line.starts_with(id) && !is_pipeline => {
                    let edge = parse_edge(line).filter(|(dependent, _)| *dependent == id);
                    let dependency = edge.map(|(_, dependency)| dependency);
                    sections.add_dependency(dependency);
                }
                Item::Agent(line) => match first_two_fields(line) {
                    Some((task, name)) if task == id && !name.is_empty() => {
                        sections.agent = Some(name);
                    }
                    _ => {}
                },
                Item::Heading { id: task, field } => {
                    sections.store_text(open_text.take());
                    open_text = (task == id).then(|| (field, String::new()));
                }
                Item::Text(line) => {
                    if let Some((_, content)) = &mut open_text {
                        content.push_str(line);
                        content.push('\n');
                    }
                }
                _ => {}
            }
        }
        sections.store_text(open_text);
        sections
    }

    /// Adds a dependency that is not in the list yet.
    fn add_dependency(&mut self, dependency: Option<&'a str>) {
        if let Some(dependency) = dependency
            && self.dependencies.len() < MAX_DEPENDENCIES
            && !self.dependencies.contains(&dependency)
        {
            self.dependencies.push(dependency);
        }
    }

    /// Stores a text whose last line was read.
    fn store_text(&mut self, finished: Option<(&str, String)>) {
        if let Some((field, content)) = finished {
            self.texts.set(field, &content);
        }
    }
}

#[cfg(test)]
mod tests;
