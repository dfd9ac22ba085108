//! Secrets do not reach the agent, the log or the reports.

use tempfile::TempDir;

use super::{assert_completed, start_after_script};
use crate::support::model::{bash_call, text_answer};
use crate::support::{Model, Project, Receiver, Worker, nobody};

/// The worker as a user who is not root. A shell runs `script` and then starts the worker, whose program is copied to `bin`.
/// `bin` and the project must come from [`nobody`].
pub fn as_unprivileged_user(script: &str, worker: Worker, bin: &TempDir) -> Worker {
    let worker = worker.program(&nobody::copy_worker(bin));
    // In a namespace without other users, root runs the worker without any capability.
    let script = if nobody::is_root() && !nobody::may_become_nobody() {
        format!("{script}\nexec setpriv --inh-caps=-all --bounding-set=-all \"$0\"")
    } else {
        script.to_owned()
    };
    start_after_script(&script, worker).change_command(nobody::run_as_nobody)
}

#[test]
fn the_tools_of_the_built_in_agent_cannot_read_its_key() {
    let (receiver, project) = (Receiver::start(), nobody::project());
    let bin = nobody::shared_dir();
    let look = "for file in environ mem maps; do
            if head -c 1 /proc/$PPID/$file >/dev/null 2>&1; then echo \"$file is open\"; fi
        done
        tr '\\0' ' ' < /proc/$PPID/cmdline; env";
    let model = Model::start([bash_call(look), text_answer("Done.")]);
    let worker = Worker::new(&receiver, &project)
        .env("DESCARTES_AGENT", "builtin")
        .env("ANTHROPIC_API_KEY", "sk-ant-the-key")
        .env("ANTHROPIC_BASE_URL", model.url());
    let ended = as_unprivileged_user("", worker, &bin).run();
    ended.assert_code(0);
    let bodies = model.request_bodies();
    let result = &bodies[1]["messages"][2]["content"][0]["content"];
    let result = result.as_str();
    let result = result.unwrap_or_else(|| panic!("{bodies:#?} {ended:#?}"));
    assert!(!result.contains("is open"), "{result}");
    assert!(
        result.starts_with("/proc/self/exe agent --session "),
        "{result}"
    );
    assert!(
        !bodies[1].to_string().contains("sk-ant-the-key"),
        "{result}"
    );
}

#[test]
fn the_agent_cannot_read_the_workers_environment_or_memory() {
    let (receiver, project) = (Receiver::start(), nobody::project());
    let bin = nobody::shared_dir();
    let worker = Worker::new(&receiver, &project)
        .without_isolation()
        .env("DESCARTES_CALLBACK_TOKEN", "the-callback-token")
        .agent(
            "for file in environ mem maps fd/1; do
                 if head -c 1 /proc/$PPID/$file >/dev/null 2>&1; then echo \"$file is open\"; fi
             done
             tr '\\0' '\\n' < /proc/$PPID/cmdline
             cat /proc/self/oom_score_adj
             env",
        );
    let ended = as_unprivileged_user("", worker, &bin).run();
    ended.assert_code(0);
    let output = assert_completed(&receiver);
    assert!(!output.contains("is open"), "{output}");
    assert!(
        !output.contains("token") && !output.contains("***"),
        "{output}"
    );
    assert!(output.contains("\n500\n"), "{output}");
}

#[test]
fn a_secret_that_the_agent_prints_is_masked_everywhere() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n");
    let ended = Worker::new(&receiver, &project)
        .env("ANTHROPIC_API_KEY", "sk-ant-api03-abcdef")
        .env("DEPLOY_KEY", &pem)
        .env("DESCARTES_AGENT_ENV", "DEPLOY_KEY")
        .env("DESCARTES_HEARTBEAT", "20ms")
        .env("RUST_LOG", "trace")
        .agent(
            "for part in sk-ant -api03- abcdef; do printf %s $part; sleep 0.1; done; echo
             printf %s \"$DEPLOY_KEY\" | while read -r line; do echo \"> $line\"; done
             echo sk-ant-api03 is no secret, sk-ant-api03-abcdef is",
        )
        .run();
    ended.assert_code(0);
    let expected = "***\n> -----BEGIN PRIVATE KEY-----\n> ***\n> -----END PRIVATE KEY-----\n\
                    sk-ant-api03 is no secret, *** is\n";
    assert_eq!(assert_completed(&receiver), expected);
    let mut everything = ended.stdout.clone() + &ended.stderr;
    for request in receiver.requests() {
        everything += std::str::from_utf8(&request.body).unwrap();
    }
    assert!(!everything.contains("sk-ant-api03-abcdef"));
    assert!(!everything.contains(line));
}

#[test]
fn a_value_inside_a_json_secret_is_masked_when_the_agent_prints_it_decoded() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgE=\n-----END PRIVATE KEY-----\n";
    let secret = serde_json::json!({ "type": "service_account", "private_key": key });
    project.write("key", key);
    Worker::new(&receiver, &project)
        .env("GOOGLE_CREDENTIALS", secret.to_string())
        .agent(
            "cat key; echo; sed -n 2p key; grep -v -e ----- key | tr -d '\\n'; echo; echo service_account",
        )
        .run()
        .assert_code(0);
    let output = assert_completed(&receiver);
    assert_eq!(output, "***\n***\n***\nservice_account\n");
}

#[test]
fn a_key_in_base64_of_several_lines_is_masked() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let key = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-and-more-of-a-key";
    let worker = Worker::new(&receiver, &project)
        .env("DEPLOY_KEY", key)
        .env("DESCARTES_AGENT_ENV", "DEPLOY_KEY")
        .agent("printf 'key: %s\\n' \"$DEPLOY_KEY\" | base64; echo end");
    let ended = worker.run();
    ended.assert_code(0);
    let output = assert_completed(&receiver);
    let encoded = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("key: {key}\n"),
    );
    for piece in encoded.as_bytes()[9..100].windows(8) {
        let piece = std::str::from_utf8(piece).unwrap();
        for text in [&output, &ended.stderr] {
            assert!(!text.contains(piece), "{piece} in {text}");
        }
    }
    assert!(
        output.contains("***") && output.ends_with("end\n"),
        "{output}"
    );
}

#[test]
fn a_token_in_the_query_of_the_repository_is_masked() {
    let receiver = Receiver::start();
    let worker = Worker::without_settings()
        .env("TASK_ID", "8")
        .env("PROJECT_ID", "proj-456")
        .env("CALLBACK_URL", receiver.url())
        .env(
            "DESCARTES_REPO",
            "file:///nowhere/x.git?private_token=glpat-1234%2F5678",
        )
        .agent("true");
    let ended = worker.run();
    let event = ended.assert_failed(&receiver, "workspace_failed");
    for text in [event.to_string(), ended.stderr] {
        assert!(!text.contains("glpat-1234"), "{text}");
    }
}
