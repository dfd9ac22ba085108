//! `dispatch` does the pending tasks of a graph, and merges the verified work on one branch.
//!
//! With real workers, real git, and shell scripts as agents.

mod backlog;
mod blocked;
mod broken_definitions;
mod broken_files;
mod command_engine;
mod commands;
mod crashes;
mod ends;
mod fly;
mod fly_api;
mod lost_workers;
mod options;
mod output;
mod public_graphs;
pub mod sample;
mod table;
mod unclear_starts;
mod unusable_repository;

use sample::{AGENT_THAT_LISTS_FILES, Gate, Graph};

use crate::support::assert_in_order;

/// Tasks 2 and 3 depend on 1, and 4 depends on both. Task 2 is split into subtasks.
const DIAMOND_WITH_SUBTASKS: &str = "\
1 | Lay the foundation | P | 1 | H
2 | Build the left | X | 1 | H
2.1 | Left wall | P | 1 | H
2.2 | Left roof | P | 1 | H
3 | Build the right | P | 1 | M
4 | Open the doors | P | 1 | M

@edges
2 -> 1
2.2 -> 2.1
3 -> 1
4 -> 2
4 -> 3

@parents
2: 2.1, 2.2
";

#[test]
fn all_tasks_are_merged_on_one_branch_and_each_starts_with_the_work_that_it_depends_on() {
    let graph = Graph::new(DIAMOND_WITH_SUBTASKS);
    let ended = graph.dispatch(AGENT_THAT_LISTS_FILES).run();
    ended.assert_code(0);
    assert!(
        ended
            .stderr
            .contains("5 of 5 tasks are done and merged on the branch descartes/house"),
        "{ended:#?}"
    );
    let branch = "descartes/house";
    for (task, seen) in [
        ("1", ""),
        ("2.1", "done-1\n"),
        ("2.2", "done-1\ndone-2.1\n"),
        ("4", "done-1\ndone-2.1\ndone-2.2\ndone-3\n"),
    ] {
        let found = graph.show(branch, &format!("done-{task}"));
        for line in seen.lines() {
            assert!(found.contains(line), "{task} has not seen {line}:\n{found}");
        }
    }
    let tasks = graph.show(branch, ".scud/tasks/tasks.scg");
    assert_eq!(tasks.matches("| D |").count(), 5, "{tasks}");
    assert!(
        !tasks.contains("| P |") && !tasks.contains("| I |"),
        "{tasks}"
    );
    for task in ["1", "2.1", "2.2", "3", "4"] {
        assert_eq!(graph.merges_of(branch, task), 1, "task {task}");
    }
}

#[test]
fn the_users_work_tree_index_head_and_branches_are_not_changed() {
    let graph = Graph::new(DIAMOND_WITH_SUBTASKS);
    graph.write("README", "changed by a person, not committed\n");
    graph.write("staged", "staged\n");
    graph.git(&["add", "staged"]);
    let before = graph.protected_state();
    let ended = graph.dispatch(AGENT_THAT_LISTS_FILES).run();
    ended.assert_code(0);
    assert!(
        ended
            .stderr
            .contains("uncommitted changes, which no task will see: "),
        "{ended:#?}"
    );
    assert_eq!(graph.protected_state(), before);
    let branches = graph.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
    assert_eq!(branches, "descartes/house\nmain\n");
}

#[test]
fn a_finished_dispatch_that_is_run_again_succeeds_and_does_not_move_the_branch() {
    let graph = Graph::new(DIAMOND_WITH_SUBTASKS);
    graph.dispatch(AGENT_THAT_LISTS_FILES).run().assert_code(0);
    let tip = graph.git(&["rev-parse", "descartes/house"]);
    let ended = graph.dispatch("false").run();
    ended.assert_code(0);
    assert!(ended.stderr.contains("5 of 5 tasks are done"), "{ended:#?}");
    assert_eq!(graph.git(&["rev-parse", "descartes/house"]), tip);
}

#[test]
fn conflicting_work_is_done_again_with_a_note_and_then_merged() {
    // Both tasks append to the same file. The prompt of the second attempt names the conflict.
    let graph = Graph::new("1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n");
    let agent = r#"
        id=${TASK_ID##*:}
        grep -q 'conflicts with work that was merged meanwhile, in shared' "$DESCARTES_PROMPT_FILE" && touch "told-$id"
        # No agent ends before both have begun.
        touch "$MEETING/$id"
        while [ -e "$MEETING" ] && { [ ! -e "$MEETING/1" ] || [ ! -e "$MEETING/2" ]; }; do sleep 0.02; done
        echo "$id" >> shared"#;
    let meeting = tempfile::tempdir().expect("a directory");
    let ended = graph
        .dispatch(agent)
        .env("MEETING", meeting.path())
        .env("DESCARTES_AGENT_ENV", "MEETING")
        .run();
    ended.assert_code(0);
    assert_in_order(
        &ended.stderr,
        &[
            "conflicts with merged work",
            "attempt 2",
            "2 of 2 tasks are done",
        ],
    );
    let mut lines: Vec<String> = graph
        .show("descartes/house", "shared")
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["1", "2"]);
    let files = graph.git(&["ls-tree", "--name-only", "descartes/house"]);
    assert_eq!(files.matches("told-").count(), 1, "{files}");
}

#[test]
fn after_a_conflict_with_a_commit_that_a_user_has_pushed_the_next_attempt_begins_at_that_commit() {
    let graph = Graph::new("1 | First | P | 1 | H\n2 | Second | P | 1 | H\n\n@edges\n2 -> 1\n");
    let gate = Gate::new();
    let agent = r#"
        [ "${TASK_ID##*:}" = 2 ] || exit 0
        touch "$GATE/begun"
        while [ -e "$GATE" ] && [ ! -e "$GATE/open" ]; do sleep 0.02; done
        echo agent >> shared"#;
    let running = graph
        .dispatch(agent)
        .env("GATE", gate.path(""))
        .env("DESCARTES_AGENT_ENV", "GATE")
        .start();
    gate.wait_for_an_agent();
    let user = graph.project().with_file_name("user");
    let user_path = user.to_str().expect("UTF-8");
    graph.git(&["worktree", "add", "--quiet", user_path, "descartes/house"]);
    std::fs::write(user.join("shared"), "user\n").expect("a file");
    graph.git(&["-C", user_path, "add", "shared"]);
    graph.git(&["-C", user_path, "commit", "--quiet", "--message", "Mine"]);
    graph.git(&["worktree", "remove", user_path]);
    let pushed = graph.git(&["rev-parse", "descartes/house"]);
    gate.open();
    let ended = running.wait();
    ended.assert_code(0);
    assert_eq!(graph.entries("conflict").len(), 1, "{ended:#?}");
    let last = graph.entries("intent").pop().expect("an intent");
    assert_eq!(last["attempt"], 2, "{ended:#?}");
    assert_eq!(last["base"], pushed.trim());
    assert_eq!(graph.show("descartes/house", "shared"), "user\nagent\n");
}

#[test]
fn into_moves_the_named_branch_forward_to_the_merged_work() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    graph.git(&["branch", "release"]);
    let ended = graph
        .dispatch(AGENT_THAT_LISTS_FILES)
        .args(["--into", "release"])
        .run();
    ended.assert_code(0);
    assert_eq!(
        graph.git(&["rev-parse", "release"]),
        graph.git(&["rev-parse", "descartes/house"])
    );
}

#[test]
fn no_more_workers_run_at_a_time_than_jobs_allow() {
    let rows = [1, 2, 3, 4, 5, 6].map(|id| format!("{id} | t | P | 1 | M\n"));
    let graph = Graph::new(&rows.concat());
    let present = tempfile::tempdir().expect("a directory");
    let agent = r#"
        touch "$PRESENT/${TASK_ID##*:}"
        ls "$PRESENT" | grep -c . > "count-${TASK_ID##*:}"
        sleep 0.1
        rm "$PRESENT/${TASK_ID##*:}""#;
    let ended = graph
        .dispatch(agent)
        .args(["--jobs", "2"])
        .env("PRESENT", present.path())
        .env("DESCARTES_AGENT_ENV", "PRESENT")
        .run();
    ended.assert_code(0);
    for id in 1..=6 {
        let count = graph.show("descartes/house", &format!("count-{id}"));
        let count: u32 = count.trim().parse().expect("a number");
        assert!((1..=2).contains(&count), "{count} workers");
    }
}

#[test]
fn demo_graph_finishes_its_sample_project_and_prints_the_history() {
    let dir = crate::support::Project::empty();
    let ended = crate::support::Worker::without_settings()
        .args(["demo", "--graph"])
        .dir(dir.dir())
        .run();
    ended.assert_code(0);
    assert_in_order(
        &ended.stderr,
        &[
            "a sample project with a graph of tasks, in /",
            "no agent is set, so a short script stands in for one: sh .agent.sh",
            "conflicts with merged work",
            "8 of 8 tasks are done and merged on the branch descartes/shop",
            "the history of the branch descartes/shop:",
            "An empty shop",
        ],
    );
}
