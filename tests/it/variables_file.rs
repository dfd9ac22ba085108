//! `DESCARTES_AGENT_ENV_FILE`: variables for the agent and the checks that the worker and its own programs do not use.

use std::fs;

use serde_json::{Value, json};

use crate::builtin::{results_in_last_message, run_with};
use crate::support::model::{bash_call, text_answer};
use crate::support::origin::write_program;
use crate::support::{Origin, Project, Receiver, Worker, path};

/// Writes these variables to a file; returns a worker that reads the file.
fn worker_with_file(receiver: &Receiver, project: &Project, variables: &Value) -> Worker {
    project.write("variables.json", variables.to_string());
    Worker::new(receiver, project).env("DESCARTES_AGENT_ENV_FILE", project.path("variables.json"))
}

/// A directory with files that have the names of libraries and cannot be loaded.
fn broken_libraries(project: &Project) -> String {
    for library in ["libgcc_s.so.1", "libz.so.1", "libpcre2-8.so.0"] {
        project.write(&format!("libraries/{library}"), "not a library");
    }
    let path = project.path("libraries").into_os_string();
    path.into_string().expect("a path in UTF-8")
}

#[test]
fn the_agent_and_the_checks_get_the_variables_of_the_file() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let variables =
        json!({ "GREETING": "from the \"file\"\nover two lines", "LANG": "from-the-file" });
    let show = "printf '%s|%s|%s' \"$GREETING\" \"$LANG\" \"$TZ\"";
    worker_with_file(&receiver, &project, &variables)
        .env("LANG", "from-the-worker")
        .env("TZ", "UTC")
        .env("DESCARTES_CHECKS", format!("{show} > checks"))
        .agent(format!("{show} > agent"))
        .run()
        .assert_completed(&receiver);
    for file in ["agent", "checks"] {
        assert_eq!(
            project.read(file),
            "from the \"file\"\nover two lines|from-the-file|UTC"
        );
    }
}

#[test]
fn a_variable_that_the_settings_name_takes_precedence_over_the_file() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let variables = json!({ "DATABASE": "development", "CACHE": "from-the-file" });
    worker_with_file(&receiver, &project, &variables)
        .env("DATABASE", "production")
        .env("DESCARTES_AGENT_ENV", "DATABASE CACHE")
        .agent("echo $DATABASE $CACHE > agent")
        .run()
        .assert_completed(&receiver);
    assert_eq!(project.read("agent"), "production from-the-file\n");
}

#[test]
fn agents_and_checks_are_found_on_the_search_path_of_the_file() {
    let (receiver, project) = (Receiver::start(), Project::new());
    fs::create_dir(project.path("bin")).expect("a directory");
    write_program(&project.path("bin/only-here"), "echo found > \"$1\"");
    let path = format!(
        "{}:{}",
        project.path("bin").display(),
        path().into_string().expect("a PATH in UTF-8")
    );
    let worker = || {
        worker_with_file(&receiver, &project, &json!({ "PATH": path }))
            .env("DESCARTES_CHECKS", "only-here checked")
            .agent("only-here worked")
    };
    worker().arg("check").run().assert_code(0);
    worker().run().assert_completed(&receiver);
    assert_eq!(project.read("worked"), "found\n");
    assert_eq!(project.read("checked"), "found\n");
}

#[test]
fn libraries_that_do_not_load_break_neither_the_worker_nor_its_git() {
    let (receiver, origin, project) = (Receiver::start(), Origin::new(), Project::empty());
    let libraries = broken_libraries(&project);
    let file = project.path("variables.json");
    fs::write(&file, json!({ "LD_LIBRARY_PATH": libraries }).to_string()).expect("a file");
    origin
        .worker(&receiver)
        .env("DESCARTES_AGENT_ENV_FILE", file)
        // The agent's own git shows that the libraries are broken.
        .agent("if git --version; then exit 1; fi; echo \"$LD_LIBRARY_PATH\" > seen")
        .run()
        .assert_code(0);
    let event = receiver.only_event("completed");
    let branch = event["result"]["work"]["branch"]
        .as_str()
        .expect("a branch");
    assert_eq!(origin.show(branch, "seen"), libraries);
}

#[test]
fn libraries_that_do_not_load_do_not_break_the_built_in_agent() {
    let project = Project::new();
    let libraries = broken_libraries(&project);
    let file = project.path("variables.json");
    let variables =
        json!({ "LD_LIBRARY_PATH": libraries, "DATABASE": "development", "GREETING": "hello" });
    fs::write(&file, variables.to_string()).expect("a file");
    let script = [
        bash_call("echo \"$LD_LIBRARY_PATH $GREETING $DATABASE\""),
        text_answer("Done."),
    ];
    let run = run_with(project, script, |worker| {
        worker
            .env("DESCARTES_AGENT_ENV_FILE", file)
            .env("DESCARTES_AGENT_ENV", "DATABASE")
            .env("DATABASE", "production")
    });
    run.assert_completed();
    let result = results_in_last_message(&run)[0]["content"]
        .as_str()
        .expect("a text")
        .to_owned();
    assert!(
        result.contains(&format!("{libraries} hello production")),
        "{result}"
    );
}

#[test]
fn a_secret_in_the_file_is_masked() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = worker_with_file(
        &receiver,
        &project,
        &json!({ "NPM_TOKEN": "npm_0123456789" }),
    )
    .agent("echo \"I used $NPM_TOKEN\"")
    .run();
    let event = ended.assert_completed(&receiver);
    assert_eq!(event["result"]["summary"], "I used ***");
    assert!(!ended.stderr.contains("npm_0123456789"), "{}", ended.stderr);
}

#[test]
fn a_file_that_cannot_be_used_is_rejected_with_the_reason() {
    for (content, reason) in [
        (
            None,
            "cannot be read: No such file or directory (os error 2)",
        ),
        (
            Some("GREETING=hello"),
            "is not a JSON object whose values are strings, such as {\"NAME\": \"value\"}: expected value at line 1 column 1",
        ),
        (
            Some(r#"{ "PORT": 80 }"#),
            "is not a JSON object whose values are strings, such as {\"NAME\": \"value\"}: invalid type: integer `80`, \
             expected a string at line 1 column 12",
        ),
        (
            Some(r#"{ "A=B": "" }"#),
            "contains \"A=B\", which is not a name of a variable",
        ),
        (
            Some(r#"{ "A": "\u0000" }"#),
            "contains a NUL character in the value of A",
        ),
        (
            Some(r#"{ "DESCARTES_GIT_TOKEN": "x" }"#),
            "contains DESCARTES_GIT_TOKEN, but variables that begin with DESCARTES_ are never passed to the agent",
        ),
    ] {
        let project = Project::empty();
        let file = project.path("variables.json");
        if let Some(content) = content {
            fs::write(&file, content).expect("a file");
        }
        let ended = Worker::without_settings()
            .env("TASK_ID", "8")
            .env("PROJECT_ID", "p")
            .env("CALLBACK_URL", "http://127.0.0.1:9")
            .env("DESCARTES_AGENT_ENV_FILE", &file)
            .run();
        ended.assert_code(2);
        let expected = format!("  DESCARTES_AGENT_ENV_FILE: {file:?} {reason}\n");
        assert!(
            ended.stderr.ends_with(&expected),
            "{}\n{expected}",
            ended.stderr
        );
    }
}
