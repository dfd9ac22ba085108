//! The results of tools, as the model reads them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{results_in_last_message, run, run_with};
use crate::support::model::{Answer, Run, Turn, bash_call, text_answer, tool_call};
use crate::support::{Project, assert_no_process_in, duration_setting, with_enough_time};

/// Runs these tool calls, one in each turn; returns their results.
fn results_of(script: impl IntoIterator<Item = Answer>) -> (Run, Vec<String>) {
    let script = script.into_iter().chain([text_answer("Done.")]);
    let run = run(script);
    run.assert_completed();
    let results = all_results(&run);
    (run, results)
}

/// The contents of all tool results in the last request.
fn all_results(run: &Run) -> Vec<String> {
    let bodies = run.model.request_bodies();
    let messages = bodies.last().expect("a request")["messages"]
        .as_array()
        .cloned()
        .expect("messages");
    let blocks = messages
        .iter()
        .flat_map(|message| message["content"].as_array().expect("blocks"));
    let results = blocks.filter(|block| block["type"] == "tool_result");
    results
        .map(|result| result["content"].as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn the_shell_keeps_its_state_until_it_is_restarted() {
    let (run, results) = results_of([
        bash_call("mkdir -p a/b && cd a/b && export X='a b' && f() { echo \"f: $1\"; }"),
        bash_call("pwd; echo \"$X\"; f \"it's\""),
        bash_call("cat; read line; echo \"read: $?\""),
        tool_call("bash", json!({ "restart": true })),
        bash_call("pwd; echo \"<$X>\""),
    ]);
    let dir = run.project.dir().display();
    assert_eq!(
        results,
        [
            "[no output]".to_owned(),
            format!("{dir}/a/b\na b\nf: it's"),
            "read: 1".to_owned(),
            "the shell was restarted".to_owned(),
            format!("{dir}\n<>"),
        ]
    );
}

#[test]
fn the_result_says_how_a_command_ended() {
    let (_, results) = results_of([
        bash_call("echo out; echo err >&2; exit_code() { return 3; }; exit_code"),
        bash_call("false"),
        bash_call("echo 'unclosed"),
        bash_call("kill -KILL $$"),
        bash_call("echo new; exit 7"),
        bash_call("echo newer"),
        bash_call("cat <<'EOF'\n$HOME 'single' \"double\" `tick`\nEOF"),
        bash_call("printf 'no newline'"),
        bash_call("printf '\\377\\0\\001'"),
    ]);
    assert_eq!(results[0], "out\nerr\n[exit code 3]");
    assert_eq!(results[1], "[no output; exit code 1]");
    // The messages of bash, of dash, and of BusyBox.
    let words = [
        "unexpected EOF",
        "Unterminated quoted",
        "unterminated quoted",
    ];
    assert!(
        words.iter().any(|words| results[2].contains(words))
            && results[2].ends_with("[exit code 2]"),
        "{}",
        results[2]
    );
    let (shell_ended, new_shell) = ("[the shell ended (", "); the next command gets a new one]");
    assert!(
        results[3].contains(shell_ended) && results[3].contains("9 (SIGKILL)"),
        "{}",
        results[3]
    );
    assert_eq!(
        results[4],
        format!("new\n{shell_ended}exit status: 7{new_shell}")
    );
    assert_eq!(results[5], "newer");
    assert_eq!(results[6], "$HOME 'single' \"double\" `tick`");
    assert_eq!(results[7], "no newline");
    assert_eq!(results[8], "\u{fffd}\0\u{1}");
}

#[test]
fn the_middle_of_long_output_is_left_out() {
    let (_, results) = results_of([
        bash_call("echo first; yes | head -c 50000000; echo last"),
        tool_call(
            "str_replace_based_edit_tool",
            json!({ "command": "create", "path": "f", "file_text": "x\n".repeat(20_000) }),
        ),
        tool_call(
            "str_replace_based_edit_tool",
            json!({ "command": "view", "path": "f" }),
        ),
    ]);
    assert!(results[0].starts_with("first\ny\ny\n") && results[0].ends_with("\ny\ny\nlast"));
    assert!(
        results[0].contains("\n[... 4997"),
        "{}",
        &results[0][13_990..14_060]
    );
    assert!(results[2].starts_with("     1\tx\n") && results[2].ends_with(" 20000\tx\n"));
    for result in &results {
        assert!(result.len() <= 30_000, "{}", result.len());
    }
}

#[test]
fn a_command_that_takes_too_long_is_killed_and_the_next_one_gets_a_new_shell() {
    with_enough_time(Duration::from_secs(3), |limit| {
        let script = [
            bash_call("echo begun; sleep 10000 & echo $! > pid; wait"),
            // A killed process keeps its id until its parent has reaped it.
            bash_call("while kill -0 $(cat pid) 2>/dev/null; do sleep 0.02; done; echo gone"),
            text_answer("Done."),
        ];
        let run = run_with(Project::new(), script, |worker| {
            worker.env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit))
        });
        if run.worker.code != Some(0) {
            return Err(format!("the script did not complete: {:#?}", run.worker));
        }
        run.assert_completed();
        let results = all_results(&run);
        if !results[0].starts_with("begun") || results[1].starts_with("[killed") {
            return Err(format!("the commands did not begin: {results:?}"));
        }
        // The agent plans with 90 % of the idle timeout; a command may take 75 % of that.
        let command_limit = limit.mul_f64(0.9 * 0.75).as_secs();
        let killed = format!("begun\n[killed: it did not end within {command_limit} s");
        assert!(results[0].starts_with(&killed), "{}", results[0]);
        assert_eq!(results[1], "gone");
        Ok(())
    });
}

#[test]
fn background_processes_do_not_block_the_shell_and_do_not_survive_the_agent() {
    let (run, results) = results_of([
        bash_call(
            "sh -c 'echo $$ > pid; while true; do echo noise; sleep 0.01; done' & until [ -s pid ]; do sleep 0.01; done; echo started",
        ),
        bash_call("kill -0 $(cat pid) && echo alive"),
        bash_call("setsid sleep 10000 > /dev/null 2>&1 &"),
    ]);
    assert!(results[0].contains("started"), "{}", results[0]);
    assert!(results[1].contains("alive"), "{}", results[1]);
    assert_no_process_in(&run.project);
}

#[test]
fn an_invalid_call_gets_an_error_that_says_how_to_correct_it() {
    let error_of = |answer: Answer| {
        let run = run([answer, text_answer("Done.")]);
        run.assert_completed();
        let result = results_in_last_message(&run)[0].clone();
        assert_eq!(result["is_error"], true, "{result}");
        result["content"].as_str().expect("a text").to_owned()
    };
    assert_eq!(
        error_of(tool_call("bash", json!({}))),
        "`command` must be a string"
    );
    assert_eq!(
        error_of(tool_call("bash", json!({ "command": ["ls"] }))),
        "`command` must be a string"
    );
    assert_eq!(
        error_of(tool_call("bash", json!({ "command": "a\0b" }))),
        "the command contains a NUL character"
    );
    assert_eq!(
        error_of(tool_call("python", json!({ "code": "1" }))),
        "there is no tool \"python\"; there are bash and str_replace_based_edit_tool"
    );
    assert_eq!(
        error_of(tool_call(
            "str_replace_based_edit_tool",
            json!({ "command": "view", "path": "/etc/passwd" })
        ))
        .split(" is not")
        .next(),
        Some("/etc/passwd")
    );
}

#[test]
fn the_shell_works_after_its_temporary_files_are_deleted() {
    let temporary = tempfile::tempdir().expect("a directory");
    let script = [
        bash_call("rm -rf \"$(dirname \"$DESCARTES_PROMPT_FILE\")\" \"$TMPDIR\"/*; echo gone"),
        bash_call("ls \"$TMPDIR\" | wc -l"),
        text_answer("Done."),
    ];
    let run = run_with(Project::new(), script, |worker| {
        worker.env("TMPDIR", temporary.path())
    });
    // The conversation cannot be saved; without another round that does not matter.
    assert_eq!(run.assert_completed()["result"]["summary"], "Done.");
    assert_eq!(all_results(&run), ["gone", "0"]);
}

#[test]
fn a_pipe_in_the_place_of_the_conversation_file_does_not_fail_the_run() {
    let temporary = tempfile::tempdir().expect("a directory");
    let script = [
        bash_call("cd \"$(dirname \"$DESCARTES_PROMPT_FILE\")\" && mkfifo conversation.json && ls"),
        text_answer("Done."),
    ];
    let run = run_with(Project::new(), script, |worker| {
        worker.env("TMPDIR", temporary.path())
    });
    assert_eq!(run.assert_completed()["result"]["summary"], "Done.");
}

#[test]
fn a_call_whose_input_is_not_an_object_gets_an_error_and_is_sent_back_with_one() {
    let script = [
        tool_call("bash", json!("ls")),
        tool_call("bash", json!(null)),
        text_answer("Done."),
    ];
    let run = run(script);
    run.assert_completed();
    for request in run.model.request_bodies() {
        let messages = request["messages"].to_string();
        assert!(
            !messages.contains("\"input\":\"ls\"") && !messages.contains("\"input\":null"),
            "{messages}"
        );
    }
}

#[test]
fn a_long_command_that_the_shell_echoes_does_not_deadlock() {
    let long = format!("set -v\n: {}\necho end > ended", "x".repeat(400_000));
    let (run, results) = results_of([bash_call("set -v"), bash_call(&long)]);
    // The echo and the command's output come through two pipes, in any order, so the command writes its output to a file.
    assert_eq!(run.project.read("ended"), "end\n");
    assert!(results[1].contains("xxxx"), "the shell echoed nothing");
}

#[test]
fn two_silent_commands_in_one_answer_do_not_trigger_the_idle_timeout() {
    with_enough_time(Duration::from_secs(3), |limit| {
        // Each command is shorter than the limit; both together are longer.
        let sleep = format!("sleep {}", limit.as_secs_f64() * 0.53);
        let answer = bash_call(&sleep).and_tool_call("bash", json!({ "command": sleep }));
        let run = run_with(Project::new(), [answer, text_answer("Done.")], |worker| {
            worker.env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit))
        });
        if run.worker.code != Some(0) {
            return Err(format!("the script did not complete: {:#?}", run.worker));
        }
        run.assert_completed();
        Ok(())
    });
}

#[test]
fn several_calls_in_one_answer_run_in_order() {
    let edit = |command: &str, more: Value| {
        let mut input = json!({ "command": command, "path": "f" });
        input
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        input
    };
    let tool = "str_replace_based_edit_tool";
    let answer = tool_call(tool, edit("create", json!({ "file_text": "one\n" })))
        .and_tool_call("bash", json!({ "command": "cat f" }))
        .and_tool_call(
            tool,
            edit("insert", json!({ "insert_line": 1, "insert_text": "two" })),
        )
        .and_tool_call("bash", json!({ "command": "cat f" }))
        .and_tool_call(
            tool,
            edit(
                "str_replace",
                json!({ "old_str": "three", "new_str": "four" }),
            ),
        );
    let run = run([Turn::from(answer), text_answer("Done.").into()]);
    run.assert_completed();
    let results = results_in_last_message(&run);
    let texts: Vec<&str> = results
        .iter()
        .filter_map(|result| result["content"].as_str())
        .collect();
    assert_eq!((texts[1], texts[3]), ("one", "one\ntwo"));
    assert_eq!(results[4]["is_error"], true);
    assert_eq!(run.project.read("f"), "one\ntwo\n");
}
