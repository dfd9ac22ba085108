//! Searches the graph for a reference: its phases, and the nodes that the reference may mean.
//!
//! The search reads the text again instead of storing pieces of it, so memory grows only with the number of
//! phases. `find` decides between several candidates. No I/O.
//!
//! A file that SCUD would reject is rejected as a whole, whichever phase is broken: the agent could
//! not use `scud` on the file either, and an id without a phase could belong to any of its phases. A
//! broken node is an error only when that node is requested, as in SCUD.

use super::lexer::{Item, Items, Node, Position, SyntaxError};

/// The name of the task to search for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reference<'r> {
    /// The reference that a user or an orchestrator wrote: `8` or `phase:8`.
    AsWritten(&'r str),
    /// A task that an earlier search found.
    Exact { phase: &'r str, id: &'r str },
}

/// A phase of the graph, as far as the search needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase<'a> {
    pub tag: &'a str,
    pub line: usize,
    /// The beginning of the lines after the header.
    pub body: Position,
    /// The first and the last node of the phase. All other nodes are between them.
    nodes: Option<(Node<'a>, Node<'a>)>,
}

/// A node that the reference may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate<'a> {
    /// The index of the node's phase.
    pub phase: usize,
    pub node: Node<'a>,
    pub spelling: Spelling,
}

/// How a reference names a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    WithPhase,
    IdAlone,
}

/// The phases of the graph, and the candidates for one reference.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub text: &'a str,
    pub phases: Vec<Phase<'a>>,
    /// At most two candidates of each phase. The second one shows that the id is defined twice.
    pub candidates: Vec<Candidate<'a>>,
}

impl<'a> Search<'a> {
    /// Searches `text` for `reference`.
    pub fn run(text: &'a str, reference: Reference<'_>) -> Result<Self, SyntaxError> {
        let mut phases: Vec<Phase<'a>> = Vec::new();
        let mut candidates: Vec<Candidate<'a>> = Vec::new();
        let mut candidates_in_phase = 0;
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
                    candidates_in_phase = 0;
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
                    if candidates_in_phase < 2
                        && let Some(spelling) = reference.spelling_of(phase.tag, node.id())
                    {
                        candidates_in_phase += 1;
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

    /// The only candidate in `phase`; an error if an id or a phase is defined twice. In this case, SCUD uses the last
    /// definition and drops the other one, so it is unknown which of them the status belongs to.
    pub fn only_candidate(&self, phase: usize) -> Result<Candidate<'a>, SyntaxError> {
        let tag = self.phases[phase].tag;
        let mut same_tag = self.phases.iter().filter(|other| other.tag == tag);
        if let (Some(first), Some(second)) = (same_tag.next(), same_tag.next()) {
            return Err(SyntaxError::defined_twice(
                "phase",
                tag,
                first.line,
                second.line,
            ));
        }
        let mut candidates = self.candidates.iter().filter(|one| one.phase == phase);
        let first = candidates
            .next()
            .expect("the caller passes the phase of a candidate");
        if let Some(second) = candidates.next() {
            let (first_line, second_line) = (first.node.line, second.node.line);
            let id = second.node.id();
            return Err(SyntaxError::defined_twice(
                "task",
                id,
                first_line,
                second_line,
            ));
        }
        Ok(*first)
    }

    /// Every node with the index of its phase.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, Node<'a>)> {
        let phases = self.phases.iter().enumerate();
        phases.flat_map(|(index, phase)| {
            let nodes = phase.nodes.into_iter();
            // `flatten` ignores no error: `run` has already read the whole text without a syntax error.
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
    /// How this reference names the node `id` of the phase `tag`; `None` if it names another node. The
    /// nodes of a migrated graph have their phase in the id (`phase:8`); SCUD treats such a node like
    /// a plain `8`.
    fn spelling_of(self, tag: &str, id: &str) -> Option<Spelling> {
        let id = id_in_phase(tag, id);
        let (name, spelling) = match self {
            Self::AsWritten(reference) if reference == id => (reference, Spelling::IdAlone),
            Self::AsWritten(reference) => (strip_phase(tag, reference)?, Spelling::WithPhase),
            Self::Exact { phase, id } if phase == tag => (id, Spelling::WithPhase),
            Self::Exact { .. } => return None,
        };
        (name == id && !id.is_empty()).then_some(spelling)
    }
}

/// The id without the tag of its phase.
pub(super) fn id_in_phase<'a>(tag: &str, id: &'a str) -> &'a str {
    strip_phase(tag, id).unwrap_or(id)
}

/// The text after the tag and a colon.
fn strip_phase<'a>(tag: &str, id: &'a str) -> Option<&'a str> {
    id.strip_prefix(tag)?.strip_prefix(':')
}
