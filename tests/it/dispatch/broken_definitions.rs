//! Definitions of agents that a worker cannot use, at the start and in the work of agents.

use std::fmt::Write as _;

use super::broken_files::assert_all_tasks_are_merged;
use super::sample::Graph;

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

/// A graph whose tasks are all assigned to the agent `builder`, and the script of that agent. There is one task for each command,
/// and a last task that needs the others. The agent of a task runs its command, unless the command `unless` succeeds.
fn graph_of_builder(commands: &[&str], unless: &str) -> (Graph, String) {
    let (mut nodes, mut branches) = (String::new(), String::new());
    let (mut edges, mut agents) = (String::from("\n@edges\n"), String::from("\n@agents\n"));
    let last = commands.len() + 1;
    for (id, command) in (1..).zip(commands) {
        let _ = writeln!(branches, "{id}) {command};;");
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
        format!("id=${{TASK_ID##*:}}\n{unless} || case $id in\n{branches}esac\necho > done-$id");
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
    // The last task breaks the definition of its own agent. The other tasks have another agent.
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
