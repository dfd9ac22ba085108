//! Tests definitions as SCUD's users write them, and the prompts from their templates.

use proptest::prelude::*;

use super::*;
use crate::scud::samples::Sample;
use crate::task::{Dependency, Status};

fn agent(name: &str, files: &[(&str, &str)]) -> Result<Option<AgentDefinition>, String> {
    let sample = Sample::without_graph();
    for (file, content) in files {
        sample.write(&format!(".scud/agents/{file}"), content);
    }
    sample
        .project
        .agent(name)
        .map_err(|error| sample.without_root(&error))
}

#[test]
fn an_agent_without_a_definition_is_none() {
    assert_eq!(agent("builder", &[]), Ok(None));
    assert_eq!(agent("builder", &[("other.toml", "")]), Ok(None));
}

#[test]
fn an_agent_definition_has_the_values_of_its_file() {
    let definition = "[agent]\nname = \"r\"\ndescription = \"d\"\n[model]\nharness = \"claude\"\nmodel = \"opus\"\n[prompt]\ntemplate = \"do {task.id}\"\ntemplate_file = \"unused\"\n";
    let expected = AgentDefinition {
        name: "r".to_owned(),
        description: Some("d".to_owned()),
        harness: Some("claude".to_owned()),
        model: Some("opus".to_owned()),
        template: Some("do {task.id}".to_owned()),
    };
    assert_eq!(
        agent("reviewer", &[("reviewer.toml", definition)]),
        Ok(Some(expected))
    );
}

fn with_template_file(path: &str) -> Result<Option<AgentDefinition>, String> {
    let definition =
        format!("[agent]\nname = \"r\"\n[model]\n[prompt]\ntemplate_file = \"{path}\"\n");
    agent(
        "r",
        &[("r.toml", &definition), ("prompts/r.md", "from {tag}")],
    )
}

#[test]
fn a_template_may_be_in_a_separate_file() {
    for path in ["prompts/r.md", "./prompts//r.md"] {
        let found = with_template_file(path).unwrap().unwrap();
        assert_eq!(found.template.as_deref(), Some("from {tag}"));
        assert_eq!((found.harness, found.model), (None, None));
    }
}

#[test]
fn a_template_file_is_never_outside_the_agents_directory() {
    for path in ["../config.toml", "/etc/passwd", "prompts/../../x", ".", ""] {
        let expected =
            format!(".scud/agents/r.toml: the template file `{path}` is not below .scud/agents");
        assert_eq!(with_template_file(path), Err(expected));
    }
}

#[test]
fn the_error_for_a_missing_template_file_names_its_path() {
    let expected = ".scud/agents/none.md does not exist".to_owned();
    assert_eq!(with_template_file("none.md"), Err(expected));
}

#[test]
fn a_definition_without_a_section_that_scud_requires_is_an_error() {
    let error = agent("r", &[("r.toml", "[agent]\nname = \"r\"\n")]).unwrap_err();
    assert_eq!(error, ".scud/agents/r.toml, line 1: missing field `model`");
}

#[test]
fn a_name_that_is_not_a_plain_file_name_is_an_error() {
    let long = "x".repeat(200);
    for name in [
        "../x",
        "a/b",
        "/etc/passwd",
        "..",
        ".hidden",
        "",
        "a\\b",
        "a\0b",
        "a\nb",
        &long,
    ] {
        let error = agent(name, &[]).unwrap_err();
        assert!(
            error.ends_with(" is not a valid name for an agent definition"),
            "{error}"
        );
    }
    assert_eq!(
        agent("../x", &[]).unwrap_err(),
        "`../x` is not a valid name for an agent definition"
    );
}

fn task() -> Task {
    let dependency = |id: &str| Dependency {
        id: id.to_owned(),
        title: None,
        status: None,
    };
    Task {
        id: "8".to_owned(),
        phase: "auth".to_owned(),
        title: "{tag} and {task.details}".to_owned(),
        status: Status::Pending,
        complexity: 5,
        priority: Priority::High,
        description: Some("what".to_owned()),
        details: Some("how".to_owned()),
        test_strategy: None,
        dependencies: vec![dependency("7"), dependency("api:1")],
        agent: None,
    }
}

fn render(template: &str) -> String {
    let definition = AgentDefinition {
        name: "x".to_owned(),
        description: None,
        harness: None,
        model: None,
        template: Some(template.to_owned()),
    };
    definition.render(&task()).unwrap()
}

#[test]
fn every_placeholder_of_scud_is_replaced() {
    let template = "{task.id}|{task.description}|{task.details}|{task.test_strategy}|{task.complexity}|{task.priority}|{task.dependencies}|{tag}";
    assert_eq!(render(template), "8|what|how||5|High|7, api:1|auth");
}

#[test]
fn placeholders_in_the_text_of_a_task_stay_as_they_are() {
    assert_eq!(render("{task.title}"), "{tag} and {task.details}");
}

#[test]
fn braces_that_are_not_placeholders_stay_as_they_are() {
    let template = "{ {} {task.unknown} {{tag}} {tag {task.id fn main() { } {ä";
    assert_eq!(render(template), template.replace("{tag}", "auth"));
}

#[test]
fn an_agent_without_a_template_renders_nothing() {
    let definition = "[agent]\nname = \"r\"\n[model]\n";
    let found = agent("r", &[("r.toml", definition)]).unwrap().unwrap();
    assert_eq!(found.render(&task()), None);
}

#[test]
fn the_assigned_agents_of_all_phases_are_found_by_phase_and_id() {
    let graph = "# SCUD Graph v1\n# Phase: house\n@nodes\n1|A|P|1|H\n2|B|P|1|H\n@agents\n1 | builder\nhouse:2 | painter\n3 |\n\
        ---\n# SCUD Graph v1\n# Phase: garden\n@nodes\n1|C|P|1|H\n@agents\n1 | gardener\n";
    let agents = assigned_agents(graph);
    let agent = |phase: &str, id: &str| &agents[&(phase.to_owned(), id.to_owned())];
    assert_eq!(agent("house", "1"), "builder");
    assert_eq!(agent("house", "2"), "painter");
    assert_eq!(agent("garden", "1"), "gardener");
    assert_eq!(agents.len(), 3);
}

proptest! {
    #[test]
    fn a_template_causes_no_panic_and_without_braces_it_stays_as_it_is(template in any::<String>()) {
        let rendered = render(&template);
        if !template.contains('{') {
            prop_assert_eq!(rendered, template);
        }
    }

    #[test]
    fn random_names_and_definitions_cause_no_panic(name in any::<String>(), text in any::<String>()) {
        let _ = agent(&name, &[]);
        let _ = AgentFile::parse(&text, Path::new("r.toml"));
    }
}
