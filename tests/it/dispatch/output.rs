//! The output of `dispatch`: the plan, messages, JSON, and the answers to workers.

use serde_json::Value;

use super::sample::Graph;
use crate::support::schema;

#[test]
fn plan_prints_the_order_the_longest_chain_and_what_is_blocked_and_starts_nothing() {
    let nodes = "1 | First | P | 1 | M\n2 | Second | P | 1 | M\n3 | Urgent | P | 1 | C\n4 | Lost | P | 1 | M\n\n@edges\n2 -> 1\n4 -> 99\n";
    let graph = Graph::new(nodes);
    let ended = graph.command(&["--plan"]).run();
    ended.assert_code(0);
    assert_eq!(
        ended.stdout,
        "   1  3        Urgent\n   2  1        First\n   3  2        Second (after 1)\n\
         longest chain: 1 → 2 (2 tasks)\n\
         blocked  4        Lost (depends on 99, which is not in the graph)\n"
    );
    assert_eq!(graph.entries("intent").len(), 0);
}

#[test]
fn plan_and_status_are_one_object_for_programs() {
    let graph = Graph::new(
        "1 | First | P | 1 | M\n2 | Second | P | 1 | M\n4 | Lost | P | 1 | M\n\n@edges\n2 -> 1\n4 -> 99\n",
    );
    let object = |args: &[&str]| {
        let ended = graph.command(args).arg("--json").run();
        ended.assert_code(0);
        schema::cli_object(&ended.stdout)
    };
    let plan = object(&["--plan"]);
    assert_eq!(plan["type"], "plan");
    assert_eq!(plan["order"][1]["id"], "2");
    assert_eq!(plan["longest_chain"], serde_json::json!(["1", "2"]));
    assert_eq!(plan["blocked"][0]["id"], "4");
    let status = object(&["status"]);
    assert_eq!(status["type"], "status");
    assert_eq!(status["is_running"], false);
    assert_eq!(status["tasks"][0]["standing"], "ready");
    let answer = object(&["retry", "1"]);
    assert_eq!(answer["type"], "answer");
}

#[test]
fn the_status_of_a_running_dispatch_is_one_object_for_programs() {
    let graph = Graph::new("1 | Endless | P | 1 | H\n");
    let running = graph.dispatch("sleep 1000").start();
    running.wait_for_log(" works");
    let ended = graph.command(&["status", "--json"]).run();
    ended.assert_code(0);
    let status = schema::cli_object(&ended.stdout);
    assert_eq!(status["is_running"], true);
    assert_eq!(status["tasks"][0]["standing"], "working");
    let cancel = graph.command(&["cancel", "--json"]).run();
    cancel.assert_code(0);
    assert_eq!(schema::cli_object(&cancel.stdout)["text"], "done");
    running.wait().assert_code(3);
}

#[test]
fn a_reader_of_json_that_has_gone_does_not_stop_a_dispatch() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended = graph
        .dispatch("echo done > done")
        .arg("--json")
        .change_command(|command| {
            command.stdout(writer);
        })
        .run();
    ended.assert_code(0);
    assert_eq!(graph.show("descartes/house", "done"), "done\n");
    assert!(!ended.stderr.contains("panic"), "{ended:#?}");
}

#[test]
fn json_prints_every_entry_of_the_journal() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    let report = graph.state_dir().with_file_name("report.json");
    let ended = graph
        .dispatch("echo done > done")
        .args(["--json", "--report"])
        .arg(&report)
        .run();
    ended.assert_code(0);
    let mut printed = schema::cli_objects(&ended.stdout);
    for object in &mut printed {
        let fields = object.as_object_mut().expect("an object");
        assert_eq!(fields.remove("schema"), Some(1.into()));
        assert_eq!(fields.remove("type"), Some("journal".into()));
    }
    assert_eq!(printed, graph.journal());
    let kinds: Vec<&str> = printed
        .iter()
        .filter_map(|entry| entry["entry"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "created", "begun", "intent", "placed", "handle", "granted", "reported", "merged",
            "ended"
        ]
    );
    let report: Value =
        serde_json::from_slice(&std::fs::read(report).expect("the report")).expect("JSON");
    assert_eq!(report["ended"], "done");
    assert_eq!(report["tasks"][0]["attempts"][0]["merged"], true);
}

#[test]
fn merged_tasks_of_a_deleted_branch_do_not_count_as_done() {
    let graph = Graph::new("1 | Only | P | 1 | H\n");
    graph.dispatch("echo done > done").run().assert_code(0);
    graph.git(&["branch", "-D", "descartes/house"]);
    let ended = graph.dispatch("echo again > done").run();
    ended.assert_code(2);
    assert!(
        ended.stderr.contains("--fresh starts a new dispatch"),
        "{ended:#?}"
    );
    let fresh = graph.dispatch("echo again > done").arg("--fresh").run();
    fresh.assert_code(0);
    assert_eq!(graph.show("descartes/house", "done"), "again\n");
}

#[test]
fn only_does_the_named_tasks_and_no_others() {
    let graph = Graph::new(
        "1 | First | P | 1 | M\n2 | Second | P | 1 | M\n3 | Third | P | 1 | M\n\n@edges\n3 -> 2\n",
    );
    let ended = graph
        .dispatch("echo done > done-${TASK_ID##*:}")
        .args(["--only", "1,3"])
        .run();
    ended.assert_code(1);
    assert!(
        ended
            .stderr
            .contains("needs 2, which is not done and not part of this dispatch"),
        "{ended:#?}"
    );
    assert_eq!(graph.show("descartes/house", "done-1"), "done\n");
}

#[test]
fn events_without_the_secret_of_their_run_are_rejected() {
    let graph = Graph::new("1 | Endless | P | 1 | H\n");
    let running = graph.dispatch("sleep 1000").start();
    running.wait_for_log(" works");
    let journal = graph.journal();
    let listen = journal[1]["listen"]
        .as_str()
        .expect("an address")
        .to_owned();
    let run = journal[2]["run"].as_str().expect("a run").to_owned();
    let project = crate::support::Project::new();
    let worker = crate::support::Worker::without_settings()
        .env("TASK_ID", "8")
        .env("PROJECT_ID", "p")
        .env(
            "CALLBACK_URL",
            format!("http://{listen}/api/agents/callback"),
        )
        .env("DESCARTES_RUN_ID", run)
        .env(
            "DESCARTES_CALLBACK_SECRET",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )
        .env("DESCARTES_CLAIM_DEADLINE", "1m")
        .env("DESCARTES_AGENT_COMMAND", "true")
        .dir(project.dir())
        .run();
    worker.assert_code(3);
    assert!(worker.stderr.contains("401"), "{worker:#?}");
    let cancel = graph.command(&["cancel"]).run();
    cancel.assert_code(0);
    running.wait().assert_code(3);
}
