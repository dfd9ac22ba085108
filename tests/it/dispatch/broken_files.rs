//! Agents that break the files that every later worker reads.

use std::fmt::Write as _;

use super::sample::Graph;
use crate::support::assert_in_order;

/// Ways to break a file, and what the dispatch says about each.
const MISTAKES: [(&str, &str); 13] = [
    (
        r#"echo 'max_turns = "many"' > .descartes.toml"#,
        ".descartes.toml cannot be used: line 1: max_turns must be a number",
    ),
    (
        "ln -sf /etc/passwd .descartes.toml",
        ".descartes.toml is not a regular file",
    ),
    (
        "rm .descartes.toml; mkdir .descartes.toml; echo > .descartes.toml/file",
        ".descartes.toml is not a regular file",
    ),
    (
        "head -c 100000 /dev/zero | tr '\\0' '#' > .descartes.toml",
        ".descartes.toml is larger than the limit of 64 KiB",
    ),
    (
        "printf '# \\377\\n' > .descartes.toml",
        ".descartes.toml is not UTF-8",
    ),
    (
        r#"printf '[[needs]]\nmemory = "much"\n' > .descartes.toml"#,
        "in table 1 of [[needs]], memory = \"much\" is not an amount",
    ),
    (
        r#"echo 'agent_command = "no-such-agent --work"' > .descartes.toml"#,
        "no-such-agent",
    ),
    (
        r#"echo 'checks = ["no-such-check"]' > .descartes.toml"#,
        "the check `no-such-check` cannot start",
    ),
    (
        r#"printf '[swarm.backpressure]\ncommands = "true"\n' > .scud/config.toml"#,
        ".scud/config.toml, line 2: `commands` must be a list",
    ),
    (
        "ln -s /etc/passwd .scud/config.toml",
        ".scud/config.toml is not a regular file",
    ),
    (
        "head -c 2000000 /dev/zero | tr '\\0' '#' > .scud/config.toml",
        ".scud/config.toml is larger than the limit of 1024 KiB",
    ),
    (
        r#"printf '[swarm.backpressure]\ncommands = ["a\\u0000"]\n' > .scud/config.toml"#,
        "contains a NUL character; remove it",
    ),
    // More than a variable can hold, so the note for the next attempt must be shortened.
    (
        r#"{ printf '[swarm.backpressure]\ncommands = ['; for n in $(seq 2000); do printf '"missing-%s-%0200d",' $n 0; done; echo ']'; } > .scud/config.toml"#,
        "and 1995 more",
    ),
];

/// Whether tasks need each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Independent,
    /// Each task needs the one before it.
    Chain,
}

/// A graph with one task for each command, and the script of the agent. The agent of a task runs its command, unless the command
/// `unless` succeeds.
fn graph_and_agent<'a>(
    commands: impl Iterator<Item = &'a str>,
    order: Order,
    unless: &str,
) -> (Graph, String) {
    let (mut nodes, mut branches) = (String::new(), String::new());
    let mut edges = String::from("\n@edges\n");
    for (id, command) in (1..).zip(commands) {
        let _ = writeln!(nodes, "{id} | Task {id} | P | 1 | H");
        let _ = writeln!(branches, "{id}) {command};;");
        if order == Order::Chain && id > 1 {
            let _ = writeln!(edges, "{id} -> {}", id - 1);
        }
    }
    let agent =
        format!("id=${{TASK_ID##*:}}\n{unless} || case $id in\n{branches}esac\necho > done-$id");
    (Graph::new(&(nodes + &edges)), agent)
}

pub fn assert_all_tasks_are_merged(graph: &Graph, count: usize) {
    let files = graph.git(&["ls-tree", "--name-only", "descartes/house"]);
    let done = files.lines().filter(|name| name.starts_with("done-"));
    assert_eq!(done.count(), count, "{files}");
}

#[test]
fn work_that_would_stop_every_later_worker_is_not_merged_and_the_task_is_done_again() {
    let has_note = r#"grep -q 'no worker could start with it' "$DESCARTES_PROMPT_FILE""#;
    let commands = MISTAKES.iter().map(|(command, _)| *command);
    let (graph, agent) = graph_and_agent(commands, Order::Independent, has_note);
    // The agent's command comes from the file `.descartes.toml`, because some mistakes are in that setting.
    graph.write("agent.sh", &agent).commit("Agent");
    graph
        .write(".descartes.toml", "agent_command = \"sh agent.sh\"\n")
        .commit("Settings");
    let ended = graph
        .command(&["--jobs", "4"])
        .env("DESCARTES_DISPATCH_RETRY_DELAY", "20ms")
        .run();
    ended.assert_code(0);
    for (command, words) in MISTAKES {
        let line = ended.stderr.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{command}: {words}\n{}", ended.stderr));
        assert!(line.contains("its work is not merged"), "{line}");
    }
    assert_all_tasks_are_merged(&graph, MISTAKES.len());
    assert_eq!(graph.entries("red").len(), MISTAKES.len());
    // No worker ever started with a mistake.
    assert_eq!(graph.entries("intent").len(), 2 * MISTAKES.len());
    assert_eq!(
        graph.show("descartes/house", ".descartes.toml"),
        "agent_command = \"sh agent.sh\"\n"
    );
}

#[test]
fn deleted_settings_and_a_broken_graph_do_not_stop_the_tasks_that_follow() {
    let commands = [
        "rm .descartes.toml .scud/config.toml",
        "rm -r .scud",
        "rm -r .scud; ln -s /etc .scud",
        "rm -r .scud; echo > .scud",
        "rm -r .scud/tasks; mkdir -p .scud/tasks/tasks.scg; echo > .scud/tasks/tasks.scg/file",
        "printf '\\n@edges\\n\\377\\n' >> .scud/tasks/tasks.scg",
        "printf '\\n@nodes\\n1 | Again | P | 1 | H\\n1 | Again | P | 1 | H\\n' >> .scud/tasks/tasks.scg",
    ];
    let (graph, agent) = graph_and_agent(commands.iter().copied(), Order::Chain, "false");
    graph.commit_checks(&["true"]);
    graph
        .write(".descartes.toml", "max_turns = 9\n")
        .commit("Settings");
    // Each worker starts with the merged work of the one before it.
    let ended = graph.dispatch(&agent).run();
    ended.assert_code(0);
    assert_in_order(&ended.stderr, &["7 of 7 tasks are done"]);
    assert_all_tasks_are_merged(&graph, commands.len());
}

#[test]
fn no_dispatch_starts_at_a_base_with_a_mistake_in_the_projects_settings() {
    for (file, text, words) in [
        (
            ".descartes.toml",
            "max_turn = 1\n",
            "max_turn is not a known key; did you mean max_turns?",
        ),
        (
            ".scud/config.toml",
            "[swarm.backpressure]\ncommands = 1\n",
            ".scud/config.toml, line 2: `commands` must be a list",
        ),
    ] {
        let graph = Graph::new("1 | Task | P | 1 | H\n");
        graph.write(file, text).commit("Mistake");
        let ended = graph.dispatch("true").run();
        ended.assert_code(2);
        assert!(ended.stderr.contains(words), "{ended:#?}");
        assert_eq!(graph.entries("intent").len(), 0);
    }
    let graph = Graph::new("1 | Task | P | 1 | H\n");
    std::os::unix::fs::symlink("/etc/passwd", graph.project().join(".scud/config.toml"))
        .expect("a link");
    graph.commit("Link");
    let ended = graph.dispatch("true").run();
    ended.assert_code(2);
    let words = ".scud/config.toml is not a regular file";
    assert!(ended.stderr.contains(words), "{ended:#?}");
}

#[test]
fn a_task_whose_work_breaks_files_twice_is_blocked_with_the_mistake_as_the_reason() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let agent = "echo 'max_turns = \"many\"' > .descartes.toml";
    let ended = graph.dispatch(agent).run();
    ended.assert_code(1);
    let words = "blocked   1        Only: its work was rejected 2 times, the last time because no worker could start with it: \
                 .descartes.toml cannot be used: line 1: max_turns must be a number";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    assert!(!ended.stderr.contains("checks fail"), "{ended:#?}");
}
