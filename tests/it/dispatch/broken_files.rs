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

/// A graph with a task for each command, which its agent runs unless the condition, a command, succeeds.
fn graph_and_agent<'a>(
    commands: impl Iterator<Item = &'a str>,
    order: Order,
    unless: &str,
) -> (Graph, String) {
    let (mut nodes, mut cases) = (String::new(), String::new());
    let mut edges = String::from("\n@edges\n");
    for (id, command) in (1..).zip(commands) {
        let _ = writeln!(nodes, "{id} | Task {id} | P | 1 | H");
        let _ = writeln!(cases, "{id}) {command};;");
        if order == Order::Chain && id > 1 {
            let _ = writeln!(edges, "{id} -> {}", id - 1);
        }
    }
    let agent =
        format!("id=${{TASK_ID##*:}}\n{unless} || case $id in\n{cases}esac\necho > done-$id");
    (Graph::new(&(nodes + &edges)), agent)
}

fn assert_all_tasks_are_merged(graph: &Graph, count: usize) {
    let files = graph.git(&["ls-tree", "--name-only", "descartes/house"]);
    let done = files.lines().filter(|name| name.starts_with("done-"));
    assert_eq!(done.count(), count, "{files}");
}

#[test]
fn work_that_would_stop_every_later_worker_is_not_merged_and_the_task_is_done_again() {
    let has_note = r#"grep -q 'no worker could start with it' "$DESCARTES_PROMPT_FILE""#;
    let commands = MISTAKES.iter().map(|(command, _)| *command);
    let (graph, agent) = graph_and_agent(commands, Order::Independent, has_note);
    // The agent's command comes from the variable, so the file's is not used unless the task has a broken one.
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
    graph.checks(&["true"]);
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

/// Ways to break the definition of an agent, and what the dispatch says about each.
const AGENT_MISTAKES: [(&str, &str); 7] = [
    (
        "printf '[agent]\\nname = \\n' > .scud/agents/builder.toml",
        ".scud/agents/builder.toml, line 2: ",
    ),
    (
        "printf '[agent]\\nname = \"b\"\\n' > .scud/agents/builder.toml",
        ".scud/agents/builder.toml, line 1: missing field `model`",
    ),
    (
        "printf '# \\377\\n' > .scud/agents/builder.toml",
        ".scud/agents/builder.toml is not UTF-8",
    ),
    (
        "ln -sf /etc/passwd .scud/agents/builder.toml",
        ".scud/agents/builder.toml is not a regular file",
    ),
    (
        "rm -r .scud/agents; ln -s /etc .scud/agents",
        ".scud/agents/builder.toml is not a regular file",
    ),
    (
        "sed -i 's:builder.md:../../README:' .scud/agents/builder.toml",
        "the template file `../../README` is not below .scud/agents",
    ),
    (
        "rm .scud/agents/builder.md",
        "the template file .scud/agents/builder.md does not exist",
    ),
];

const BUILDER: &str =
    "[agent]\nname = \"builder\"\n[model]\n[prompt]\ntemplate_file = \"builder.md\"\n";

/// A graph whose tasks are all assigned to the agent `builder`; the last one needs the others. Each other task has one of the
/// commands.
fn graph_of_builder(commands: &[&str], unless: &str) -> (Graph, String) {
    let (mut nodes, mut cases) = (String::new(), String::new());
    let (mut edges, mut agents) = (String::from("\n@edges\n"), String::from("\n@agents\n"));
    let last = commands.len() + 1;
    for (id, command) in (1..).zip(commands) {
        let _ = writeln!(cases, "{id}) {command};;");
        let _ = writeln!(edges, "{last} -> {id}");
    }
    for id in 1..=last {
        let _ = writeln!(nodes, "{id} | Task {id} | P | 1 | H");
        let _ = writeln!(agents, "{id} | builder");
    }
    let graph = Graph::new(&(nodes + &edges + &agents));
    graph
        .write(".scud/agents/builder.toml", BUILDER)
        .write(".scud/agents/builder.md", "Build {task.title}.\n")
        .commit("An agent");
    let agent =
        format!("id=${{TASK_ID##*:}}\n{unless} || case $id in\n{cases}esac\necho > done-$id");
    (graph, agent)
}

#[test]
fn a_broken_definition_of_an_agent_with_open_tasks_is_not_merged_and_the_task_is_done_again() {
    let has_note = r#"grep -q 'could use the definition of its agent' "$DESCARTES_PROMPT_FILE""#;
    let (graph, agent) = graph_of_builder(&AGENT_MISTAKES.map(|(command, _)| command), has_note);
    let ended = graph
        .dispatch(&agent)
        .env("DESCARTES_DISPATCH_RETRY_DELAY", "20ms")
        .run();
    ended.assert_code(0);
    for (command, words) in AGENT_MISTAKES {
        let line = ended.stderr.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{command}: {words}\n{}", ended.stderr));
        assert!(line.contains("its work is not merged"), "{line}");
    }
    // The last task waits for the others, which run at the same time.
    let words = "no worker of the tasks ";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    assert!(
        !ended.stderr.contains("no worker could start"),
        "{ended:#?}"
    );
    assert_all_tasks_are_merged(&graph, AGENT_MISTAKES.len() + 1);
    assert_eq!(graph.entries("red").len(), AGENT_MISTAKES.len());
    // Every task had a worker that could start, and those with a mistake had another one.
    assert_eq!(graph.entries("intent").len(), 2 * AGENT_MISTAKES.len() + 1);
    assert_eq!(
        graph.show("descartes/house", ".scud/agents/builder.toml"),
        BUILDER
    );
}

#[test]
fn a_broken_definition_that_no_open_task_needs_is_merged() {
    let breaks_other = "echo '[' > .scud/agents/other.toml";
    let (graph, agent) = graph_of_builder(&[breaks_other, "rm .scud/agents/other.toml"], "false");
    // The last task breaks the definition of its own agent, which no other task has.
    let agent = format!("{agent}\n[ \"$id\" != 3 ] || echo '[' > .scud/agents/builder.toml");
    graph
        .dispatch(&agent)
        .arg("--jobs")
        .arg("1")
        .run()
        .assert_code(0);
    assert_all_tasks_are_merged(&graph, 3);
    assert_eq!(graph.entries("intent").len(), 3);
    assert_eq!(
        graph.show("descartes/house", ".scud/agents/builder.toml"),
        "[\n"
    );
}

/// Six independent tasks. The first three are assigned to the agent `builder`.
fn graph_with_three_tasks_of_builder() -> Graph {
    let rows = (1..=6).map(|id| format!("{id} | Task {id} | P | 1 | H\n"));
    let rows: String = rows.collect();
    Graph::new(&format!(
        "{rows}\n@agents\n1 | builder\n2 | builder\n3 | builder\n"
    ))
}

#[test]
fn a_broken_definition_at_the_start_blocks_only_the_tasks_of_its_agent_and_none_of_them_runs() {
    let graph = graph_with_three_tasks_of_builder();
    graph
        .write(".scud/agents/builder.toml", "[")
        .commit("Broken");
    let ended = graph
        .dispatch("echo > done-${TASK_ID##*:}")
        .args(["--jobs", "1"])
        .run();
    ended.assert_code(1);
    let mistake = ".scud/agents/builder.toml, line 1: ";
    let has_line = |begin: &str, end: &str| {
        let mut lines = ended.stderr.lines();
        lines.any(|line| line.contains(begin) && line.contains(mistake) && line.contains(end))
    };
    let end = "; the tasks 1, 2 and 3 are blocked until it is corrected";
    assert!(has_line("at the commit ", end), "{ended:#?}");
    for id in 1..=3 {
        let begin = format!("blocked   {id}        Task {id}: its worker could not start");
        assert!(has_line(&begin, ""), "{ended:#?}");
    }
    assert!(ended.stderr.contains("3 of 6 tasks are done"), "{ended:#?}");
    assert_all_tasks_are_merged(&graph, 3);
    assert_eq!(graph.entries("intent").len(), 3);
    let status = graph.command(&["status"]).run();
    status.assert_code(0);
    let line = status.stdout.lines().find(|line| line.contains("Task 2"));
    assert!(
        line.is_some_and(|line| line.starts_with("blocked") && line.contains(mistake)),
        "{status:#?}"
    );
}

#[test]
fn after_work_that_corrects_a_definition_the_tasks_of_its_agent_run() {
    let graph = graph_with_three_tasks_of_builder();
    graph
        .write(".scud/agents/builder.toml", "[")
        .commit("Broken");
    let agent = format!(
        "id=${{TASK_ID##*:}}; [ $id != 5 ] || printf '%s' '{BUILDER}' > .scud/agents/builder.toml\n\
         [ $id != 5 ] || echo 'Build.' > .scud/agents/builder.md\necho > done-$id"
    );
    let ended = graph.dispatch(&agent).args(["--jobs", "1"]).run();
    ended.assert_code(0);
    assert_all_tasks_are_merged(&graph, 6);
    assert_eq!(graph.entries("intent").len(), 6);
}

#[test]
fn work_that_leaves_a_broken_definition_broken_is_merged() {
    // Task 4 moves the mistake to another line.
    let graph = graph_with_three_tasks_of_builder();
    graph
        .write(".scud/agents/builder.toml", "[")
        .commit("Broken");
    let agent = "id=${TASK_ID##*:}; [ $id != 4 ] || printf '\\n\\n[' > .scud/agents/builder.toml\n\
                 echo > done-$id";
    let ended = graph.dispatch(agent).run();
    ended.assert_code(1);
    assert_eq!(graph.entries("red").len(), 0);
    assert_all_tasks_are_merged(&graph, 3);
    assert!(
        ended.stderr.contains("builder.toml, line 3: "),
        "{ended:#?}"
    );
}

#[test]
fn definitions_of_tasks_that_the_dispatch_does_not_run_do_not_matter() {
    let graph = Graph::with_text(
        "# SCUD Graph v1\n# Phase: house\n\n@nodes\n1 | Task 1 | P | 1 | H\n2 | Task 2 | F | 1 | H\n\n\
         @agents\n2 | builder\n\n---\n\n\
         # SCUD Graph v1\n# Phase: garden\n\n@nodes\n3 | Task 3 | P | 1 | H\n\n@agents\n3 | gardener\n",
    );
    graph
        .write(".scud/agents/gardener.toml", "[")
        .write(".scud/agents/builder.toml", BUILDER)
        .write(".scud/agents/builder.md", "Build.\n")
        .commit("Agents");
    // Task 2 is deferred, and task 3 is of another phase.
    let agent = "echo '[' > .scud/agents/builder.toml; echo '[[' > .scud/agents/gardener.toml; echo > done-1";
    let ended = graph.dispatch(agent).args(["--tag", "house"]).run();
    ended.assert_code(0);
    assert!(!ended.stderr.contains("gardener.toml"), "{ended:#?}");
    assert_eq!(graph.entries("red").len(), 0);
    assert_all_tasks_are_merged(&graph, 1);
}

#[test]
fn work_that_deletes_a_definition_with_open_tasks_is_not_merged_and_the_task_is_done_again() {
    let has_note = r#"grep -q 'was deleted' "$DESCARTES_PROMPT_FILE""#;
    let (graph, agent) = graph_of_builder(&["rm .scud/agents/builder.toml"], has_note);
    let ended = graph.dispatch(&agent).run();
    ended.assert_code(0);
    let words = "the definition of the agent `builder` was deleted";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    assert_all_tasks_are_merged(&graph, 2);
    assert_eq!(graph.entries("red").len(), 1);
    assert_eq!(
        graph.show("descartes/house", ".scud/agents/builder.toml"),
        BUILDER
    );
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
