//! Resolves the dependencies of a task: the title and the status of the tasks that it depends on.
//!
//! The nodes are read once for all edges of a task, not once per edge. Dependencies of the parent task are not added:
//! a prompt shows only the edges of the task itself.

use std::collections::BTreeMap;

use super::lexer::Node;
use super::row::{Row, title_for_display};
use super::search::{Search, id_in_phase};
use crate::task::Dependency;

/// The nodes that an edge may mean, the preferred node first. SCUD searches all phases at once and uses any node
/// with that id, so that `2` may be the `2` of another phase; here the task's own phase comes first.
#[derive(Debug, Clone, Copy, Default)]
struct Target<'a> {
    same_phase: Option<Node<'a>>,
    /// The node of an edge that is written as `phase:id`.
    with_phase: Option<Node<'a>>,
    other_phase: OtherPhase<'a>,
}

/// The nodes of other phases with the same plain id. The edge means such a node only if there is one: an id that is
/// unique in the graph, such as a UUID, may be used across phases.
#[derive(Debug, Clone, Copy, Default)]
enum OtherPhase<'a> {
    #[default]
    None,
    /// The node, after the index of its phase.
    One(usize, Node<'a>),
    Several,
}

impl<'a> Target<'a> {
    fn add_from_other_phase(&mut self, phase: usize, node: Node<'a>) {
        self.other_phase = match self.other_phase {
            OtherPhase::One(known, _) if known != phase => OtherPhase::Several,
            OtherPhase::Several => OtherPhase::Several,
            _ => OtherPhase::One(phase, node),
        };
    }

    /// The node that the edge means.
    fn node(&self) -> Option<Node<'a>> {
        self.same_phase
            .or(self.with_phase)
            .or(match self.other_phase {
                OtherPhase::One(_, node) => Some(node),
                OtherPhase::None | OtherPhase::Several => None,
            })
    }
}

/// The dependencies that the `edges` of a task in `phase` name, in the order of the edges.
pub(super) fn resolve<'a>(search: &Search<'a>, phase: usize, edges: &[&'a str]) -> Vec<Dependency> {
    if edges.is_empty() {
        return Vec::new();
    }
    let mut targets: BTreeMap<&str, Target<'a>> = BTreeMap::new();
    targets.extend(edges.iter().map(|edge| (*edge, Target::default())));
    let some_edges_name_a_phase = edges.iter().any(|edge| edge.contains(':'));
    let mut with_phase = String::new();
    for (node_phase, node) in search.nodes() {
        let tag = search.phases[node_phase].tag;
        let written_id = node.id();
        let id = id_in_phase(tag, written_id);
        if let Some(target) = targets.get_mut(written_id) {
            if node_phase == phase {
                target.same_phase = Some(node);
            } else {
                target.add_from_other_phase(node_phase, node);
            }
        }
        // An edge in the same phase may name a migrated node (`phase:8`) as `8`.
        if node_phase == phase
            && id.len() < written_id.len()
            && let Some(target) = targets.get_mut(id)
        {
            target.same_phase.get_or_insert(node);
        }
        if some_edges_name_a_phase {
            with_phase.clear();
            with_phase.extend([tag, ":", id]);
            if let Some(target) = targets.get_mut(with_phase.as_str()) {
                target.with_phase = Some(node);
            }
        }
    }
    let resolve_edge = |edge: &&str| {
        let row = targets[*edge].node().and_then(|node| Row::of(node).ok());
        Dependency {
            id: (*edge).to_owned(),
            title: row.map(|row| title_for_display(row.title)),
            status: row.map(|row| row.status),
        }
    };
    edges.iter().map(resolve_edge).collect()
}
