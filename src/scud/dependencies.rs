//! Dependencies with the title and the status of the tasks they lead to.
//!
//! One reading of the nodes for all edges of one task, never one per edge. Inherited dependencies
//! (of the task's parent) are not added: a task shows the edges that it has.

use std::collections::BTreeMap;

use super::graph::{Row, Survey, local};
use super::lexer::{Node, unescape};
use crate::task::Dependency;

/// The nodes that an edge may lead to, by precedence. SCUD itself searches all phases at once and takes
/// any node with that id, so that `2` may be another phase's `2`; here the own phase goes first.
#[derive(Debug, Clone, Copy, Default)]
struct Target<'a> {
    here: Option<Node<'a>>,
    /// Spelled `phase:id`.
    named: Option<Node<'a>>,
    elsewhere: Elsewhere<'a>,
}

/// A plain id in other phases: ids that are unique everywhere (UUIDs) may be used across phases.
#[derive(Debug, Clone, Copy, Default)]
enum Elsewhere<'a> {
    #[default]
    Nowhere,
    In(usize, Node<'a>),
    Several,
}

impl<'a> Target<'a> {
    fn meet_elsewhere(&mut self, phase: usize, node: Node<'a>) {
        self.elsewhere = match self.elsewhere {
            Elsewhere::In(known, _) if known != phase => Elsewhere::Several,
            Elsewhere::Several => Elsewhere::Several,
            _ => Elsewhere::In(phase, node),
        };
    }

    fn node(&self) -> Option<Node<'a>> {
        self.here.or(self.named).or(match self.elsewhere {
            Elsewhere::In(_, node) => Some(node),
            Elsewhere::Nowhere | Elsewhere::Several => None,
        })
    }
}

/// The dependencies that `edges` of a task in `phase` lead to, in their order.
pub(super) fn resolve<'a>(survey: &Survey<'a>, phase: usize, edges: &[&'a str]) -> Vec<Dependency> {
    if edges.is_empty() {
        return Vec::new();
    }
    let mut targets: BTreeMap<&str, Target<'a>> = BTreeMap::new();
    targets.extend(edges.iter().map(|edge| (*edge, Target::default())));
    let across = edges.iter().any(|edge| edge.contains(':'));
    let mut name = String::new();
    for (of, node) in survey.nodes() {
        let tag = survey.phases[of].tag;
        let spelled = node.id();
        let id = local(tag, spelled);
        if let Some(target) = targets.get_mut(spelled) {
            if of == phase {
                target.here = Some(node);
            } else {
                target.meet_elsewhere(of, node);
            }
        }
        // A migrated node (`phase:8`) that an edge of its own phase calls `8`.
        if of == phase
            && id.len() < spelled.len()
            && let Some(target) = targets.get_mut(id)
        {
            target.here.get_or_insert(node);
        }
        if across {
            name.clear();
            name.extend([tag, ":", id]);
            if let Some(target) = targets.get_mut(name.as_str()) {
                target.named = Some(node);
            }
        }
    }
    let resolved = |edge: &&str| {
        let row = targets[*edge].node().and_then(|node| Row::of(node).ok());
        Dependency {
            id: (*edge).to_owned(),
            title: row.map(|row| unescape(row.title)),
            status: row.map(|row| row.status),
        }
    };
    edges.iter().map(resolved).collect()
}
