//! The layout of a graph in layers, from left to right: every task is to the right of those that it needs.
//!
//! The method of Sugiyama: edges over several layers get a waypoint in each one; the order in a layer follows the
//! neighbors; positions minimize the bends of the edges without overlaps.

use super::acyclic_graph::AcyclicGraph;

/// The width of a task, in pixels.
pub const NODE_WIDTH: f64 = 184.0;
/// The height of a task, in pixels.
pub const NODE_HEIGHT: f64 = 44.0;
/// The gap between two tasks of a layer, in pixels.
const NODE_GAP: f64 = 14.0;
/// The gap between a waypoint and its neighbors in a layer, in pixels.
const WAYPOINT_GAP: f64 = 8.0;
/// The gap between two layers, in pixels.
const LAYER_GAP: f64 = 56.0;
/// How many times the order in all layers is improved.
const ORDER_SWEEPS: usize = 8;
/// How many times the positions in all layers are improved.
const POSITION_SWEEPS: usize = 12;
/// If there would be more waypoints than this, long edges go straight to their end instead.
const MAX_WAYPOINTS: usize = 20_000;

/// The positions of all tasks and edges, in pixels.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// The upper left corner of each task.
    pub nodes: Vec<(f64, f64)>,
    pub edges: Vec<Edge>,
    pub width: f64,
    pub height: f64,
}

/// An edge from a task to another task that needs it.
#[derive(Debug, Clone)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    /// One waypoint for each layer between the two tasks: the left end of the layer, and the vertical position.
    pub waypoints: Vec<(f64, f64)>,
}

/// A task or a waypoint in a layer.
#[derive(Debug, Clone, Copy)]
struct Item {
    /// In pixels.
    height: f64,
    /// The weight of the item's position: waypoints have a larger weight, so that long edges are straight.
    weight: f64,
    /// The minimum gap to the neighbors in the layer, in pixels.
    gap: f64,
}

/// The items of all layers, and their connections to the next and the previous layer.
struct Grid {
    items: Vec<Item>,
    /// The items of each layer, from top to bottom.
    layers: Vec<Vec<usize>>,
    /// For each item, the connected items in the layer to the left.
    left: Vec<Vec<usize>>,
    /// For each item, the connected items in the layer to the right.
    right: Vec<Vec<usize>>,
}

/// Computes the layout. Equal graphs have equal layouts. The order in the layers is computed before the positions,
/// because the positions must have that order.
pub fn layout(graph: &AcyclicGraph) -> Layout {
    let count = graph.needs.len();
    let is_isolated = find_isolated(graph);
    let layer_of = layer_of_each(graph);
    let (mut grid, edges) = build_grid(graph, &layer_of, &is_isolated);
    grid.order();
    let centers = grid.positions();
    let mut layout = Layout {
        nodes: vec![(0.0, 0.0); count],
        ..Layout::default()
    };
    let x = |layer: usize| to_float(layer) * (NODE_WIDTH + LAYER_GAP);
    for task in (0..count).filter(|task| !is_isolated[*task]) {
        let top = centers[task] - NODE_HEIGHT / 2.0;
        layout.nodes[task] = (x(layer_of[task]), top);
        layout.width = layout.width.max(x(layer_of[task]) + NODE_WIDTH);
        layout.height = layout.height.max(top + NODE_HEIGHT);
    }
    for (from, to, waypoints) in edges {
        let first = layer_of[from] + 1;
        let waypoints = waypoints.into_iter().enumerate();
        let waypoints = waypoints.map(|(at, item)| (x(first + at), centers[item]));
        let waypoints: Vec<(f64, f64)> = waypoints.collect();
        let lowest = waypoints.iter().map(|(_, y)| *y).fold(0.0, f64::max);
        layout.height = layout.height.max(lowest);
        layout.edges.push(Edge {
            from,
            to,
            waypoints,
        });
    }
    place_isolated(&mut layout, &is_isolated);
    layout
}

/// The tasks that need no other task and that no other task needs.
fn find_isolated(graph: &AcyclicGraph) -> Vec<bool> {
    let mut is_isolated: Vec<bool> = graph.needs.iter().map(Vec::is_empty).collect();
    for needed in graph.needs.iter().flatten() {
        is_isolated[*needed] = false;
    }
    is_isolated
}

/// The layer of each task: the length of the longest chain before it.
fn layer_of_each(graph: &AcyclicGraph) -> Vec<usize> {
    let mut layers = vec![0; graph.needs.len()];
    for task in &graph.order {
        let before = graph.needs[*task].iter().map(|needed| layers[*needed] + 1);
        layers[*task] = before.max().unwrap_or_default();
    }
    layers
}

/// Each edge: the task that is needed, the task that needs it, and the waypoints between them.
type Edges = Vec<(usize, usize, Vec<usize>)>;

/// The grid of tasks and waypoints, and the edges with the items that they go through.
fn build_grid(graph: &AcyclicGraph, layer_of: &[usize], is_isolated: &[bool]) -> (Grid, Edges) {
    let count = graph.needs.len();
    let node = Item {
        height: NODE_HEIGHT,
        weight: 1.0,
        gap: NODE_GAP,
    };
    let waypoint = Item {
        height: 0.0,
        weight: 3.0,
        gap: WAYPOINT_GAP,
    };
    let depth = layer_of.iter().max().map_or(0, |last| last + 1);
    let mut grid = Grid {
        items: vec![node; count],
        layers: vec![Vec::new(); depth],
        left: vec![Vec::new(); count],
        right: vec![Vec::new(); count],
    };
    for task in graph.order.iter().filter(|task| !is_isolated[**task]) {
        grid.layers[layer_of[*task]].push(*task);
    }
    let edges = graph.needs.iter().enumerate();
    let edges = edges.flat_map(|(to, needed)| needed.iter().map(move |from| (*from, to)));
    let length = |(from, to): (usize, usize)| layer_of[to] - layer_of[from] - 1;
    let has_waypoints = edges.clone().map(length).sum::<usize>() <= MAX_WAYPOINTS;
    let mut grid_edges = Edges::new();
    for (from, to) in edges {
        let (mut waypoints, mut last) = (Vec::new(), from);
        let between = if has_waypoints {
            layer_of[from] + 1..layer_of[to]
        } else {
            0..0
        };
        for layer in between {
            let item = grid.items.len();
            grid.items.push(waypoint);
            grid.left.push(vec![last]);
            grid.right.push(Vec::new());
            grid.right[last].push(item);
            grid.layers[layer].push(item);
            waypoints.push(item);
            last = item;
        }
        if has_waypoints || length((from, to)) == 0 {
            grid.right[last].push(to);
            grid.left[to].push(last);
        }
        grid_edges.push((from, to, waypoints));
    }
    (grid, grid_edges)
}

impl Grid {
    /// Orders the items of each layer by the mean position of their neighbors, from left to right and back.
    fn order(&mut self) {
        let mut place = vec![0.0; self.items.len()];
        let store_places = |place: &mut Vec<f64>, layer: &[usize]| {
            for (at, item) in layer.iter().enumerate() {
                place[*item] = to_float(at);
            }
        };
        for layer in &self.layers {
            store_places(&mut place, layer);
        }
        for sweep in 0..ORDER_SWEEPS {
            let goes_right = sweep % 2 == 0;
            let neighbors = if goes_right { &self.left } else { &self.right };
            let count = self.layers.len();
            for step in 0..count {
                let at = if goes_right { step } else { count - 1 - step };
                let layer = &mut self.layers[at];
                // The sort is stable, so the result depends on the graph alone.
                layer.sort_by(|a, b| {
                    let desired =
                        |item: usize| mean(&neighbors[item], &place).unwrap_or(place[item]);
                    desired(*a).total_cmp(&desired(*b))
                });
                let layer = layer.clone();
                store_places(&mut place, &layer);
            }
        }
    }

    /// The vertical centers of all items. Items of a layer never overlap.
    fn positions(&self) -> Vec<f64> {
        let mut centers = vec![0.0; self.items.len()];
        for layer in &self.layers {
            for (item, offset) in layer.iter().zip(self.offsets(layer)) {
                centers[*item] = offset;
            }
        }
        for sweep in 0..POSITION_SWEEPS {
            let count = self.layers.len();
            for step in 0..count {
                let at = if sweep % 2 == 0 {
                    step
                } else {
                    count - 1 - step
                };
                let layer = &self.layers[at];
                let desired_positions = layer.iter().map(|item| {
                    let desired = if sweep + 1 == POSITION_SWEEPS {
                        let both = [self.left[*item].as_slice(), &self.right[*item]].concat();
                        mean(&both, &centers)
                    } else if sweep % 2 == 0 {
                        mean(&self.left[*item], &centers)
                    } else {
                        mean(&self.right[*item], &centers)
                    };
                    (desired.unwrap_or(centers[*item]), self.items[*item].weight)
                });
                let offsets = self.offsets(layer);
                let desired_shifts = desired_positions
                    .zip(&offsets)
                    .map(|((desired, weight), offset)| (desired - offset, weight));
                let desired_shifts: Vec<(f64, f64)> = desired_shifts.collect();
                for ((item, shift), offset) in layer
                    .iter()
                    .zip(closest_nondecreasing(&desired_shifts))
                    .zip(offsets)
                {
                    centers[*item] = shift + offset;
                }
            }
        }
        let tops = self
            .layers
            .iter()
            .flatten()
            .map(|item| centers[*item] - self.items[*item].height / 2.0);
        let top = tops.fold(f64::INFINITY, f64::min);
        if top.is_finite() {
            for center in &mut centers {
                *center -= top;
            }
        }
        centers
    }

    /// The centers of the items of a layer that is packed as closely as allowed.
    fn offsets(&self, layer: &[usize]) -> Vec<f64> {
        let mut offsets = Vec::with_capacity(layer.len());
        let (mut end, mut gap) = (0.0, 0.0);
        for item in layer {
            let item = self.items[*item];
            let center = end + item.gap.max(gap) + item.height / 2.0;
            offsets.push(center);
            end = center + item.height / 2.0;
            gap = item.gap;
        }
        offsets
    }
}

/// The numbers that never decrease and are closest to `desired` (numbers with weights), by the sum of the weighted
/// squares of the differences. The algorithm is "pool adjacent violators".
fn closest_nondecreasing(desired: &[(f64, f64)]) -> Vec<f64> {
    // Blocks of equal numbers, each with its number, weight and length.
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (number, weight) in desired {
        let mut block = (*number, *weight, 1);
        while let Some(last) = blocks.pop_if(|last| last.0 > block.0) {
            let weight = last.1 + block.1;
            let mean = (last.0 * last.1 + block.0 * block.1) / weight;
            block = (mean, weight, last.2 + block.2);
        }
        blocks.push(block);
    }
    let blocks = blocks.into_iter();
    blocks
        .flat_map(|(mean, _, length)| std::iter::repeat_n(mean, length))
        .collect()
}

fn mean(items: &[usize], values: &[f64]) -> Option<f64> {
    let sum: f64 = items.iter().map(|item| values[*item]).sum();
    (!items.is_empty()).then(|| sum / to_float(items.len()))
}

/// Puts the tasks without edges in rows below the others. The rows are as wide as the rest, but have at least four
/// columns.
fn place_isolated(layout: &mut Layout, is_isolated: &[bool]) {
    let tasks: Vec<usize> = (0..is_isolated.len())
        .filter(|task| is_isolated[*task])
        .collect();
    if tasks.is_empty() {
        return;
    }
    let step = NODE_WIDTH + NODE_GAP;
    let mut columns = 4;
    while to_float(columns + 1) * step - NODE_GAP <= layout.width {
        columns += 1;
    }
    let top = if layout.height > 0.0 {
        layout.height + LAYER_GAP / 2.0
    } else {
        0.0
    };
    for (at, task) in tasks.iter().enumerate() {
        let (column, row) = (at % columns, at / columns);
        let place = (
            to_float(column) * step,
            top + to_float(row) * (NODE_HEIGHT + NODE_GAP),
        );
        layout.nodes[*task] = place;
        layout.width = layout.width.max(place.0 + NODE_WIDTH);
        layout.height = layout.height.max(place.1 + NODE_HEIGHT);
    }
}

fn to_float(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
