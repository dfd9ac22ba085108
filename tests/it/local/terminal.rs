//! `local` on a terminal: colors, links and styles. There are none in a pipe, and an agent cannot print them.

use super::program;
use crate::support::{Emulator, Project, Terminal, Worker, wait_until};

/// Task 9 of a project, which depends on a task that is not done.
fn local(project: &Project) -> Worker {
    program(&["local", "--task", "9"], project)
        .env("TERM", "xterm-256color")
        .env("FORCE_HYPERLINK", "1")
}

/// The level of a warning, yellow and bold.
const WARNING: &str = "\u{1b}[33m\u{1b}[1mWARN \u{1b}[0m";

#[test]
fn levels_have_colors_on_a_terminal_and_none_in_a_pipe() {
    let project = Project::new();
    let on_terminal = local(&project).agent("exit 5").on_terminal(200).run();
    on_terminal.assert_code(1);
    let text = "the task depends on 8, which is not done";
    assert!(
        on_terminal.stdout.contains(&format!("{WARNING} {text}")),
        "{on_terminal:#?}"
    );
    let error = "\u{1b}[31m\u{1b}[1mERROR\u{1b}[0m failed: ";
    assert!(on_terminal.stdout.contains(error), "{on_terminal:#?}");
    let piped = local(&project)
        .env("FORCE_HYPERLINK", "0")
        .agent("exit 5")
        .run();
    piped.assert_code(1);
    assert!(
        piped.stderr.contains(&format!("│ WARN  {text}")),
        "{piped:#?}"
    );
    assert!(!piped.stderr.contains('\u{1b}'), "{piped:#?}");
}

/// An agent that prints Markdown.
const MARKDOWN_AGENT: &str = "printf '# Plan\\n- **bold** and `code`\\n'";

#[test]
fn the_markdown_of_an_agent_is_styled_on_a_terminal_and_unchanged_in_a_pipe() {
    let project = Project::new();
    let on_terminal = local(&project).agent(MARKDOWN_AGENT).on_terminal(200).run();
    on_terminal.assert_code(0);
    assert!(
        on_terminal
            .stdout
            .contains("\u{1b}[1mbold\u{1b}[0m and \u{1b}[36mcode\u{1b}[0m"),
        "{on_terminal:#?}"
    );
    let shown = Emulator::show(200, &on_terminal.stdout).rows();
    assert!(
        shown
            .iter()
            .any(|row| row.ends_with("agent: • bold and code")),
        "{shown:#?}"
    );
    assert!(
        shown.iter().any(|row| row.ends_with("agent: # Plan")),
        "{shown:#?}"
    );
    let piped = local(&Project::new())
        .env("FORCE_HYPERLINK", "0")
        .agent(MARKDOWN_AGENT)
        .run();
    assert!(
        piped.stderr.contains("agent: - **bold** and `code`\n"),
        "{piped:#?}"
    );
}

#[test]
fn links_lead_to_the_orchestrator_and_the_project_and_never_where_an_agent_wants() {
    let project = Project::new();
    let agent = "printf '\\033]8;;http://evil.example\\007click\\033]8;;\\007\\n'; exit 1";
    let ended = local(&project).agent(agent).on_terminal(200).run();
    ended.assert_code(1);
    let links = Emulator::show(200, &ended.stdout).links;
    let project_url = format!("file://{}", project.dir().display());
    assert_eq!(links.len(), 2, "{links:?}");
    assert!(links[0].starts_with("http://127.0.0.1:"), "{links:?}");
    let decoded = percent_encoding::percent_decode_str(&links[1]).decode_utf8();
    assert_eq!(decoded.expect("UTF-8"), project_url);
    let without_links = local(&project)
        .env("FORCE_HYPERLINK", "0")
        .agent("true")
        .on_terminal(200)
        .run();
    assert_eq!(Emulator::show(200, &without_links.stdout).links, [""; 0]);
}

#[test]
fn no_part_of_the_status_line_is_left_in_a_window_that_becomes_narrower() {
    let project = Project::new();
    let terminal = Terminal::with_columns(110);
    let mut resizer = terminal.resizer();
    let words =
        "a long line about what the agent is doing, so that the status line needs the whole window";
    let running = local(&project)
        .agent(format!(
            "echo {words}; until [ -e go ]; do sleep 0.05; done"
        ))
        .on(terminal)
        .start();
    // The status line is too long for the window, so its end is cut.
    running.wait_for_live_area("9: agent: a long line");
    for columns in [70, 40, 100, 20] {
        resizer.set_columns(columns, &running);
        let size = running.output_size();
        wait_until("drawings in the new window", || {
            running.output_size() > size + 200
        });
    }
    project.write("go", "");
    drop(resizer);
    let ended = running.wait();
    ended.assert_code(0);
    let shown = Emulator::show(110, &ended.stdout).rows();
    for row in &shown {
        assert!(
            !row.contains(['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']),
            "{shown:#?}"
        );
    }
    // At the end the window has 20 columns.
    let text = shown.concat();
    for part in [
        "orchestrator     listens at http://",
        "agent: a long line about",
        "completed   task 9 of",
    ] {
        let part: String = part.split_whitespace().collect();
        let text: String = text.split_whitespace().collect();
        assert_eq!(text.matches(&part).count(), 1, "{part} in {shown:#?}");
    }
}

#[test]
fn the_thoughts_of_an_agent_are_in_the_log_at_the_level_debug() {
    let project = Project::new();
    std::fs::create_dir(project.path("bin")).expect("a directory");
    crate::support::origin::write_program(
        &project.path("bin/claude"),
        r#"printf '%s\n' '{"type":"assistant","message":{"id":"m","content":[{"type":"thinking","thinking":"The roof?\nThe walls first."}]}}'
           echo '{"type":"result","subtype":"success","result":"Done."}'"#,
    );
    let mut path = project.path("bin").into_os_string();
    path.push(":");
    path.push(crate::support::path());
    let run = |level: &str| {
        let ended = program(
            &["local", "--task", "8", "--force=true", "--log", level],
            &project,
        )
        .env("PATH", &path)
        .env("IS_SANDBOX", "1")
        .env("DESCARTES_AGENT", "claude-code")
        .env("ANTHROPIC_API_KEY", "sk-ant-no-key")
        .run();
        ended.assert_code(0);
        ended.stderr
    };
    let debug = run("debug");
    for line in [
        "│ DEBUG thought: The roof?\n",
        "│ DEBUG thought: The walls first.\n",
    ] {
        assert!(debug.contains(line), "{debug}");
    }
    let info = run("info");
    assert!(!info.contains("thought"), "{info}");
}
