//! Agents that are shell commands: their environment, their end, their output.

mod output;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::origin::write_program;
use crate::support::{
    Origin, Project, Receiver, Worker, duration_setting, duration_text, path, with_enough_time,
};

/// The beginning of a command that writes the environment, without the variables that shells add, to a file. The name of the
/// file must follow.
const WRITE_ENVIRONMENT: &str =
    "env | grep -v -e ^PWD= -e ^OLDPWD= -e ^SHLVL= -e ^_= | LC_ALL=C sort > ";

/// A worker with many environment variables.
fn worker_with_many_variables(receiver: &Receiver, project: &Project) -> Worker {
    let mut worker = Worker::new(receiver, project);
    for (name, value) in [
        ("ANTHROPIC_API_KEY", "sk-ant-1"),
        ("ANTHROPIC_AUTH_TOKEN", "token-2"),
        ("ANTHROPIC_BASE_URL", "http://model.example"),
        ("AWS_SECRET_ACCESS_KEY", "aws-secret"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "token-3"),
        (
            "DESCARTES_CALLBACK_SECRET",
            "whsec_Z2VoZWltLWdlaGVpbS1nZWhlaW0tZ2VoZWlt",
        ),
        ("DESCARTES_CALLBACK_TOKEN", "callback-token"),
        ("DESCARTES_GIT_TOKEN", "git-token"),
        ("DESCARTES_RUN_ID", "run-1"),
        ("FLY_MACHINE_ID", "148e306f"),
        ("GITHUB_TOKEN", "ghp_1"),
        ("HOME", "/home/worker"),
        ("LANG", "C.UTF-8"),
        ("LD_PRELOAD", ""),
        ("NPM_CONFIG", "from-the-image"),
        ("RUST_LOG", "info"),
        ("TZ", "UTC"),
    ] {
        worker = worker.env(name, value);
    }
    worker
}

#[test]
fn the_agent_gets_only_allowed_variables() {
    let (receiver, project) = (Receiver::start(), Project::new());
    worker_with_many_variables(&receiver, &project)
        .env("DESCARTES_MODEL", "opus")
        // With the gateway, the agent gets placeholders instead of keys; other tests are for that.
        .env("DESCARTES_MODEL_GATEWAY", "off")
        .agent(format!("{WRITE_ENVIRONMENT} env"))
        .run()
        .assert_completed(&receiver);
    let environment = project.read("env");
    let (names, values): (Vec<&str>, Vec<&str>) = environment
        .lines()
        .map(|line| line.split_once('=').expect("a variable"))
        .unzip();
    assert_eq!(
        names,
        [
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "DESCARTES_MODEL",
            "DESCARTES_PROMPT_FILE",
            "HOME",
            "LANG",
            "PATH",
            "PROJECT_ID",
            "TASK_ID",
            "TZ",
        ]
    );
    let path = path().into_string().expect("a PATH in UTF-8");
    assert_eq!(
        values[..5],
        [
            "sk-ant-1",
            "token-2",
            "http://model.example",
            "token-3",
            "opus"
        ]
    );
    assert_eq!(
        values[6..],
        ["/home/worker", "C.UTF-8", &path, "proj-456", "8", "UTC"]
    );
}

#[test]
fn the_checks_get_no_access_to_the_model() {
    let (receiver, project) = (Receiver::start(), Project::new());
    worker_with_many_variables(&receiver, &project)
        .env("DESCARTES_CHECKS", format!("{WRITE_ENVIRONMENT} env"))
        .agent("true")
        .run()
        .assert_completed(&receiver);
    let path = path().into_string().expect("a PATH in UTF-8");
    assert_eq!(
        project.read("env"),
        format!(
            "HOME=/home/worker\nLANG=C.UTF-8\nPATH={path}\nPROJECT_ID=proj-456\nTASK_ID=8\nTZ=UTC\n"
        )
    );
}

#[test]
fn agent_env_passes_further_variables_by_name() {
    let (receiver, project) = (Receiver::start(), Project::new());
    worker_with_many_variables(&receiver, &project)
        .env("DESCARTES_AGENT_ENV", "GITHUB_TOKEN, NPM_CONFIG NOT_SET")
        .env("DESCARTES_CHECKS", format!("{WRITE_ENVIRONMENT} checks"))
        .agent(format!("{WRITE_ENVIRONMENT} agent"))
        .run()
        .assert_completed(&receiver);
    for file in ["agent", "checks"] {
        let environment = project.read(file);
        assert!(
            environment.contains("\nGITHUB_TOKEN=ghp_1\n")
                || environment.starts_with("GITHUB_TOKEN=ghp_1\n"),
            "{environment}"
        );
        assert!(
            environment.contains("\nNPM_CONFIG=from-the-image\n"),
            "{environment}"
        );
        assert!(!environment.contains("NOT_SET"), "{environment}");
        assert!(!environment.contains("AWS_"), "{environment}");
    }
}

#[test]
fn without_a_path_the_agent_gets_the_default_one() {
    let (receiver, project) = (Receiver::start(), Project::new());
    Worker::new(&receiver, &project)
        .remove_env("PATH")
        .agent("printf %s \"$PATH\" > path")
        .run()
        .assert_completed(&receiver);
    assert_eq!(project.read("path"), "/usr/local/bin:/usr/bin:/bin");
}

#[test]
fn the_agent_works_in_the_workspace() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // The workspace is set as a relative path.
    let parent = project.dir().parent().expect("a parent");
    let name = project.dir().file_name().expect("a name");
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_WORKSPACE", name)
        .dir(parent)
        .agent("pwd -P")
        .run()
        .assert_completed(&receiver);
    assert_eq!(
        event["result"]["output"]["tail"],
        format!("{}\n", project.dir().display())
    );
}

#[test]
fn the_failure_reason_says_how_the_agent_ended() {
    let failed = "the agent's command failed with exit code";
    let ended = "the agent's command ended with exit code";
    for (script, reason, exit_code, message) in [
        ("exit 1", "agent_failed", json!(1), format!("{failed} 1")),
        ("exit 2", "agent_failed", json!(2), format!("{failed} 2")),
        (
            "exit 255",
            "agent_failed",
            json!(255),
            format!("{failed} 255"),
        ),
        (
            "/dev/null",
            "agent_not_found",
            json!(126),
            format!("{ended} 126: a program is not executable"),
        ),
        (
            "no-such-agent --please",
            "agent_not_found",
            json!(127),
            format!("{ended} 127: a program is not found"),
        ),
        (
            "sh -c 'kill -9 $$'; exit $?",
            "agent_killed",
            json!(137),
            format!("{ended} 137: SIGKILL killed it"),
        ),
        (
            "kill -9 $$",
            "agent_killed",
            Value::Null,
            "the agent was killed by SIGKILL".to_owned(),
        ),
        (
            "kill -ABRT $$",
            "agent_killed",
            Value::Null,
            "the agent was killed by SIGABRT".to_owned(),
        ),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let event = Worker::new(&receiver, &project)
            .agent(script)
            .run()
            .assert_failed(&receiver, reason);
        assert_eq!(event["message"], message, "{script}");
        assert_eq!(event["failure"]["message"], message, "{script}");
        assert_eq!(event["failure"]["retryable"], reason == "agent_killed");
        assert_eq!(event["result"]["agent"]["exit_code"], exit_code, "{script}");
    }
}

#[test]
fn without_an_agent_the_failure_says_how_to_set_one() {
    let how = "there is no agent to run: set DESCARTES_AGENT_COMMAND or --agent-command to the command that starts one";
    for (kind, more) in [
        (
            "auto",
            ", or ANTHROPIC_API_KEY to use Claude Code or the built-in agent",
        ),
        ("command", ""),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let event = Worker::new(&receiver, &project)
            .env("DESCARTES_AGENT", kind)
            .run()
            .assert_failed(&receiver, "agent_not_found");
        assert_eq!(event["message"], format!("{how}{more}"));
        assert_eq!(event["result"]["agent"], Value::Null);
    }
}

#[test]
fn an_agent_that_takes_longer_than_the_task_timeout_has_timed_out() {
    with_enough_time(Duration::from_secs(2), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let event = Worker::new(&receiver, &project)
            .env("DESCARTES_TASK_TIMEOUT", duration_setting(limit))
            .agent("echo begun; while :; do echo busy; sleep 0.1; done")
            .run()
            .assert_failed(&receiver, "timed_out");
        let message = format!("the task was not done within {}", duration_text(limit));
        assert_eq!(event["message"], message);
        assert_eq!(event["failure"]["retryable"], false);
        assert_eq!(event["result"]["agent"]["exit_code"], Value::Null);
        let output = &event["result"]["output"];
        if output["total_bytes"] == 0 {
            return Err("the agent printed nothing".to_owned());
        }
        let begin = ["head", "tail"].map(|end| output[end].as_str().expect("a text"));
        assert!(begin.concat().starts_with("begun\n"), "{output}");
        Ok(())
    });
}

#[test]
fn an_agent_that_prints_nothing_for_the_idle_timeout_is_idle() {
    with_enough_time(Duration::from_secs(2), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let event = Worker::new(&receiver, &project)
            .env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit))
            .agent("echo hm; exec sleep 6000")
            .run()
            .assert_failed(&receiver, "idle");
        let message = format!("the agent printed nothing for {}", duration_text(limit));
        assert_eq!(event["message"], message);
        assert_eq!(event["failure"]["retryable"], true);
        if event["result"]["output"]["tail"] == "" {
            return Err("the agent printed nothing".to_owned());
        }
        assert_eq!(event["result"]["output"]["tail"], "hm\n");
        Ok(())
    });
}

#[test]
fn anything_in_the_place_of_the_prompt_file_is_replaced_in_the_next_round() {
    for place in [
        "mkfifo \"$DESCARTES_PROMPT_FILE\"",
        "mkdir \"$DESCARTES_PROMPT_FILE\"",
        "ln -s \"$PWD/untouched\" \"$DESCARTES_PROMPT_FILE\"",
        "rm -rf \"$(dirname \"$DESCARTES_PROMPT_FILE\")\"",
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        project
            .write("untouched", "as it was\n")
            .set_checks(&["test -e fixed"]);
        let agent = format!(
            "if [ -e one ]; then head -n 1 > second; touch fixed; exit; fi
             touch one; rm -f \"$DESCARTES_PROMPT_FILE\"; {place}"
        );
        Worker::new(&receiver, &project)
            .agent(agent)
            .run()
            .assert_completed(&receiver);
        assert!(project.read("second").contains("is not done"), "{place}");
        assert_eq!(project.read("untouched"), "as it was\n");
    }
}

#[test]
fn the_time_that_cloning_takes_does_not_count_against_the_task_timeout() {
    with_enough_time(Duration::from_secs(3), |limit| {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let bin = tempfile::tempdir().expect("a directory");
        let path = path().into_string().expect("a PATH in UTF-8");
        let git = format!(
            "case \" $* \" in *\" fetch \"*) sleep {};; esac
             PATH='{path}' exec git \"$@\"",
            limit.as_secs_f64()
        );
        write_program(&bin.path().join("git"), &git);
        let ended = origin
            .worker(&receiver)
            .env("PATH", format!("{}:{path}", bin.path().display()))
            .env("DESCARTES_TASK_TIMEOUT", duration_setting(limit))
            .agent("true")
            .run();
        assert!(ended.duration >= limit);
        let failure = ended.result_line()["failure"].clone();
        if failure["reason"] == "timed_out" {
            return Err(format!("the agent did not end: {failure}"));
        }
        ended.assert_completed(&receiver);
        Ok(())
    });
}
