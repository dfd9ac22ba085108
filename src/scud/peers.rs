//! Compares this module with the real `scud`: both read and write the same graphs.
//!
//! Needs `scud` on PATH, and the feature `peers`. A test that covers an intended difference from SCUD
//! says so.

use std::process::{Command, Output};
use std::thread;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::FindError;
use super::samples::{GeneratedTask, LETTERS, Sample, block_on, graphs, status_of_letter};
use super::search::id_in_phase;
use crate::task::{Priority, Status, Task};

fn try_scud(sample: &Sample, arguments: &[&str]) -> Output {
    let output = Command::new("scud")
        .args(arguments)
        .current_dir(sample.root())
        .env("NO_COLOR", "1")
        .output();
    output.expect("scud on PATH: cargo install --locked scud-cli@1.67.0")
}

fn scud(sample: &Sample, arguments: &[&str]) -> String {
    let output = try_scud(sample, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scud {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The tasks of a phase as `scud list --json` prints them.
fn list_with_scud(sample: &Sample, tag: &str) -> Vec<Value> {
    serde_json::from_str(&scud(sample, &["list", "--tag", tag, "--json"])).unwrap()
}

fn status_in_scud(sample: &Sample, tag: &str, id: &str) -> String {
    let tasks = list_with_scud(sample, tag);
    let task = tasks
        .iter()
        .find(|task| id_in_phase(tag, task["id"].as_str().unwrap()) == id);
    task.unwrap()["status"].as_str().unwrap().to_owned()
}

/// Removes what scud does not read: blank lines, and white space at the end of a phase.
fn without_blank_lines(text: Option<&str>) -> String {
    let lines = text.unwrap_or("").lines();
    let lines: Vec<_> = lines.filter(|line| !line.trim().is_empty()).collect();
    lines.join("\n").trim_end().to_owned()
}

fn assert_same_fields(ours: &Task, scud_task: &Value) {
    assert_eq!(ours.title, scud_task["title"].as_str().unwrap());
    assert_eq!(
        ours.status.to_string(),
        scud_task["status"].as_str().unwrap()
    );
    assert_eq!(
        u64::from(ours.complexity),
        scud_task["complexity"].as_u64().unwrap()
    );
    assert_eq!(
        ours.priority.to_string(),
        scud_task["priority"].as_str().unwrap()
    );
    let ids: Vec<_> = ours
        .dependencies
        .iter()
        .map(|one| one.id.as_str())
        .collect();
    assert_eq!(json!(ids), scud_task["dependencies"]);
    assert_eq!(ours.agent.as_deref(), scud_task["agent_type"].as_str());
}

fn assert_same_texts(ours: &Task, scud_task: &Value) {
    for (ours, field) in [
        (&ours.description, "description"),
        (&ours.details, "details"),
        (&ours.test_strategy, "test_strategy"),
    ] {
        assert_eq!(
            without_blank_lines(ours.as_deref()),
            without_blank_lines(scud_task[field].as_str()),
            "{field}"
        );
    }
}

fn task(id: &str, title: &str, status: &str) -> Value {
    json!({
        "id": id, "title": title, "description": "", "status": status,
        "complexity": 0, "priority": "medium", "dependencies": [],
    })
}

/// A project with a graph that scud has written: three phases with titles and texts that are hard to parse.
fn project_written_by_scud() -> Sample {
    let mut irregular = task("1", "a | b \\ c \\n\n| new \\| line ü 🦀", "in-progress");
    irregular["description"] = json!("first\n\n  second | D | 1\n1 | description |");
    irregular["details"] = json!("---\n# Phase: x\n}\n\tlast");
    irregular["test_strategy"] = json!("cargo test");
    irregular["complexity"] = json!(13);
    irregular["priority"] = json!("critical");
    irregular["dependencies"] = json!(["2", "beta:1", "nowhere", "2.1"]);
    irregular["agent_type"] = json!("builder");
    let statuses = [
        "pending",
        "in-progress",
        "done",
        "review",
        "blocked",
        "deferred",
        "cancelled",
        "expanded",
        "failed",
    ];
    let with_status = |(index, status): (usize, &&str)| task(&format!("s{index}"), status, status);
    let one_per_status: Vec<_> = statuses.iter().enumerate().map(with_status).collect();
    let uuid = task("0123456789abcdef0123456789abcdef", "by uuid", "pending");
    let graph = json!({
        "alpha": { "name": "alpha", "tasks": [irregular, task("2", "two", "done"), task("2.1", "", "failed")] },
        "beta": { "name": "beta", "tasks": [task("1", "other one", "done"), uuid] },
        "with space": { "name": "with space", "tasks": one_per_status },
    });
    let sample = Sample::without_graph();
    sample.write(".scud/tasks/tasks.json", graph.to_string());
    scud(&sample, &["convert", "--from", "json", "--to", "scg"]);
    sample
}

const PHASES: [&str; 3] = ["alpha", "beta", "with space"];

#[test]
fn a_graph_that_scud_wrote_is_read_in_the_same_way() {
    let sample = project_written_by_scud();
    for tag in PHASES {
        let tasks = list_with_scud(&sample, tag);
        assert!(!tasks.is_empty());
        for scud_task in tasks {
            let id = scud_task["id"].as_str().unwrap();
            let ours = sample.find(&format!("{tag}:{id}")).unwrap();
            assert_same_fields(&ours, &scud_task);
            assert_same_texts(&ours, &scud_task);
        }
    }
    let irregular = sample.find("alpha:1").unwrap();
    assert_eq!(irregular.title, "a | b \\ c \\n\n| new \\| line ü 🦀");
    assert_eq!(irregular.priority, Priority::Critical);
    let unmet: Vec<_> = irregular.unmet_dependencies().map(|one| &one.id).collect();
    assert_eq!(unmet, ["nowhere", "2.1"]);
}

#[test]
fn scud_reads_every_status_that_the_worker_writes() {
    let sample = project_written_by_scud();
    let task = sample.find("alpha:1").unwrap();
    for letter in LETTERS {
        let status = status_of_letter(*letter);
        block_on(sample.project.set_status(&task, status)).unwrap();
        assert_eq!(status_in_scud(&sample, "alpha", "1"), status.to_string());
        let shown = scud(&sample, &["show", "1", "--tag", "alpha"]);
        let line = shown
            .lines()
            .find(|line| line.starts_with("Status:"))
            .unwrap();
        assert!(line.ends_with(&format!(" {status}")), "{line}");
        let after = sample.find("alpha:1").unwrap();
        assert_eq!(
            after,
            Task {
                status,
                ..task.clone()
            }
        );
    }
}

#[test]
fn every_status_that_scud_writes_is_read() {
    let sample = project_written_by_scud();
    for letter in LETTERS {
        let status = status_of_letter(*letter);
        scud(
            &sample,
            &["set-status", "1", &status.to_string(), "--tag", "beta"],
        );
        assert_eq!(sample.find("beta:1").unwrap().status, status);
    }
}

#[test]
fn the_tag_that_scud_made_active_decides_between_phases() {
    let sample = project_written_by_scud();
    assert!(matches!(sample.find("1"), Err(FindError::Ambiguous { .. })));
    scud(&sample, &["tags", "beta"]);
    assert_eq!(sample.find("1").unwrap().title, "other one");
}

#[test]
fn new_statuses_stay_while_scud_changes_another_phase_at_the_same_time() {
    let sample = project_written_by_scud();
    thread::scope(|scope| {
        let scud_thread = scope.spawn(|| {
            for round in 0..20 {
                let status = ["review", "blocked"][round % 2];
                scud(&sample, &["set-status", "1", status, "--tag", "beta"]);
            }
        });
        let tasks = (0..9).map(|id| format!("with space:s{id}"));
        for reference in tasks.cycle().take(36) {
            let task = sample.find(&reference).unwrap();
            block_on(sample.project.set_status(&task, Status::Review)).unwrap();
            block_on(sample.project.set_status(&task, Status::Done)).unwrap();
        }
        scud_thread.join().unwrap();
    });
    let all = list_with_scud(&sample, "with space");
    assert!(all.iter().all(|task| task["status"] == "done"), "{all:?}");
    assert_eq!(status_in_scud(&sample, "beta", "1"), "blocked");
}

#[test]
fn a_graph_that_scud_rejects_is_rejected() {
    let good = "# SCUD Graph v1\n# Phase: a\n@nodes\n1 | t | P | 1 | M\n";
    for graph in [
        b"nonsense".to_vec(),
        format!("\u{feff}{good}").into_bytes(),
        [good.as_bytes(), b"\xff\n"].concat(),
        format!("{good}\n---\n\nnonsense\n").into_bytes(),
        format!("{good}\n---\n# SCUD Graph v1\n").into_bytes(),
        good.replacen('\n', "\n\n", 1).into_bytes(),
    ] {
        let sample = Sample::with_graph(&graph);
        let output = try_scud(&sample, &["list", "--tag", "a", "--json"]);
        assert!(
            !output.status.success(),
            "{:?}",
            String::from_utf8_lossy(&graph)
        );
        assert!(matches!(sample.find("1"), Err(FindError::Malformed(_))));
    }
}

#[test]
fn an_irregular_graph_that_scud_accepts_is_read_in_the_same_way() {
    let good = "# SCUD Graph v1\n# Phase: a\n@nodes\n1 | t | P | 1 | M\n";
    for graph in [
        format!("\n\n  {good}"),
        good.replace('\n', "\r\n"),
        good.replace("# Phase:", "# Epic:"),
        good.replace("v1", "v2 of the future"),
        good.replace("@nodes", "@meta\n  name a\n@nodes"),
        good.replace(
            "1 | t",
            "stray\n # comment | x | D | 1 | M\n}\n2 | broken\n1 | t",
        ),
        format!(
            "{good}@edges\n1 -> 9\n1 ~~ 3\n@details\n1 | details |\n    deep\n1 | other |\n  x\n"
        ),
        format!("{good}\n---\n\n---\n"),
        good.trim_end().to_owned(),
        good.replace("| M", "| ? | role=x | more"),
    ] {
        let sample = Sample::with_graph(&graph);
        let tasks = list_with_scud(&sample, "a");
        let scud_task = tasks.iter().find(|task| task["id"] == "1").unwrap();
        let ours = sample.find("1").unwrap();
        assert_same_fields(&ours, scud_task);
        assert_same_texts(&ours, scud_task);
    }
}

/// SCUD reads an indented `@` line as a section and loses the rest of the text; the worker reads the whole text.
#[test]
fn a_text_with_an_indented_at_sign_is_read_although_scud_loses_its_rest() {
    let mut task_with_at_sign = task("1", "t", "pending");
    task_with_at_sign["details"] = json!("before\n@property\nafter");
    let sample = Sample::without_graph();
    let graph = json!({ "a": { "name": "a", "tasks": [task_with_at_sign] } });
    sample.write(".scud/tasks/tasks.json", graph.to_string());
    scud(&sample, &["convert", "--from", "json", "--to", "scg"]);
    assert_eq!(list_with_scud(&sample, "a")[0]["details"], "before");
    let ours = sample.find("1").unwrap();
    assert_eq!(ours.details.as_deref(), Some("before\n@property\nafter"));
}

#[test]
fn the_settings_that_scud_creates_are_read() {
    let sample = Sample::without_graph();
    scud(&sample, &["init", "--provider", "anthropic"]);
    assert_eq!(
        sample.project.checks().unwrap(),
        super::settings::Checks::default()
    );
    let agents = std::fs::read_dir(sample.root().join(".scud/agents")).unwrap();
    let mut count = 0;
    for agent in agents {
        let path = agent.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let definition = sample.project.agent(name).unwrap().unwrap();
        assert_eq!(definition.name, name);
        assert!(definition.harness.is_some());
        count += 1;
    }
    assert!(count > 0, "scud init writes agents");
}

/// The text, changed so that no indented line looks like the heading of a section.
fn without_indented_sections(text: &str) -> String {
    let changed = text
        .split_inclusive('\n')
        .map(|line| match line.strip_prefix("  ") {
            Some(rest) if rest.trim_start().starts_with('@') => line.replacen('@', "at ", 1),
            _ => line.to_owned(),
        });
    changed.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn scud_reads_the_new_status_and_no_other_change_in_any_graph(
        graph in graphs(),
        chosen in any::<prop::sample::Index>(),
        letter in prop::sample::select(LETTERS),
    ) {
        // Removes what SCUD misreads: unknown sections, `@` in texts, phases with CRLF.
        let text = graph.text.replace("\r\n", "\n").replace("@future\n0 | not | D | a | task\n", "");
        let text = without_indented_sections(&text);
        let sample = Sample::with_graph(text);
        let GeneratedTask { phase, id, .. } = chosen.get(&graph.tasks);
        let task = sample.find(&format!("{phase}:{id}")).unwrap();
        block_on(sample.project.set_status(&task, status_of_letter(letter))).unwrap();
        let mut tags: Vec<_> = graph.tasks.iter().map(|task| &task.phase).collect();
        tags.dedup();
        for tag in tags {
            for scud_task in list_with_scud(&sample, tag) {
                let scud_id = id_in_phase(tag, scud_task["id"].as_str().unwrap());
                let ours = sample.find(&format!("{tag}:{scud_id}")).unwrap();
                assert_same_fields(&ours, &scud_task);
                assert_same_texts(&ours, &scud_task);
            }
        }
        let expected = status_of_letter(letter).to_string();
        prop_assert_eq!(status_in_scud(&sample, phase, id), expected);
    }
}

/// A program's arguments cannot contain a NUL character, so the worker could not start an agent for such a task.
#[test]
fn a_graph_with_a_nul_character_is_rejected_although_scud_reads_it() {
    let sample =
        Sample::with_graph("# SCUD Graph v1\n# Phase: a\n\n@nodes\n1 | t | P | 1 | M\n\0\n");
    assert_eq!(list_with_scud(&sample, "a").len(), 1);
    let error = sample.find("1").unwrap_err().to_string();
    assert!(error.contains("NUL character"), "{error}");
}
