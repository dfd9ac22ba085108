//! The prompt: its contents, on standard input and in a file.

use std::fs;

use crate::support::{Project, Receiver, Worker};

/// An agent that copies the prompt from standard input and from the prompt file to files.
const COPY_PROMPT: &str = "cat > stdin; cp \"$DESCARTES_PROMPT_FILE\" file";

/// A graph whose tasks have all the fields that a prompt can contain.
const GRAPH: &str = "\
# SCUD Graph v1
# Phase: webapp

@nodes
7 | Lay the foundation | D | 3 | H
8 | Build the house | P | 5 | C
9 | Buy the paint | I | 0 | L

@edges
8 -> 7
8 -> 9
8 -> 99
9 -> 7

@assignments
8 | ada

@agents
8 | bricklayer

@details
8 | description |
  Four walls and a roof.

  Not three.
8 | details |
  Use `brick`.
8 | test_strategy |
  Wait for rain.
";

/// Runs an agent that copies its prompt; returns the prompt. Asserts that it is the same on standard input and in the prompt file.
#[track_caller]
fn prompt(project: &Project, change: impl FnOnce(Worker) -> Worker) -> String {
    let receiver = Receiver::start();
    change(Worker::new(&receiver, project).agent(COPY_PROMPT))
        .run()
        .assert_completed(&receiver);
    assert_eq!(project.read("stdin"), project.read("file"));
    project.read("stdin")
}

/// The last section of the prompt; `checks` is the part about checks.
fn how_to_work(project: &Project, checks: &str) -> String {
    format!(
        "## How to work\n\n\
         - You are in {}, the project's directory. Change nothing outside it.\n\
         - No one will answer questions: decide, and say in your last message what you decided and why.\n\
         {checks}\
         - Don't commit or push, and leave .scud alone: the files that you leave in the directory are the result.\n",
        project.dir().display()
    )
}

#[test]
fn the_prompt_has_every_field_of_the_task_and_says_how_to_work() {
    let project = Project::with_graph(GRAPH);
    project.set_checks(&["true", "test -f stdin"]);
    let checks = "- When you are done, these commands will run, and all of them must pass:\n  \
                  - `true`\n  - `test -f stdin`\n";
    let task = "\
# Task 8: Build the house

Phase: webapp
Complexity: 5
Priority: critical

## Description

Four walls and a roof.

Not three.

## Details

Use `brick`.

## Test strategy

Wait for rain.

## This task builds on

- 7: Lay the foundation (done)
- 9: Buy the paint (in-progress)
- 99: not in the graph

";
    assert_eq!(
        prompt(&project, |worker| worker),
        format!("{task}{}", how_to_work(&project, checks))
    );
}

#[test]
fn the_prompt_has_no_headings_for_missing_fields() {
    let project = Project::with_graph(GRAPH);
    let no_checks =
        "- The project defines no checks, so verify yourself that your work is right.\n";
    assert_eq!(
        prompt(&project, |worker| worker.env("TASK_ID", "9")),
        format!(
            "# Task 9: Buy the paint\n\nPhase: webapp\nPriority: low\n\n\
             ## This task builds on\n\n- 7: Lay the foundation (done)\n\n{}",
            how_to_work(&project, no_checks)
        )
    );
}

#[test]
fn the_orchestrators_note_is_the_end_of_the_first_prompt_and_has_no_secret() {
    let project = Project::with_graph(GRAPH);
    let note = "An earlier run failed:\n  wrong color, key sk-ant-0123456789abcdef\n";
    let with_note = |worker: Worker| {
        worker
            .env("DESCARTES_NOTE", note)
            .env("ANTHROPIC_API_KEY", "sk-ant-0123456789abcdef")
    };
    let expected = "\n## A note about this run\n\nAn earlier run failed:\n  wrong color, key ***\n";
    let prompt_without_note = prompt(&project, |worker| worker.env("DESCARTES_FORCE", "true"));
    let text = prompt(&project, |worker| {
        with_note(worker).env("DESCARTES_FORCE", "true")
    });
    assert_eq!(text, format!("{prompt_without_note}{expected}"));
}

#[test]
fn a_note_that_is_too_long_keeps_its_beginning_and_its_end() {
    let project = Project::with_graph(GRAPH);
    let note = format!("first{}last", "x".repeat(40_000));
    let text = prompt(&project, |worker| worker.env("DESCARTES_NOTE", &note));
    let (_, rest) = text
        .split_once("\n## A note about this run\n\nfirst")
        .expect("the note");
    assert!(rest.ends_with("last\n"), "{rest}");
    assert!((16_000..17_000).contains(&rest.len()), "{}", rest.len());
}

#[test]
fn a_repair_does_not_repeat_the_note() {
    let (receiver, project) = (Receiver::start(), Project::with_graph(GRAPH));
    project.set_checks(&["test -f second"]);
    Worker::new(&receiver, &project)
        .env("DESCARTES_NOTE", "Paint it green.")
        .agent("if test -f first; then cat > second; else cat > first; fi")
        .run()
        .assert_completed(&receiver);
    assert!(project.read("first").ends_with("Paint it green.\n"));
    assert!(!project.read("second").contains("green"));
}

#[test]
fn the_prompt_file_is_outside_of_the_project_and_deleted_at_the_end() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .agent("printf %s \"$DESCARTES_PROMPT_FILE\"; ls -A > files")
        .run()
        .assert_completed(&receiver);
    let path = event["result"]["output"]["tail"].as_str().expect("a path");
    assert!(path.starts_with('/'), "{path}");
    assert!(!path.starts_with(project.dir().to_str().unwrap()), "{path}");
    assert!(!fs::exists(path).expect("an answer"), "{path}");
    assert_eq!(project.read("files"), ".scud\nfiles\n");
}

#[test]
fn an_agent_that_does_not_read_its_prompt_can_succeed() {
    let long = "x".repeat(300_000);
    let graph = GRAPH.replace("Use `brick`.", &long);
    let (receiver, project) = (Receiver::start(), Project::with_graph(&graph));
    Worker::new(&receiver, &project)
        .agent("exec <&-; wc -c < \"$DESCARTES_PROMPT_FILE\" > size")
        .run()
        .assert_completed(&receiver);
    let size: usize = project.read("size").trim().parse().expect("a number");
    assert!(size > 300_000, "{size}");
}

/// A definition of the agent `bricklayer`.
const BRICKLAYER: &str = r#"
[agent]
name = "bricklayer"
description = "Lays bricks"

[model]
harness = "claude"
model = "sonnet"

[prompt]
template = """
You lay bricks. {tag}:{task.id} is {task.title} ({task.complexity}, {task.priority}).
{task.description}
{task.details}
{task.test_strategy}
After {task.dependencies}; {task.unknown} and {} stay.
"""
"#;

#[test]
fn the_template_of_an_agent_definition_replaces_the_part_about_the_task() {
    let project = Project::with_graph(&GRAPH.replace("Use `brick`.", "Use {task.id} bricks."));
    project.write(".scud/agents/bricklayer.toml", BRICKLAYER);
    let no_checks =
        "- The project defines no checks, so verify yourself that your work is right.\n";
    let task = "\
You lay bricks. webapp:8 is Build the house (5, Critical).
Four walls and a roof.

Not three.
Use {task.id} bricks.
Wait for rain.
After 7, 9, 99; {task.unknown} and {} stay.

";
    assert_eq!(
        prompt(&project, |worker| worker),
        format!("{task}{}", how_to_work(&project, no_checks))
    );
}

#[test]
fn the_template_of_an_agent_definition_can_be_a_file() {
    let project = Project::with_graph(GRAPH);
    let definition = BRICKLAYER.split("[prompt]").next().expect("a part");
    project.write(
        ".scud/agents/bricklayer.toml",
        format!("{definition}[prompt]\ntemplate_file = \"brick/prompt.md\"\n"),
    );
    project.write(".scud/agents/brick/prompt.md", "Lay {task.id}.\n");
    let text = prompt(&project, |worker| worker);
    assert!(text.starts_with("Lay 8.\n\n## How to work\n"), "{text}");
}

#[test]
fn the_model_comes_from_the_settings_or_from_the_definition() {
    let model = |project: &Project, setting: &str| {
        let receiver = Receiver::start();
        let event = Worker::new(&receiver, project)
            .env("DESCARTES_MODEL", setting)
            .env("DESCARTES_FORCE", "true")
            .agent("printf %s \"${DESCARTES_MODEL-unset}\"")
            .run()
            .assert_completed(&receiver);
        let printed = event["result"]["output"]["tail"].as_str().expect("a text");
        (
            printed.to_owned(),
            event["result"]["agent"]["model"].clone(),
        )
    };
    let project = Project::with_graph(GRAPH);
    assert_eq!(model(&project, ""), ("unset".into(), ().into()));
    project.write(".scud/agents/bricklayer.toml", BRICKLAYER);
    assert_eq!(model(&project, ""), ("sonnet".into(), "sonnet".into()));
    assert_eq!(model(&project, "opus"), ("opus".into(), "opus".into()));
}

#[test]
fn an_assigned_agent_without_a_definition_is_only_a_warning() {
    let (receiver, project) = (Receiver::start(), Project::with_graph(GRAPH));
    let ended = Worker::new(&receiver, &project).agent("true").run();
    ended.assert_completed(&receiver);
    assert!(
        ended.stderr.contains(
            "\"the graph assigns an agent that .scud/agents does not define\",\"agent\":\"bricklayer\""
        ),
        "{ended:#?}"
    );
}

#[test]
fn a_malformed_agent_definition_fails_the_run_with_path_and_line() {
    let (receiver, project) = (Receiver::start(), Project::with_graph(GRAPH));
    project.write(".scud/agents/bricklayer.toml", "[agent]\nname = \n");
    let event = Worker::new(&receiver, &project)
        .agent("true")
        .run()
        .assert_failed(&receiver, "workspace_failed");
    let message = event["message"].as_str().expect("a message");
    let path = project.path(".scud/agents/bricklayer.toml");
    assert!(
        message.starts_with(&format!("{}, line 2: ", path.display())),
        "{message}"
    );
}

#[test]
fn the_prompt_after_a_failed_check_has_the_check_and_its_output() {
    let (receiver, project) = (Receiver::start(), Project::with_graph(GRAPH));
    project.set_checks(&["true", "cat missing; echo; echo '````'; test -f repaired"]);
    Worker::new(&receiver, &project)
        .agent("if [ -f first ]; then cat > second; cp \"$DESCARTES_PROMPT_FILE\" file; touch repaired; else cat > first; echo 'wall ``missing' > missing; fi")
        .run()
        .assert_completed(&receiver);
    let repair = project.read("second");
    assert_eq!(repair, project.read("file"));
    assert_eq!(
        repair,
        "Your work on task 8 (Build the house) is not done: \
         the check `cat missing; echo; echo '````'; test -f repaired` failed with exit code 1.\n\n\
         The end of its output:\n\n\
         `````\n\
         wall ``missing\n\n````\n\
         `````\n\n\
         Find the cause and fix it, so that the check passes. Don't weaken the check.\n"
    );
}

#[test]
fn the_terminal_event_has_the_prompt_of_each_round_without_secrets() {
    let receiver = Receiver::start();
    let secret = "0123456789abcdefghij";
    let project = Project::with_graph(&GRAPH.replace("Wait for rain.", &format!("Use {secret}.")));
    project.set_checks(&["test -f repaired"]);
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_NOTE", "Be careful.")
        .env("DESCARTES_AGENT_ENV", "PASSWORD")
        .env("PASSWORD", secret)
        .agent("if [ -f first ]; then cat > second; touch repaired; else cat > first; fi")
        .run()
        .assert_completed(&receiver);
    let prompts = &event["result"]["prompts"];
    assert!(project.read("first").contains("Be careful."));
    assert_eq!(prompts[0], project.read("first").replace(secret, "***"));
    assert_eq!(prompts[1], project.read("second"));
    assert_eq!(prompts.as_array().map(Vec::len), Some(2));
}

#[test]
fn the_terminal_event_has_both_ends_of_a_long_prompt() {
    let receiver = Receiver::start();
    let long = "a word ".repeat(10_000);
    let project = Project::with_graph(&GRAPH.replace("Not three.", &long));
    let event = Worker::new(&receiver, &project)
        .agent("cat > prompt")
        .run()
        .assert_completed(&receiver);
    let (prompt_in_event, prompt) = (
        event["result"]["prompts"][0].as_str().expect("a prompt"),
        project.read("prompt"),
    );
    assert!(prompt_in_event.len() <= 16 * 1024 && prompt_in_event.contains("bytes left out"));
    assert_eq!(prompt_in_event[..8_000], prompt[..8_000]);
    assert!(prompt_in_event.ends_with(&prompt[prompt.len() - 8_000..]));
}

#[test]
fn the_terminal_event_has_no_secret_with_a_terminal_code_in_it() {
    let receiver = Receiver::start();
    let project = Project::with_graph(GRAPH);
    project.write("print", "printf 'supersecret\\033[0mvalue123\\n'\n");
    project.set_checks(&["sh print; false"]);
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_REPAIRS", "1")
        .env("DESCARTES_AGENT_ENV", "MY_TOKEN")
        .env("MY_TOKEN", "supersecretvalue123")
        .agent("sh print")
        .run()
        .assert_failed(&receiver, "checks_failed");
    let prompts = event["result"]["prompts"].as_array().expect("prompts");
    assert!(
        prompts[1]
            .as_str()
            .is_some_and(|prompt| prompt.contains("\n***\n")),
        "{prompts:#?}"
    );
    // These two fields have the raw output. Programs that show them remove the terminal codes and mask the secrets again.
    let mut event = event.clone();
    event["result"]["checks"].take();
    event["result"]["output"].take();
    let text = event.to_string();
    assert!(!text.contains("value123"), "{text}");
}
