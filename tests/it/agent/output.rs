//! The agent's output in the log and in the reports.

use serde_json::{Value, json};

use super::worker_with_many_variables;
use crate::support::{Project, Receiver, Worker};

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
fn secrets_are_masked_in_output_log_and_events() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let ended = worker_with_many_variables(&receiver, &project)
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
fn a_secret_that_is_split_between_two_rounds_is_masked() {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.set_checks(&["test -e fixed"]);
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
