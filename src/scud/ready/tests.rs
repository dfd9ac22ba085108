//! Tests which tasks are ready, and which obstacles block the others.

use super::*;

/// A graph of one phase.
fn graph(nodes: &str, rest: &str) -> TaskGraph {
    let text = format!("# SCUD Graph v1\n# Phase: p\n\n@nodes\n{nodes}\n{rest}\n");
    TaskGraph::parse(&text).unwrap()
}

fn names(graph: &TaskGraph, tasks: &[usize]) -> Vec<String> {
    tasks.iter().map(|task| graph.name(*task)).collect()
}

fn ready(graph: &TaskGraph) -> Vec<String> {
    names(graph, &graph.ready())
}

fn why_blocked(graph: &TaskGraph, id: &str) -> Vec<String> {
    let task = graph.position(&graph.phases[0], id).unwrap();
    match &graph.tasks[task].standing {
        Standing::Blocked(why) => why.iter().map(|one| graph.describe(one)).collect(),
        other => panic!("{id} is not blocked but {other:?}"),
    }
}

#[test]
fn a_pending_task_is_ready_when_all_its_dependencies_are_done() {
    let graph = graph(
        "1 | a | D | 1 | M\n2 | b | P | 1 | M\n3 | c | P | 1 | M",
        "@edges\n2 -> 1\n3 -> 2",
    );
    assert_eq!(ready(&graph), ["2"]);
    assert_eq!(graph.tasks[2].standing, Standing::Waiting(vec![1]));
}

#[test]
fn subtasks_inherit_the_dependencies_of_their_parents() {
    let nodes = "1 | a | P | 1 | M\n2 | b | X | 1 | M\n2.1 | c | P | 1 | M\n2.2 | d | P | 1 | M";
    let written = graph(nodes, "@edges\n2 -> 1\n\n@parents\n2: 2.1, 2.2");
    assert_eq!(ready(&written), ["1"]);
    let by_id = graph(nodes, "@edges\n2 -> 1");
    assert_eq!(by_id, written);
}

#[test]
fn an_expanded_task_is_done_when_all_its_subtasks_are() {
    let rest = "@edges\n3 -> 2\n\n@parents\n2: 2.1, 2.2";
    let half = "2 | b | X | 1 | M\n2.1 | c | D | 1 | M\n2.2 | d | P | 1 | M\n3 | e | P | 1 | M";
    let half = graph(half, rest);
    assert_eq!(ready(&half), ["2.2"]);
    assert_eq!(half.tasks[0].standing, Standing::Split);
    let whole = "2 | b | X | 1 | M\n2.1 | c | D | 1 | M\n2.2 | d | D | 1 | M\n3 | e | P | 1 | M";
    assert_eq!(ready(&graph(whole, rest)), ["3"]);
}

#[test]
fn an_expanded_task_without_subtasks_is_blocked_and_blocks_its_dependents() {
    let graph = graph("2 | b | X | 1 | M\n3 | e | P | 1 | M", "@edges\n3 -> 2");
    assert_eq!(why_blocked(&graph, "3"), ["needs 2, which is blocked"]);
    assert_eq!(
        why_blocked(&graph, "2"),
        ["needs 2, which is split, but has no subtasks"]
    );
}

#[test]
fn cycles_are_named_with_their_members() {
    let nodes = "1 | a | P | 1 | M\n2 | b | P | 1 | M\n3 | c | P | 1 | M\n4 | d | P | 1 | M\n5 | e | P | 1 | M";
    let graph = graph(nodes, "@edges\n1 -> 2\n2 -> 3\n3 -> 1\n4 -> 3\n5 -> 5");
    for id in ["1", "2", "3"] {
        assert_eq!(why_blocked(&graph, id), ["is in a cycle: 1 → 2 → 3 → 1"]);
    }
    assert_eq!(why_blocked(&graph, "4"), ["needs 3, which is blocked"]);
    assert_eq!(why_blocked(&graph, "5"), ["is in a cycle: 5 → 5"]);
    assert!(ready(&graph).is_empty());
}

#[test]
fn absent_failed_and_cancelled_dependencies_block() {
    let nodes = "1 | a | ! | 1 | M\n2 | b | C | 1 | M\n3 | c | P | 1 | M\n4 | d | P | 1 | M";
    let graph = graph(nodes, "@edges\n3 -> 1\n3 -> 2\n4 -> nothing\n4 -> 3");
    assert_eq!(
        why_blocked(&graph, "3"),
        ["needs 1, which is failed", "needs 2, which is cancelled"]
    );
    assert_eq!(
        why_blocked(&graph, "4"),
        [
            "depends on nothing, which is not in the graph",
            "needs 3, which is blocked"
        ]
    );
}

#[test]
fn edges_may_name_tasks_of_other_phases_and_prefer_their_own_phase() {
    let text = "# SCUD Graph v1\n# Phase: one\n@nodes\n1 | a | P | 1 | M\n2 | b | D | 1 | M\n---\n\
                # SCUD Graph v1\n# Phase: two\n@nodes\n1 | c | D | 1 | M\n3 | d | P | 1 | M\n4 | e | P | 1 | M\n5 | f | P | 1 | M\n\
                @edges\n3 -> 1\n4 -> one:1\n5 -> 2\n";
    let graph = TaskGraph::parse(text).unwrap();
    assert_eq!(ready(&graph), ["one:1", "two:3", "two:5"]);
    let four = graph.position("two", "4").unwrap();
    assert_eq!(graph.tasks[four].standing, Standing::Waiting(vec![0]));
}

#[test]
fn the_edges_of_a_pipeline_are_not_dependencies() {
    let text = "# SCUD Graph v1\n# Phase: p\n@meta {\n  mode pipeline\n}\n@nodes\n1 | a | P | 1 | M\n2 | b | P | 1 | M\n@edges\n2 -> 1\n";
    assert_eq!(ready(&TaskGraph::parse(text).unwrap()), ["1", "2"]);
}

#[test]
fn ready_tasks_are_ordered_by_priority_then_by_the_length_of_their_chain() {
    let nodes = "1 | a | P | 1 | L\n2 | b | P | 1 | M\n3 | c | P | 1 | M\n4 | d | P | 1 | C\n5 | e | P | 1 | M\n6 | f | P | 1 | M";
    let graph = graph(nodes, "@edges\n5 -> 3\n6 -> 5");
    assert_eq!(ready(&graph), ["4", "3", "2", "1"]);
    assert_eq!(names(&graph, &graph.critical_path()), ["3", "5", "6"]);
}

#[test]
fn the_error_for_an_id_that_is_defined_twice_names_both_lines() {
    let text = "# SCUD Graph v1\n# Phase: p\n@nodes\n1 | a | P | 1 | M\n1 | b | P | 1 | M\n";
    assert_eq!(
        TaskGraph::parse(text).unwrap_err().to_string(),
        "line 5: task `1` is defined twice (lines 4 and 5)"
    );
}

/// With an algorithm that needs quadratic time, this test would take minutes.
#[test]
fn a_chain_of_twenty_thousand_tasks_is_planned_without_deep_recursion() {
    use std::fmt::Write as _;
    let (mut nodes, mut edges) = (String::new(), String::from("@edges\n"));
    for task in 1..=20_000 {
        let _ = writeln!(nodes, "{task} | t | P | 1 | M");
        let _ = writeln!(edges, "{task} -> {}", task - 1);
    }
    let graph = graph(&nodes, edges.trim_end_matches(" -> 0"));
    assert_eq!(graph.tasks[1].chain_length, 19_999);
    assert!(matches!(graph.tasks[0].standing, Standing::Blocked(_)));
}

/// A chain in which every task depends on the one before it, and the first one on the last one.
fn long_cycle(len: usize) -> TaskGraph {
    let nodes: Vec<String> = (1..=len)
        .map(|task| format!("{task} | t | P | 1 | M"))
        .collect();
    let edges: Vec<String> = (2..=len)
        .map(|task| format!("{task} -> {}", task - 1))
        .collect();
    graph(
        &nodes.join("\n"),
        &format!("@edges\n{}\n1 -> {len}", edges.join("\n")),
    )
}

#[test]
fn the_members_of_a_long_cycle_share_one_list_and_only_some_of_them_are_named() {
    let len = 5_000;
    let graph = long_cycle(len);
    let mut lists = Vec::new();
    for task in &graph.tasks {
        match &task.standing {
            Standing::Blocked(why) => match &why[..] {
                [Obstacle::Cycle(members)] => lists.push(Arc::clone(members)),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lists[0].len(), len);
    assert!(lists.iter().all(|list| Arc::ptr_eq(list, &lists[0])));
    assert_eq!(
        why_blocked(&graph, "3"),
        [
            "is in a cycle: 1 → 5000 → 4999 → 4998 → 4997 → 4996 → 4995 → 4994 → 4993 → 4992 → 4991 → 4990 \
             → … and 4988 more"
        ]
    );
}

#[test]
fn a_cycle_of_twelve_tasks_is_named_with_all_its_members() {
    assert_eq!(
        why_blocked(&long_cycle(12), "3"),
        ["is in a cycle: 1 → 12 → 11 → 10 → 9 → 8 → 7 → 6 → 5 → 4 → 3 → 2 → 1"]
    );
}

#[test]
fn a_very_long_id_in_a_cycle_is_shortened() {
    let id = "x".repeat(100_000);
    let nodes = format!("1 | a | P | 1 | M\n{id} | b | P | 1 | M");
    let graph = graph(&nodes, &format!("@edges\n1 -> {id}\n{id} -> 1"));
    assert!(why_blocked(&graph, "1")[0].len() < 1_000);
}

#[test]
fn tasks_of_overlapping_cycles_are_blocked_only_by_a_cycle() {
    let nodes = "1 | a | P | 1 | M\n2 | b | P | 1 | M\n3 | c | P | 1 | M\n4 | d | P | 1 | M";
    let graph = graph(nodes, "@edges\n1 -> 2\n2 -> 3\n3 -> 1\n3 -> 4\n4 -> 1");
    for id in ["1", "2", "3", "4"] {
        assert_eq!(why_blocked(&graph, id), ["is in a cycle: 1 → 2 → 3 → 1"]);
    }
}

#[test]
fn subtasks_inherit_over_several_levels_and_in_a_circle_of_parents() {
    let nodes = "1 | a | P | 1 | M\n2 | b | P | 1 | M\n3 | c | P | 1 | M\n4 | d | P | 1 | M\n5 | e | P | 1 | M\n6 | f | P | 1 | M";
    let rest = "@edges\n4 -> 1\n4 -> absent\n5 -> 2\n6 -> 3\n6 -> 1";
    let needs = |parents: &str| {
        let graph = graph(nodes, &format!("{rest}\n\n@parents\n{parents}"));
        let needs = |task: usize| {
            let node = &graph.tasks[task - 1];
            (
                names(&graph, &node.needs).join(" "),
                node.absent_dependencies.join(" "),
            )
        };
        [4, 5, 6]
            .map(needs)
            .map(|(needs, absent)| format!("{needs} {absent}"))
    };
    assert_eq!(
        needs("4: 5\n5: 6"),
        ["1 absent", "1 2 absent", "1 2 3 absent"]
    );
    assert_eq!(
        needs("4: 5\n5: 6\n6: 4"),
        ["1 2 3 absent", "1 2 3 absent", "1 2 3 absent"]
    );
}

/// With an algorithm that needs quadratic time, this test would take minutes.
#[test]
fn a_chain_of_twenty_thousand_parents_is_read() {
    use std::fmt::Write as _;
    let (mut nodes, mut parents) = (
        String::new(),
        String::from("@edges\n1 -> 20000\n@parents\n"),
    );
    for task in 1..=20_000 {
        let _ = writeln!(nodes, "{task} | t | P | 1 | M");
        let _ = writeln!(parents, "{task}: {}", task + 1);
    }
    let graph = graph(&nodes, &parents);
    assert_eq!(graph.tasks[19_998].needs, [19_999]);
}

#[test]
fn a_graph_whose_tasks_inherit_millions_of_dependencies_is_rejected() {
    use std::fmt::Write as _;
    let (mut nodes, mut edges) = (String::new(), String::from("@edges\n"));
    let mut parents = String::from("@parents\n");
    for task in 1..=4_000 {
        let _ = writeln!(nodes, "{task} | t | P | 1 | M\nn{task} | t | P | 1 | M");
        let _ = writeln!(edges, "{task} -> n{task}");
        let _ = writeln!(parents, "{task}: {}", task + 1);
    }
    let text = format!("# SCUD Graph v1\n# Phase: p\n\n@nodes\n{nodes}\n{edges}\n{parents}");
    let error = TaskGraph::parse(&text).unwrap_err().to_string();
    assert!(error.contains("inherit too many dependencies"), "{error}");
}
