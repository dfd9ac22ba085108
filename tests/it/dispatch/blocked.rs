//! Failed tasks: they are tried again, or blocked, and the branch with their work is named.

use super::sample::Graph;

const CHAIN: &str = "1 | First | P | 1 | H\n2 | Second | P | 1 | H\n3 | Independent | P | 1 | H\n\n@edges\n2 -> 1\n";

#[test]
fn a_failed_task_blocks_what_depends_on_it_and_its_unfinished_work_is_named() {
    let graph = Graph::new(CHAIN);
    let agent = "echo half > half-${TASK_ID##*:}; [ ${TASK_ID##*:} != 1 ]";
    let ended = graph.dispatch(agent).run();
    ended.assert_code(1);
    let stderr = &ended.stderr;
    assert!(stderr.contains("1 of 3 tasks are done"), "{stderr}");
    assert!(
        stderr.contains("blocked   1        First: agent_failed: "),
        "{stderr}"
    );
    assert!(
        stderr.contains("blocked   2        Second: needs 1, which is blocked"),
        "{stderr}"
    );
    let place = stderr
        .split("its work is on ")
        .nth(1)
        .expect("a branch is named");
    let place = place.split_whitespace().next().expect("a branch");
    assert_eq!(graph.show(place, "half-1"), "half\n");
    assert_eq!(graph.show("descartes/house", "half-3"), "half\n");
}

#[test]
fn after_a_worker_was_killed_the_task_is_tried_again_and_the_prompt_says_why() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    // The agent kills its worker in the first attempt.
    let agent = r#"
        if grep -q 'An earlier attempt at this task was lost' "$DESCARTES_PROMPT_FILE"; then
            echo again > again
        else
            kill -9 $(sed 's/.*) . \([0-9]*\) .*/\1/' /proc/$$/stat)
        fi"#;
    // In a PID namespace, the agent could not kill the worker.
    let ended = graph
        .dispatch(agent)
        .env("DESCARTES_ISOLATION", "off")
        .run();
    ended.assert_code(0);
    assert_eq!(graph.show("descartes/house", "again"), "again\n");
    let entries = graph.journal();
    let fenced = entries.iter().filter(|entry| entry["entry"] == "fenced");
    assert_eq!(fenced.count(), 1, "{entries:#?}");
}

#[test]
fn a_task_is_blocked_after_its_last_attempt_and_retry_gives_it_new_ones() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let agent = "kill -9 $$";
    let ended = graph.dispatch(agent).args(["--attempts", "2"]).run();
    ended.assert_code(1);
    assert!(
        ended
            .stderr
            .contains("has failed 2 times, the last time: agent_killed"),
        "{ended:#?}"
    );
    let status = graph.command(&["status", "--attempts", "2"]).run();
    status.assert_code(0);
    assert!(status.stdout.contains("blocked   1"), "{status:#?}");
    let retry = graph.command(&["retry", "1"]).run();
    retry.assert_code(0);
    graph.dispatch("echo done > done").run().assert_code(0);
    assert_eq!(graph.show("descartes/house", "done"), "done\n");
}

#[test]
fn if_checks_fail_only_on_merged_work_one_task_is_done_again() {
    let graph = Graph::new("1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n");
    // The checks pass with the work of one task and fail with both, unless the second attempt has added `both`.
    graph.commit_checks(&["sh -c '[ ! -e left ] || [ ! -e right ] || [ -e both ]'"]);
    let agent = r#"
        id=${TASK_ID##*:}
        touch "$MEETING/$id"
        while [ -e "$MEETING" ] && { [ ! -e "$MEETING/1" ] || [ ! -e "$MEETING/2" ]; }; do sleep 0.02; done
        if grep -q 'checks fail when it is merged' "$DESCARTES_PROMPT_FILE"; then touch both; fi
        if [ $id = 1 ]; then touch left; else touch right; fi"#;
    let meeting = tempfile::tempdir().expect("a directory");
    let ended = graph
        .dispatch(agent)
        .env("MEETING", meeting.path())
        .env("DESCARTES_AGENT_ENV", "MEETING")
        .run();
    ended.assert_code(0);
    assert!(
        ended.stderr.contains("the checks fail on its merged work"),
        "{ended:#?}"
    );
    let files = graph.git(&["ls-tree", "--name-only", "descartes/house"]);
    for name in ["left", "right", "both"] {
        assert!(files.lines().any(|line| line == name), "{files}");
    }
}

#[test]
fn without_an_agent_or_a_committed_graph_no_run_starts() {
    let graph = Graph::new(CHAIN);
    let ended = graph.command(&[]).run();
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .contains("there is no agent to run: set DESCARTES_AGENT_COMMAND"),
        "{ended:#?}"
    );
    let ended = graph.dispatch("no-such-agent --work").run();
    ended.assert_code(2);
    let words = "there is no executable program `no-such-agent`";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    graph.git(&["rm", "--quiet", "--cached", ".scud/tasks/tasks.scg"]);
    graph.git(&["commit", "--quiet", "--message", "No graph"]);
    let ended = graph.dispatch("true").run();
    ended.assert_code(2);
    assert!(ended.stderr.contains("tasks.scg"), "{ended:#?}");
    assert_eq!(graph.entries("intent").len(), 0);
}
