//! Tests of the layouts of graphs.

use proptest::prelude::*;

use super::*;

fn layout_of(needs: &[Vec<usize>]) -> Layout {
    layout(&AcyclicGraph::of(needs).without_redundant_edges())
}

/// Asserts what must be true for the layout of every graph.
fn assert_valid(needs: &[Vec<usize>]) {
    let graph = AcyclicGraph::of(needs).without_redundant_edges();
    let drawn = layout(&graph);
    assert_eq!(drawn.nodes.len(), needs.len());
    for (task, (x, y)) in drawn.nodes.iter().enumerate() {
        assert!(*x >= 0.0 && *y >= -0.01, "task {task} is at {x}, {y}");
        assert!(x + NODE_WIDTH <= drawn.width + 0.01 && y + NODE_HEIGHT <= drawn.height + 0.01);
        for (other_x, other_y) in &drawn.nodes[..task] {
            let is_apart = (x - other_x).abs() >= NODE_WIDTH || (y - other_y).abs() >= NODE_HEIGHT;
            assert!(
                is_apart,
                "tasks overlap at {x}, {y} and {other_x}, {other_y}"
            );
        }
    }
    for edge in &drawn.edges {
        assert!(
            drawn.nodes[edge.from].0 < drawn.nodes[edge.to].0,
            "{edge:?} goes back"
        );
        for (x, y) in &edge.waypoints {
            for (node_x, node_y) in &drawn.nodes {
                let is_clear =
                    (x - node_x).abs() > 1.0 || *y <= *node_y || *y >= node_y + NODE_HEIGHT;
                assert!(
                    is_clear,
                    "{edge:?} goes through the task at {node_x}, {node_y}"
                );
            }
        }
    }
}

#[test]
fn every_task_is_to_the_right_of_those_that_it_needs() {
    let drawn = layout_of(&[vec![], vec![0], vec![0], vec![1, 2]]);
    let x: Vec<f64> = drawn.nodes.iter().map(|(x, _)| *x).collect();
    assert!(x[0] < x[1] && x[1] < x[3]);
    assert!((x[1] - x[2]).abs() < 0.01);
}

#[test]
fn a_chain_is_a_straight_line() {
    let drawn = layout_of(&[vec![], vec![0], vec![1], vec![2]]);
    for (_, y) in &drawn.nodes {
        assert!((y - drawn.nodes[0].1).abs() < 0.01, "{drawn:?}");
    }
}

#[test]
fn an_edge_that_follows_from_others_is_left_out() {
    let graph = AcyclicGraph::of(&[vec![], vec![0], vec![0, 1], vec![0, 1, 2]]);
    assert_eq!(
        graph.without_redundant_edges().needs,
        [vec![], vec![0], vec![1], vec![2]]
    );
}

#[test]
fn the_edges_that_close_a_cycle_are_left_out_and_every_task_is_drawn() {
    let needs = [vec![2], vec![0], vec![1], vec![2, 99, 3]];
    let graph = AcyclicGraph::of(&needs);
    assert_eq!(graph.order, [0, 1, 2, 3]);
    assert_eq!(graph.needs, [vec![], vec![0], vec![1], vec![2]]);
    assert_valid(&needs);
}

#[test]
fn tasks_without_edges_are_in_rows_below_the_others() {
    let mut needs = vec![vec![]; 12];
    needs[1] = vec![0];
    let drawn = layout_of(&needs);
    let lowest = drawn.nodes[0].1.max(drawn.nodes[1].1);
    for (_, y) in &drawn.nodes[2..] {
        assert!(*y >= lowest + NODE_HEIGHT, "{drawn:?}");
    }
    assert!(drawn.height < 6.0 * NODE_HEIGHT, "{drawn:?}");
    assert_valid(&needs);
}

#[test]
fn no_edges_cross_if_none_has_to() {
    // Two chains that begin in the opposite order of their ends.
    let drawn = layout_of(&[vec![], vec![], vec![1], vec![0]]);
    let y: Vec<f64> = drawn.nodes.iter().map(|(_, y)| *y).collect();
    assert_eq!(y[0] < y[1], y[3] < y[2], "{drawn:?}");
}

#[test]
fn falling_numbers_are_replaced_by_their_mean() {
    let numbers = closest_nondecreasing(&[(1.0, 1.0), (5.0, 1.0), (3.0, 1.0), (9.0, 1.0)]);
    assert_eq!(numbers, [1.0, 4.0, 4.0, 9.0]);
}

fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let edges = prop::collection::vec((0..30_usize, 0..30_usize), 0..60);
    (1..30_usize, edges).prop_map(|(count, edges)| {
        let mut needs = vec![Vec::new(); count];
        for (from, to) in edges {
            needs[to % count].push(from);
        }
        needs
    })
}

proptest! {
    #[test]
    fn no_tasks_overlap_and_no_edge_goes_back_or_through_a_task(needs in graphs()) {
        assert_valid(&needs);
    }

    #[test]
    fn equal_graphs_have_equal_layouts(needs in graphs()) {
        let (first, second) = (layout_of(&needs), layout_of(&needs));
        prop_assert_eq!(first.nodes, second.nodes);
    }
}
