//! Texts of tasks and agents that try to break out of the page.

use super::html::Page;
use crate::dispatch::sample::Graph;

#[test]
fn hostile_titles_and_output_stay_text() {
    let title =
        r#"</title></style><script>alert(1)</script><img src=x onerror="alert(2)">' onload='x"#;
    let reordered = "\u{202e}gnp.exe\u{202c} \u{1b}[31mred\u{1b}[0m";
    let graph = Graph::new(&format!(
        "1 | {title} | P | 1 | H\n2 | {reordered} | P | 1 | H\n\n@details\n1 | description |\n  <iframe src=//evil></iframe> ]]> <!-- \n"
    ));
    graph.commit_checks(&["printf '<script>check</script>\\033[2J\\000'"]);
    let path = graph.project().with_file_name("out.html");
    let agent = r#"printf '<script>output</script>\033]0;title\007\000\377\376 \342\200\256reordered\n'
        printf '"><script>file</script>\033[31m\000\377' > "<b onclick=x>-${TASK_ID##*:}"
        printf '<script>text</script>\n' > text-${TASK_ID##*:}"#;
    let ended = graph.dispatch(agent).arg("--report").arg(&path).run();
    ended.assert_code(0);
    let page = Page::read(&path);
    let first = page.task("<script>alert(1)</script>");
    for words in [
        r#"<img src=x onerror="alert(2)">"#,
        "<iframe src=//evil></iframe> ]]> <!--",
        "<script>output</script>",
        "<script>check</script>",
        "<script>text</script>",
        "<b onclick=x>-1",
    ] {
        assert!(first.text.contains(words), "{words}: {}", first.text);
    }
    assert!(page.task("gnp.exe").text.contains("red"), "{}", page.text);
}

#[test]
fn control_characters_hide_no_part_of_a_patch() {
    let graph = Graph::new("1 | Build the house | P | 1 | H\n");
    let path = graph.project().with_file_name("out.html");
    let agent = r"printf 'EVIL_PAYLOAD #\r# harmless comment\n\033]0;HIDDEN_TITLE\007\n' > file";
    let ended = graph.dispatch(agent).arg("--report").arg(&path).run();
    ended.assert_code(0);
    let page = Page::read(&path);
    for words in ["+EVIL_PAYLOAD #␍# harmless comment", "+␛]0;HIDDEN_TITLE␇"] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
}

#[test]
fn secrets_of_the_dispatcher_are_masked_in_titles_and_descriptions() {
    let graph = Graph::new(
        "1 | Use correct-horse-battery | P | 1 | H\n\n@details\n1 | description |\n  The key is correct-horse-battery.\n",
    );
    let path = graph.project().with_file_name("out.html");
    // The work is not pushed, because the graph holds the secret.
    let ended = graph
        .dispatch("echo done > done")
        .env("ANTHROPIC_API_KEY", "correct-horse-battery")
        .arg("--report")
        .arg(&path)
        .run();
    ended.assert_code(1);
    let page = Page::read(&path);
    assert!(!page.html.contains("correct-horse"), "{}", page.text);
    assert!(page.text.contains("The key is "), "{}", page.text);
}

#[test]
fn secrets_of_the_dispatcher_are_masked_in_json_also_those_of_a_file_of_variables() {
    let graph = Graph::new("1 | Use correct-horse-battery and hunter2hunter2 | P | 1 | H\n");
    let variables = graph.project().with_file_name("variables.json");
    std::fs::write(&variables, r#"{"MY_TOKEN":"hunter2hunter2"}"#).expect("a file");
    let path = graph.project().with_file_name("out.json");
    let path = path.to_str().expect("UTF-8");
    let with_secrets = |worker: crate::support::Worker| {
        let worker = worker.env("ANTHROPIC_API_KEY", "correct-horse-battery");
        worker.env("DESCARTES_AGENT_ENV_FILE", &variables)
    };
    let plan = with_secrets(graph.dispatch("true"))
        .args(["--plan", "--json"])
        .run();
    with_secrets(graph.dispatch("echo done > done"))
        .args(["--report", path])
        .run();
    let status = with_secrets(graph.command(&["status", "--json"])).run();
    let report = std::fs::read_to_string(path).expect("a report");
    for text in [&plan.stdout, &status.stdout, &report] {
        assert!(text.contains("Use *** and ***"), "{text}");
    }
}
