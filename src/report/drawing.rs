//! The drawing of the graph.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::acyclic_graph::AcyclicGraph;
use super::critical_path::{critical_path, members};
use super::layers::{Edge, Layout, NODE_HEIGHT, NODE_WIDTH, layout};
use super::model::{Attempt, Report, State, Task};
use super::text_limits::Detail;
use super::time::duration;

/// Larger graphs are not drawn, because such a drawing cannot be read.
const MAX_TASKS: usize = 1_500;
/// The margin around the drawing, in pixels.
const MARGIN: f64 = 12.0;
/// How many columns of text fit in the frame of a task.
const MAX_COLUMNS: usize = 25;
/// The distance between the frame of a task and its text, in pixels.
const PADDING: f64 = 10.0;

/// The graph with the states of its tasks and the critical path, or a sentence why it is not drawn.
pub fn draw(report: &Report, detail: Detail) -> Markup {
    let tasks = &report.tasks;
    if tasks.len() > MAX_TASKS {
        return html! { p { "The graph has " (tasks.len()) " tasks, too many to draw." } };
    }
    let needs: Vec<Vec<usize>> = tasks.iter().map(|task| task.needs.clone()).collect();
    let graph = AcyclicGraph::of(&needs).without_redundant_edges();
    let path = critical_path(tasks, &graph.needs, &graph.order);
    let path = if path.len() > 1 { path } else { Vec::new() };
    let on_path = members(&path);
    let is_critical = |edge: &&Edge| {
        let position = path.iter().position(|task| *task == edge.from);
        position.is_some_and(|at| path.get(at + 1) == Some(&edge.to))
    };
    let drawn = layout(&graph);
    // The critical path is drawn last, so that nothing hides it.
    let (critical, others): (Vec<&Edge>, Vec<&Edge>) = drawn.edges.iter().partition(is_critical);
    let (width, height) = (drawn.width + 2.0 * MARGIN, drawn.height + 2.0 * MARGIN);
    html! {
        ul.legend {
            @for (state, word) in [(State::Done, "done"), (State::Active, "running"), (State::Failed, "blocked"), (State::Open, "not begun"), (State::Excluded, "split or skipped")] {
                @if tasks.iter().any(|task| task.state == state) {
                    li { svg.swatch aria-hidden="true" { rect.node.(class_of_state(state)) x="1" y="1" width="10" height="10" rx="2" {} } (word) }
                }
            }
            @if !path.is_empty() { li { svg.swatch aria-hidden="true" { line.critical x1="0" x2="100%" y1="50%" y2="50%" {} } "critical path" } }
        }
        div.drawing tabindex="0" role="group" aria-label="the graph of the tasks" {
            svg width=(format_number(width)) height=(format_number(height)) viewBox={ (format_number(-MARGIN)) " " (format_number(-MARGIN)) " " (format_number(width)) " " (format_number(height)) } {
                // One element for all edges of a kind, because a large graph has many.
                path.edge d=(edge_paths(&others, &drawn)) {}
                @if !critical.is_empty() { path.edge.critical d=(edge_paths(&critical, &drawn)) {} }
                @for (at, task) in tasks.iter().enumerate() {
                    a href={ "#task-" (at) } {
                        title { (task.name) ": " (task.title) " (" (task.word) ")" }
                        @match detail {
                            Detail::Full => (node(task, drawn.nodes[at], on_path.contains(&at))),
                            Detail::Short => (short_node(task, drawn.nodes[at], on_path.contains(&at))),
                        }
                    }
                }
            }
        }
        @if !path.is_empty() {
            p.quiet {
                "Critical path, the chain that took longest: "
                @for (at, task) in path.iter().enumerate() {
                    @if at > 0 { " → " }
                    a href={ "#task-" (task) } { (tasks[*task].name) }
                }
                @if let Some(time) = duration_of_path(&path, tasks) { " (" (duration(time)) ")" }
            }
        }
    }
}

/// The time from the first start to the last end of the tasks of a path, in milliseconds.
fn duration_of_path(path: &[usize], tasks: &[Task]) -> Option<i64> {
    let attempts = || path.iter().flat_map(|task| &tasks[*task].attempts);
    let from = attempts().filter_map(Attempt::started_at).min()?;
    let to = attempts().filter_map(Attempt::ended_at).max()?;
    Some(to - from)
}

fn node(task: &Task, (x, y): (f64, f64), is_critical: bool) -> Markup {
    html! {
        // An inner svg cuts off what does not fit.
        svg x=(format_number(x)) y=(format_number(y)) width=(format_number(NODE_WIDTH)) height=(format_number(NODE_HEIGHT)) {
            (frame(task, (1.0, 1.0), is_critical))
            text.name x=(format_number(PADDING)) y="18" { (truncate_to_columns(task.name.as_str(), MAX_COLUMNS - 10)) }
            text.word x=(format_number(NODE_WIDTH - PADDING)) y="18" { (task.word) }
            text x=(format_number(PADDING)) y="34" { (truncate_to_columns(task.title.as_str(), MAX_COLUMNS)) }
        }
    }
}

/// A task of a large graph, with a single text: most of the time to open a large page is the layout of these texts.
fn short_node(task: &Task, (x, y): (f64, f64), is_critical: bool) -> Markup {
    let (name, title) = (task.name.as_str(), task.title.as_str());
    let text = match task.state {
        State::Done => format!("{name} {title}"),
        // The word shows the state to readers who cannot distinguish the colors.
        _ => format!("{name} ({}) {title}", task.word),
    };
    html! {
        (frame(task, (x + 1.0, y + 1.0), is_critical))
        text x=(format_number(x + PADDING)) y=(format_number(y + NODE_HEIGHT / 2.0 + 4.0)) { (truncate_to_columns(&text, MAX_COLUMNS)) }
    }
}

fn frame(task: &Task, (x, y): (f64, f64), is_critical: bool) -> Markup {
    html! {
        rect.node.(class_of_state(task.state)).critical[is_critical] x=(format_number(x)) y=(format_number(y)) width=(format_number(NODE_WIDTH - 2.0)) height=(format_number(NODE_HEIGHT - 2.0)) rx="7" {}
    }
}

/// The CSS class for a state.
pub fn class_of_state(state: State) -> &'static str {
    match state {
        State::Done => "done",
        State::Failed => "failed",
        State::Active => "active",
        State::Open => "open",
        State::Excluded => "aside",
    }
}

fn edge_paths(edges: &[&Edge], layout: &Layout) -> String {
    edges.iter().map(|edge| edge_path(edge, layout)).collect()
}

/// The line of an edge: curves between layers, straight through the layers that it passes.
fn edge_path(edge: &Edge, layout: &Layout) -> String {
    let (from, to) = (layout.nodes[edge.from], layout.nodes[edge.to]);
    let mut at = (from.0 + NODE_WIDTH, from.1 + NODE_HEIGHT / 2.0);
    let mut path = format!("M{} {}", format_number(at.0), format_number(at.1));
    let mut curve_to = |path: &mut String, x: f64, y: f64| {
        let middle = f64::midpoint(at.0, x);
        let _ = write!(
            path,
            "C{0} {1} {0} {2} {3} {2}",
            format_number(middle),
            format_number(at.1),
            format_number(y),
            format_number(x)
        );
        at = (x, y);
    };
    for (x, y) in &edge.waypoints {
        curve_to(&mut path, *x, *y);
        curve_to(&mut path, x + NODE_WIDTH, *y);
    }
    curve_to(&mut path, to.0, to.1 + NODE_HEIGHT / 2.0);
    path
}

/// The beginning of a text that fits in some columns of a terminal; wide characters need two.
fn truncate_to_columns(text: &str, columns: usize) -> String {
    console::truncate_str(text, columns, "…").into_owned()
}

fn format_number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
