//! Agents that are shell commands: their environment, their end, their output.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::origin::program;
use crate::support::{Origin, Project, Receiver, Worker, path, setting, with_enough_time, written};

/// Writes the environment to a file, without the variables that shells add.
const ENV: &str = "env | grep -v -e ^PWD= -e ^OLDPWD= -e ^SHLVL= -e ^_= | LC_ALL=C sort > ";

/// A worker with many environment variables.
fn with_many_variables(receiver: &Receiver, project: &Project) -> Worker {
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
    with_many_variables(&receiver, &project)
        .env("DESCARTES_MODEL", "opus")
        // With the gateway, the agent gets placeholders; the gateway's tests look at them.
        .env("DESCARTES_MODEL_GATEWAY", "off")
        .agent(format!("{ENV} env"))
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
    with_many_variables(&receiver, &project)
        .env("DESCARTES_CHECKS", format!("{ENV} env"))
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
    with_many_variables(&receiver, &project)
        .env("DESCARTES_AGENT_ENV", "GITHUB_TOKEN, NPM_CONFIG NOT_SET")
        .env("DESCARTES_CHECKS", format!("{ENV} checks"))
        .agent(format!("{ENV} agent"))
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
        .without("PATH")
        .agent("printf %s \"$PATH\" > path")
        .run()
        .assert_completed(&receiver);
    assert_eq!(project.read("path"), "/usr/local/bin:/usr/bin:/bin");
}

#[test]
fn the_agent_works_in_the_workspace() {
    let (receiver, project) = (Receiver::start(), Project::new());
    // A relative path.
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
    let how =
        "there is no agent to run: set DESCARTES_AGENT_COMMAND to the command that starts one";
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
            .env("DESCARTES_TASK_TIMEOUT", setting(limit))
            .agent("echo begun; while :; do echo busy; sleep 0.1; done")
            .run()
            .assert_failed(&receiver, "timed_out");
        let message = format!("the task was not done within {}", written(limit));
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
            .env("DESCARTES_IDLE_TIMEOUT", setting(limit))
            .agent("echo hm; exec sleep 6000")
            .run()
            .assert_failed(&receiver, "idle");
        let message = format!("the agent printed nothing for {}", written(limit));
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
fn the_beginning_and_the_end_of_long_output_are_reported_and_the_rest_is_counted() {
    for (total, head, dropped) in [
        (0_usize, 0, 0),
        (8192, 0, 0),
        (8193, 1, 0),
        (12_288, 4096, 0),
        (12_289, 4096, 1),
        (1_000_000, 4096, 987_712),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        // A different letter in each kilobyte, so that the reported parts can be recognised.
        let bytes: Vec<u8> = (b'a'..=b'z')
            .flat_map(|letter| [letter; 1024])
            .cycle()
            .take(total)
            .collect();
        project.write("text", &bytes);
        let event = Worker::new(&receiver, &project)
            .agent("cat text")
            .run()
            .assert_completed(&receiver);
        let output = &event["result"]["output"];
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
        assert_eq!(output["head"], text(&bytes[..head]), "{total}");
        assert_eq!(output["tail"], text(&bytes[total.saturating_sub(8192)..]));
        assert_eq!(output["total_bytes"], total);
        assert_eq!(output["dropped_bytes"], dropped);
    }
}

#[test]
fn standard_output_and_standard_error_are_reported_in_their_order() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .agent("echo 1; echo 2 >&2; echo 3; printf 4 >&2")
        .run()
        .assert_completed(&receiver);
    assert_eq!(event["result"]["output"]["tail"], "1\n2\n3\n4");
}

#[test]
fn the_summary_is_the_last_line_of_the_agents_output() {
    for (script, summary) in [
        ("echo first; echo last", json!("last")),
        ("echo first; printf last", json!("last")),
        ("echo last; echo; echo '  '", json!("last")),
        (
            r"printf 'zw\303\266lf \033[1mlast\033[0m\r\n'",
            json!("zwölf last"),
        ),
        ("seq 5000; echo last", json!("last")),
        ("true", Value::Null),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let event = Worker::new(&receiver, &project)
            .agent(script)
            .run()
            .assert_completed(&receiver);
        assert_eq!(event["result"]["summary"], summary, "{script}");
    }
}

#[test]
fn invalid_utf_8_in_the_output_is_replaced() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .agent(r"printf 'a\377b\000c zw\303\266lf\n'")
        .run()
        .assert_completed(&receiver);
    let output = &event["result"]["output"];
    assert_eq!(output["tail"], "a\u{FFFD}b\0c zwölf\n");
    assert_eq!(output["total_bytes"], 13);
}

#[test]
fn the_log_shows_the_agents_lines_without_control_characters() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = Worker::new(&receiver, &project)
        .agent(r"printf '\033[31mred\033[0m\007 alert\r\n\n  50%%\r 100%%\n'")
        .run();
    ended.assert_completed(&receiver);
    let shown: Vec<String> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a JSON log"))
        .filter_map(|log| Some(log["message"].as_str()?.strip_prefix("agent: ")?.to_owned()))
        .collect();
    assert_eq!(shown, ["red alert", "  50%", " 100%"]);
}

#[test]
fn secrets_are_masked_in_output_log_and_reports() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = with_many_variables(&receiver, &project)
        .env("DESCARTES_AGENT_ENV", "GITHUB_TOKEN SERVICE_PASSWORD")
        .env("SERVICE_PASSWORD", "correct horse/battery")
        .env("DESCARTES_MODEL_GATEWAY", "off")
        .env(
            "DESCARTES_CHECKS",
            "cat leaked; false # correct horse/battery",
        )
        .env("DESCARTES_REPAIRS", "0")
        .agent(
            "printf 'key sk-'; printf '%s, ' \"${ANTHROPIC_API_KEY#sk-}\"
             echo \"$SERVICE_PASSWORD\" | tee leaked
             echo 'url correct%20horse%2Fbattery'
             echo 'not mine: whsec_Z2VoZWltLWdlaGVpbS1nZWhlaW0tZ2VoZWlt callback-token git-token'
             echo \"I used $SERVICE_PASSWORD\"",
        )
        .run();
    let event = ended.assert_failed(&receiver, "checks_failed");
    assert_eq!(
        event["result"]["output"]["tail"],
        "key ***, ***\nurl ***\nnot mine: *** *** ***\nI used ***\n"
    );
    assert_eq!(event["result"]["summary"], "I used ***");
    assert_eq!(event["result"]["checks"][0]["output_tail"], "***\n");
    let command = "cat leaked; false # ***";
    assert_eq!(event["result"]["checks"][0]["command"], command);
    assert_eq!(
        event["message"],
        format!("the check `{command}` failed with exit code 1")
    );
    assert!(
        ended.stderr.contains(&format!("\"check: {command}\"")),
        "{ended:#?}"
    );
    assert_eq!(event["failure"]["detail"], "***\n");
    assert!(ended.stderr.contains("agent: I used ***"), "{ended:#?}");
    for secret in [
        "sk-ant-1",
        "battery",
        "whsec_",
        "callback-token",
        "git-token",
    ] {
        assert!(!ended.stdout.contains(secret), "{secret} in {ended:#?}");
        assert!(!ended.stderr.contains(secret), "{secret} in {ended:#?}");
    }
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
            .checks(&["test -e fixed"]);
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
fn a_secret_that_is_split_between_two_rounds_is_masked() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.checks(&["test -e fixed"]);
    let agent = "if [ -e one ]; then touch fixed; echo '0123456789 done'
                 else touch one; printf 'key: sk-ant-'; fi";
    let ended = Worker::new(&receiver, &project)
        .env("ANTHROPIC_API_KEY", "sk-ant-0123456789")
        .agent(agent)
        .run();
    let event = ended.assert_completed(&receiver);
    assert_eq!(event["result"]["output"]["tail"], "key: *** done\n");
    assert_eq!(event["result"]["summary"], "key: *** done");
    assert!(!ended.stderr.contains("sk-ant-"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("0123456789"), "{}", ended.stderr);
}

#[test]
fn the_beginning_of_a_secret_at_the_end_of_the_output_is_reported() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .env("ANTHROPIC_API_KEY", "sk-ant-0123456789")
        .agent("printf 'keys begin with sk-ant-'")
        .run()
        .assert_completed(&receiver);
    let output = "keys begin with sk-ant-";
    assert_eq!(event["result"]["output"]["tail"], output);
    assert_eq!(event["result"]["summary"], output);
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
        program(&bin.path().join("git"), &git);
        let ended = origin
            .worker(&receiver)
            .env("PATH", format!("{}:{path}", bin.path().display()))
            .env("DESCARTES_TASK_TIMEOUT", setting(limit))
            .agent("true")
            .run();
        assert!(ended.took >= limit);
        let failure = ended.result_line()["failure"].clone();
        if failure["reason"] == "timed_out" {
            return Err(format!("the agent did not end: {failure}"));
        }
        ended.assert_completed(&receiver);
        Ok(())
    });
}
