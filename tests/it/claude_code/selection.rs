//! When a run uses Claude Code.

use serde_json::{Value, json};

use super::{result_line, run_script};
use crate::support::{Project, Receiver, Worker};

#[test]
fn auto_selects_the_built_in_agent_as_root() {
    let project = Project::new();
    project.write("stream", result_line(&json!({})));
    let run = run_script(project, "cat > /dev/null; cat \"$dir/stream\"", |worker| {
        worker
            .remove_env("IS_SANDBOX")
            .env("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
            .env("DESCARTES_IDLE_TIMEOUT", "1s")
    });
    let event = run.worker.result_line();
    let agent = &event["result"]["agent"]["kind"];
    if rustix::process::geteuid().is_root() {
        assert_eq!(agent, "builtin");
        let log = &run.worker.stderr;
        assert!(
            log.contains(
                "the agent is builtin, because Claude Code does not work unattended as root"
            ),
            "{log}"
        );
    } else {
        assert_eq!(agent, "claude-code");
    }
}

#[test]
fn auto_selects_claude_code_if_it_is_on_the_path_and_has_a_key() {
    let selected_agent = |change: fn(Worker) -> Worker| {
        let project = Project::new();
        project.write("stream", result_line(&json!({})));
        let run = run_script(project, "cat > /dev/null; cat \"$dir/stream\"", change);
        run.worker.result_line()["result"]["agent"]["kind"].clone()
    };
    assert_eq!(selected_agent(|worker| worker), "claude-code");
    assert_eq!(
        selected_agent(|worker| worker.env("DESCARTES_AGENT_COMMAND", "true")),
        "command"
    );
    let without_key = |worker: Worker| worker.remove_env("ANTHROPIC_API_KEY");
    assert_eq!(selected_agent(without_key), Value::Null);
    assert_eq!(
        selected_agent(|worker| worker
            .remove_env("ANTHROPIC_API_KEY")
            .env("CLAUDE_CODE_OAUTH_TOKEN", "oauth-token")),
        "claude-code"
    );
    // Claude Code may have a separate login or use another cloud, so `claude-code` needs no key.
    assert_eq!(
        selected_agent(|worker| worker
            .remove_env("ANTHROPIC_API_KEY")
            .env("DESCARTES_AGENT", "claude-code")),
        "claude-code"
    );
}

#[test]
fn the_failure_says_that_the_program_is_missing() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let empty = tempfile::tempdir().expect("a directory");
    let event = Worker::new(&receiver, &project)
        .env("PATH", empty.path())
        .env("DESCARTES_AGENT", "claude-code")
        .run()
        .assert_failed(&receiver, "agent_not_found");
    assert_eq!(
        event["failure"]["message"],
        "Claude Code's program `claude` is not on the PATH; install it, or choose another agent with DESCARTES_AGENT"
    );
}
