//! For owners of a project: work counts as done only if the project's own checks pass.

mod only_checks;

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Project, Receiver, Worker, duration_setting, duration_text, with_enough_time,
};

/// The command, the exit code and the end of the output of each check in a terminal event.
fn checks(event: &Value) -> Vec<(&str, Value, &str)> {
    let checks = event["result"]["checks"].as_array().expect("checks");
    checks
        .iter()
        .map(|check| {
            assert!(check["duration_ms"].is_u64(), "{check}");
            (
                check["command"].as_str().expect("a command"),
                check["exit_code"].clone(),
                check["output_tail"].as_str().expect("an output"),
            )
        })
        .collect()
}

#[test]
fn the_checks_of_the_project_run_in_order_in_its_directory() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["echo one; cat", "cat made", "pwd -P >&2"]);
    let event = Worker::new(&receiver, &project)
        .agent("echo two > made")
        .run()
        .assert_completed(&receiver);
    let directory = format!("{}\n", project.dir().display());
    assert_eq!(
        checks(&event),
        [
            ("echo one; cat", json!(0), "one\n"),
            ("cat made", json!(0), "two\n"),
            ("pwd -P >&2", json!(0), &directory),
        ]
    );
}

#[test]
fn checks_in_the_settings_replace_those_of_the_project() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["touch own; false"]);
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_CHECKS", "echo a\n\n  echo 'b c'  \n")
        .agent("true")
        .run()
        .assert_completed(&receiver);
    assert_eq!(
        checks(&event),
        [
            ("echo a", json!(0), "a\n"),
            ("echo 'b c'", json!(0), "b c\n")
        ]
    );
    assert!(!project.path("own").exists());
}

#[test]
fn the_setting_none_runs_no_checks() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["false"]);
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_CHECKS", "none")
        .agent("true")
        .run()
        .assert_completed(&receiver);
    assert_eq!(checks(&event), []);
}

#[test]
fn checks_do_not_run_after_an_agent_that_failed() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["touch checked"]);
    let event = Worker::new(&receiver, &project)
        .agent("exit 1")
        .run()
        .assert_failed(&receiver, "agent_failed");
    assert_eq!(checks(&event), []);
    assert!(!project.path("checked").exists());
}

#[test]
fn the_checks_after_a_failed_one_run_only_if_stop_on_failure_is_false() {
    let all = [
        ("true", json!(0), ""),
        ("echo no; exit 3", json!(3), "no\n"),
        ("exit 4", json!(4), ""),
        ("echo last", json!(0), "last\n"),
    ];
    let commands = all.iter().map(|(command, ..)| *command).collect::<Vec<_>>();
    for (line, reported) in [
        ("", &all[..2]),
        ("stop_on_failure = true\n", &all[..2]),
        ("stop_on_failure = false\n", &all[..]),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        project.set_checks(&commands);
        let config = project.read(".scud/config.toml");
        project.write(".scud/config.toml", config + line);
        let event = Worker::new(&receiver, &project)
            .env("DESCARTES_REPAIRS", "0")
            .agent("true")
            .run()
            .assert_failed(&receiver, "checks_failed");
        assert_eq!(checks(&event), reported, "{line}");
        let message = "the check `echo no; exit 3` failed with exit code 3";
        assert_eq!(event["message"], message);
        assert_eq!(
            event["failure"],
            json!({
                "reason": "checks_failed", "message": message, "detail": "no\n", "retryable": false,
            })
        );
    }
}

#[test]
fn the_agent_has_as_many_repair_rounds_as_the_setting_says() {
    for (repairs, rounds) in [("", 2), ("0", 1), ("1", 2), ("3", 4)] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let event = Worker::new(&receiver, &project)
            .env("DESCARTES_REPAIRS", repairs)
            .env("DESCARTES_CHECKS", "false")
            .agent("echo round >> rounds")
            .run()
            .assert_failed(&receiver, "checks_failed");
        assert_eq!(project.read("rounds"), "round\n".repeat(rounds));
        assert_eq!(checks(&event), [("false", json!(1), "")]);
        assert_eq!(event["result"]["agent"]["exit_code"], 0);
    }
}

#[test]
fn a_task_is_completed_if_the_agent_repairs_the_failed_check() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_CHECKS", "echo once >> checked\ncat house")
        .agent("if [ -f checked ]; then echo walls > house; echo repaired; else echo done; fi")
        .run()
        .assert_completed(&receiver);
    assert_eq!(
        checks(&event),
        [
            ("echo once >> checked", json!(0), ""),
            ("cat house", json!(0), "walls\n"),
        ]
    );
    assert_eq!(project.read("checked"), "once\nonce\n");
    assert_eq!(event["result"]["output"]["tail"], "done\nrepaired\n");
    assert_eq!(event["result"]["summary"], "repaired");
}

#[test]
fn a_run_fails_if_the_agent_fails_in_a_repair_round() {
    let (receiver, project) = (Receiver::start(), Project::new());
    Worker::new(&receiver, &project)
        .env("DESCARTES_CHECKS", "false")
        .agent("if [ -f again ]; then exit 9; fi; touch again")
        .run()
        .assert_failed(&receiver, "agent_failed");
}

#[test]
fn a_check_is_ended_after_the_time_limit_of_the_project() {
    with_enough_time(Duration::from_secs(2), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        project.write(
            ".scud/config.toml",
            format!(
                "[swarm.backpressure]\ncommands = ['echo slow; exec sleep 6000']\ntimeout_secs = {}\n",
                limit.as_secs()
            ),
        );
        let event = Worker::new(&receiver, &project)
            .env("DESCARTES_REPAIRS", "0")
            .agent("true")
            .run()
            .assert_failed(&receiver, "checks_failed");
        let message = format!(
            "the check `echo slow; exec sleep 6000` was not done within {}",
            duration_text(limit)
        );
        assert_eq!(event["message"], message);
        if checks(&event) == [("echo slow; exec sleep 6000", Value::Null, "")] {
            return Err("the check printed nothing".to_owned());
        }
        assert_eq!(
            checks(&event),
            [("echo slow; exec sleep 6000", Value::Null, "slow\n")]
        );
        Ok(())
    });
}

#[test]
fn the_time_limit_of_the_task_also_ends_checks() {
    for seconds in [0, 6000] {
        with_enough_time(Duration::from_secs(2), |limit| {
            let (receiver, project) = (Receiver::start(), Project::new());
            project.write(
                ".scud/config.toml",
                format!(
                    "[swarm.backpressure]\ncommands = ['exec sleep 6000']\ntimeout_secs = {seconds}\n"
                ),
            );
            let event = Worker::new(&receiver, &project)
                .env("DESCARTES_TASK_TIMEOUT", duration_setting(limit))
                .agent("true")
                .run()
                .assert_failed(&receiver, "timed_out");
            let message = format!("the task was not done within {}", duration_text(limit));
            assert_eq!(event["message"], message);
            if checks(&event).is_empty() {
                return Err("the check was not started".to_owned());
            }
            assert_eq!(checks(&event), [("exec sleep 6000", Value::Null, "")]);
            Ok(())
        });
    }
}

#[test]
fn the_idle_timeout_does_not_apply_to_checks() {
    with_enough_time(Duration::from_secs(2), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let silence = limit.as_secs_f64() + 0.5;
        let ended = Worker::new(&receiver, &project)
            .env("DESCARTES_IDLE_TIMEOUT", duration_setting(limit))
            .env("DESCARTES_CHECKS", format!("touch begun; sleep {silence}"))
            .agent("true")
            .run();
        if !project.path("begun").exists() {
            return Err("the agent was not done".to_owned());
        }
        ended.assert_completed(&receiver);
        Ok(())
    });
}

#[test]
fn a_check_that_is_killed_by_a_signal_fails() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_REPAIRS", "0")
        .env("DESCARTES_CHECKS", "kill -9 $$")
        .agent("true")
        .run()
        .assert_failed(&receiver, "checks_failed");
    assert_eq!(
        event["message"],
        "the check `kill -9 $$` was killed by SIGKILL"
    );
    assert_eq!(checks(&event), [("kill -9 $$", Value::Null, "")]);
}

#[test]
fn the_terminal_event_has_the_last_4_kib_of_the_output_of_a_check() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.write("text", "a".repeat(100_000) + &"b".repeat(4096));
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_CHECKS", "cat text")
        .agent("true")
        .run()
        .assert_completed(&receiver);
    assert_eq!(checks(&event), [("cat text", json!(0), &*"b".repeat(4096))]);
    // The output of the agent is counted separately.
    assert_eq!(event["result"]["output"]["total_bytes"], 0);
}

#[test]
fn a_stop_signal_ends_a_check() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project)
        .env("DESCARTES_CHECKS", "echo checking; exec sleep 600")
        .agent("true")
        .start();
    worker.wait_for_log("check: checking");
    worker.signal(Signal::TERM);
    let event = worker.wait().assert_failed(&receiver, "interrupted");
    assert_eq!(checks(&event), []);
    assert_eq!(event["result"]["agent"]["exit_code"], 0);
}

#[test]
fn a_malformed_config_fails_the_run_before_the_agent_starts() {
    for (config, line) in [
        ("[swarm.backpressure]\ncommands = [\n", 2),
        ("[swarm.backpressure]\ncommands = \"true\"\n", 2),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        project.write(".scud/config.toml", config);
        let event = Worker::new(&receiver, &project)
            .agent("touch worked")
            .run()
            .assert_failed(&receiver, "workspace_failed");
        let message = event["message"].as_str().expect("a message");
        let path = project.path(".scud/config.toml");
        assert!(
            message.starts_with(&format!("{}, line {line}: ", path.display())),
            "{message}"
        );
        assert_eq!(event["failure"]["retryable"], false, "{event:#}");
        assert!(!project.path("worked").exists());
        // The file is not read if it is not needed.
        let receiver = Receiver::start();
        Worker::new(&receiver, &project)
            .env("DESCARTES_CHECKS", "true")
            .agent("true")
            .run()
            .assert_completed(&receiver);
    }
}

#[test]
fn backpressure_without_commands_runs_no_checks() {
    for config in [
        "[swarm.backpressure]\n",
        "[swarm.backpressure]\nstop_on_failure = true\ntimeout_secs = 300\n",
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        project.write(".scud/config.toml", config);
        let event = Worker::new(&receiver, &project)
            .agent("true")
            .run()
            .assert_completed(&receiver);
        assert_eq!(checks(&event), []);
    }
}

#[test]
fn a_check_that_cannot_start_fails_the_run_without_a_repair_round() {
    for (check, code, why) in [
        (
            "no-such-check --all",
            127,
            "there is no executable program `no-such-check` (exit code 127)",
        ),
        (
            "./check.sh",
            126,
            "there is no executable program `./check.sh` (exit code 126)",
        ),
    ] {
        let (receiver, project) = (Receiver::start(), Project::new());
        project.write("check.sh", "true");
        let event = Worker::new(&receiver, &project)
            .env("DESCARTES_CHECKS", format!("{check}\ntrue"))
            .agent("echo round >> rounds")
            .run()
            .assert_failed(&receiver, "workspace_failed");
        assert_eq!(
            event["message"],
            format!(
                "the check `{check}` cannot start: {why}; correct the command in DESCARTES_CHECKS or \
                 .scud/config.toml, or install the program"
            )
        );
        assert_eq!(event["failure"]["retryable"], false);
        assert_eq!(project.read("rounds"), "round\n");
        let reported = checks(&event);
        assert_eq!(
            reported.iter().map(|(_, code, _)| code).collect::<Vec<_>>(),
            [&json!(code)]
        );
    }
}

#[test]
fn a_check_that_starts_and_then_misses_a_program_gets_a_repair_round() {
    for check in ["sh check.sh", "cd . && ./tool"] {
        let (receiver, project) = (Receiver::start(), Project::new());
        project.write("check.sh", "exec ./tool");
        Worker::new(&receiver, &project)
            .env("DESCARTES_CHECKS", check)
            .agent(
                "if [ -f again ]; then printf '#!/bin/sh\n' > tool; chmod +x tool; fi; touch again",
            )
            .run()
            .assert_completed(&receiver);
    }
}

#[test]
fn a_check_whose_program_is_unknown_fails_with_its_exit_code_after_all_repair_rounds() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let check = "cd . && no-such-check";
    let event = Worker::new(&receiver, &project)
        .env("DESCARTES_CHECKS", check)
        .env("DESCARTES_REPAIRS", "2")
        .agent("echo round >> rounds")
        .run()
        .assert_failed(&receiver, "checks_failed");
    let message = event["message"].as_str().expect("a message");
    let expected = format!("the check `{check}` failed with exit code 127");
    assert!(message.starts_with(&expected), "{message}");
    assert_eq!(project.read("rounds"), "round\n".repeat(3));
}
