//! What the lines of a graph mean together: its phases, the nodes a reference may stand for, a whole task.
//!
//! It reads the text a few times rather than keep it in pieces, so memory does not grow with the graph
//! beyond the text and a few words per phase. Which of several candidates is meant is `find`'s business;
//! no I/O.
//!
//! A file that SCUD would refuse is refused whole, whichever phase is broken: the agent could not
//! use `scud` on it either, and nobody could say where an id without a phase belongs. A broken
//! node is an error only for who asks for that node: SCUD lives with its neighbours, and so do we.

use super::dependencies;
use super::lexer::{Fields, Flaw, Item, Items, Node, Position, edge, excerpt, pair, unescape};
use crate::task::{Priority, Status, Task};

/// How a task is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reference<'r> {
    /// As a person or an orchestrator writes it: `8` or `phase:8`.
    Spelled(&'r str),
    /// As an earlier reading of the graph found it.
    Exact { phase: &'r str, id: &'r str },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase<'a> {
    pub tag: &'a str,
    pub line: usize,
    body: Position,
    /// The first and the last node: all others are between.
    nodes: Option<(Node<'a>, Node<'a>)>,
}

/// A node that a reference may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate<'a> {
    /// The index of its phase.
    pub phase: usize,
    pub node: Node<'a>,
    pub spelling: Spelling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// The reference names the phase, too.
    WithPhase,
    IdAlone,
}

/// The graph as one reference sees it.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    text: &'a str,
    pub phases: Vec<Phase<'a>>,
    /// At most two of each phase: the second only proves the first ambiguous.
    pub candidates: Vec<Candidate<'a>>,
}

impl<'a> Survey<'a> {
    pub fn of(text: &'a str, reference: Reference<'_>) -> Result<Self, Flaw> {
        let mut phases: Vec<Phase<'a>> = Vec::new();
        let mut candidates: Vec<Candidate<'a>> = Vec::new();
        let mut in_this_phase = 0;
        for item in Items::of(text) {
            match item? {
                Item::Phase { tag, line, body } => {
                    let nodes = None;
                    phases.push(Phase {
                        tag,
                        line,
                        body,
                        nodes,
                    });
                    in_this_phase = 0;
                }
                Item::Name(name) => {
                    if let Some(phase) = phases.last_mut() {
                        phase.tag = name;
                    }
                }
                Item::Node(node) => {
                    let Some(phase) = phases.last_mut() else {
                        continue;
                    };
                    phase.nodes = Some((phase.nodes.map_or(node, |(first, _)| first), node));
                    if in_this_phase < 2
                        && let Some(spelling) = reference.spells(phase.tag, node.id())
                    {
                        in_this_phase += 1;
                        candidates.push(Candidate {
                            phase: phases.len() - 1,
                            node,
                            spelling,
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(Self {
            text,
            phases,
            candidates,
        })
    }

    /// The one node of `phase` among the candidates. SCUD takes the last of two equal ids, and of two
    /// equal phases, and forgets the other; changing a letter in either would be a guess.
    pub fn sole(&self, phase: usize) -> Result<Candidate<'a>, Flaw> {
        let tag = self.phases[phase].tag;
        let mut equal = self.phases.iter().filter(|other| other.tag == tag);
        if let (Some(first), Some(second)) = (equal.next(), equal.next()) {
            let what = format!(
                "the phase {} again, after line {}",
                excerpt(tag),
                first.line
            );
            let line = second.line;
            return Err(Flaw { line, what });
        }
        let mut nodes = self.candidates.iter().filter(|one| one.phase == phase);
        let first = nodes.next().expect("a phase is chosen for its candidate");
        if let Some(second) = nodes.next() {
            let what = format!(
                "the task {} again, after line {}",
                excerpt(second.node.id()),
                first.node.line
            );
            let line = second.node.line;
            return Err(Flaw { line, what });
        }
        Ok(*first)
    }

    /// Everything the graph says about a candidate.
    pub fn task(&self, candidate: Candidate<'a>) -> Result<Task, Flaw> {
        let Candidate { phase, node, .. } = candidate;
        let row = Row::of(node)?;
        let said = Said::about(node.id(), self.text, self.phases[phase].body);
        let tag = self.phases[phase].tag;
        Ok(Task {
            id: local(tag, node.id()).to_owned(),
            phase: tag.to_owned(),
            title: unescape(row.title),
            status: row.status,
            complexity: row.complexity,
            priority: row.priority,
            description: said.description,
            details: said.details,
            test_strategy: said.test_strategy,
            dependencies: dependencies::resolve(self, phase, &said.dependencies),
            agent: said.agent.map(str::to_owned),
        })
    }

    /// Every node with the index of its phase.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, Node<'a>)> {
        let phases = self.phases.iter().enumerate();
        phases.flat_map(|(index, phase)| {
            let nodes = phase.nodes.into_iter();
            // A flaw would have been met by the survey.
            let items =
                nodes.flat_map(|(first, last)| Items::of_nodes(self.text, first, last).flatten());
            items.filter_map(move |item| match item {
                Item::Node(node) => Some((index, node)),
                _ => None,
            })
        })
    }
}

impl Reference<'_> {
    /// How this reference spells the node `id` of the phase `tag`, if it does. Nodes of a migrated
    /// graph carry their phase in the id (`phase:8`); that is the same task as a plain `8` there.
    fn spells(self, tag: &str, id: &str) -> Option<Spelling> {
        let id = local(tag, id);
        let (spelled, spelling) = match self {
            Self::Spelled(reference) if reference == id => (reference, Spelling::IdAlone),
            Self::Spelled(reference) => (without_tag(tag, reference)?, Spelling::WithPhase),
            Self::Exact { phase, id } if phase == tag => (id, Spelling::WithPhase),
            Self::Exact { .. } => return None,
        };
        (spelled == id && !id.is_empty()).then_some(spelling)
    }
}

/// The id inside its phase.
pub(super) fn local<'a>(tag: &str, id: &'a str) -> &'a str {
    without_tag(tag, id).unwrap_or(id)
}

fn without_tag<'a>(tag: &str, id: &'a str) -> Option<&'a str> {
    id.strip_prefix(tag)?.strip_prefix(':')
}

/// All that a node line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// Still escaped.
    pub title: &'a str,
    pub status: Status,
    /// The byte of the file that holds the status letter.
    pub status_at: usize,
    pub complexity: u32,
    pub priority: Priority,
}

impl<'a> Row<'a> {
    /// Needs the five fields that SCUD needs, and one status letter that it knows. SCUD reads any
    /// other status as pending, and a word by its first letter (`Deferred` as done): no base to run
    /// a task on. Complexity and priority fall back as SCUD's do, fields beyond are for others.
    pub fn of(node: Node<'a>) -> Result<Self, Flaw> {
        let flaw = |what| Flaw {
            line: node.line,
            what,
        };
        let mut fields = Fields::of(node.text);
        let mut next = || fields.next();
        let (Some(id), Some(title), Some(status), Some(complexity), Some(priority)) =
            (next(), next(), next(), next(), next())
        else {
            let count = Fields::of(node.text).count();
            let id = excerpt(node.id());
            return Err(flaw(format!("the task {id} has {count} of 5 fields")));
        };
        let letter = match status.text.as_bytes() {
            [letter] => Status::from_letter(*letter),
            _ => None,
        };
        let Some(letter) = letter else {
            let (id, status) = (excerpt(id.text), excerpt(status.text));
            return Err(flaw(format!(
                "the task {id} has the unknown status {status}"
            )));
        };
        Ok(Self {
            title: title.text,
            status: letter,
            status_at: node.at + status.at,
            complexity: complexity.text.parse().unwrap_or(0),
            priority: match priority.text.as_bytes().first() {
                Some(b'C') => Priority::Critical,
                Some(b'H') => Priority::High,
                Some(b'L') => Priority::Low,
                _ => Priority::Medium,
            },
        })
    }
}

/// What the sections after `@nodes` say about one task.
#[derive(Debug, Default)]
struct Said<'a> {
    dependencies: Vec<&'a str>,
    agent: Option<&'a str>,
    description: Option<String>,
    details: Option<String>,
    test_strategy: Option<String>,
}

impl<'a> Said<'a> {
    /// Where something is said twice the last one counts, as in SCUD.
    fn about(id: &str, text: &'a str, body: Position) -> Self {
        let mut said = Self::default();
        let mut pipeline = false;
        let mut open: Option<(&str, String)> = None;
        // A flaw would have been met by the survey.
        for item in Items::of_body(text, body).flatten() {
            match item {
                Item::Phase { .. } => break,
                Item::Pipeline => pipeline = true,
                // The prefix first: it rules out most lines at the price of a few bytes.
                Item::Edge(line) if line.starts_with(id) && !pipeline => {
                    let of_this = edge(line).filter(|(dependent, _)| *dependent == id);
                    said.dependencies
                        .extend(of_this.map(|(_, dependency)| dependency));
                }
                Item::Agent(line) => match pair(line) {
                    Some((of, name)) if of == id && !name.is_empty() => said.agent = Some(name),
                    _ => {}
                },
                Item::Block { id: of, field } => {
                    said.close(open.take());
                    open = (of == id).then(|| (field, String::new()));
                }
                Item::Text(line) => {
                    if let Some((_, content)) = &mut open {
                        content.push_str(line);
                        content.push('\n');
                    }
                }
                _ => {}
            }
        }
        said.close(open);
        said
    }

    fn close(&mut self, block: Option<(&str, String)>) {
        let Some((field, mut content)) = block else {
            return;
        };
        // Blank lines around a text belong to the file's looks; those inside are the text's.
        content.truncate(content.trim_end().len());
        let content = content.trim_start_matches('\n').to_owned();
        let content = (!content.is_empty()).then_some(content);
        match field {
            "description" => self.description = content,
            "details" => self.details = content,
            "test_strategy" => self.test_strategy = content,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
