//! Signals at the end of a dispatch on machines.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Cloud, ONE};
use crate::dispatch::sample::Gate;
use crate::support::origin::write_program;
use crate::support::{assert_within, each, quoted, wait_until};

#[test]
fn sigterm_while_the_branches_of_merged_work_are_deleted_leaves_the_end_to_the_same_command() {
    let cloud = Cloud::new(ONE);
    cloud.git(&["branch", "release", "main"]);
    let gate = Gate::new();
    gate.open();
    let hook = cloud.remote.join("hooks/pre-receive");
    let (gate_dir, deletes) = (quoted(gate.path("")), gate.path("deletes"));
    let script = format!(
        r#"while read -r old new name; do
            case "$new $name" in 0000*' refs/heads/descartes-runs/'*)
                touch {gate_dir}/deletes
                while [ -e {gate_dir} ] && [ ! -e {gate_dir}/deleted ]; do sleep 0.02; done
            esac
        done
        "#
    );
    fs::create_dir_all(cloud.remote.join("hooks")).expect("a directory");
    write_program(&hook, &script);
    let dispatch = || {
        let dispatch = cloud.dispatch_with_gate(&gate, "echo done > done");
        dispatch.args(["--into", "release"])
    };
    let running = dispatch().start();
    wait_until("the deletion of a branch", || deletes.exists());
    wait_until("the merge", || cloud.graph.entries("merged").len() == 1);
    running.signal(Signal::TERM);
    let ended = running.wait();
    ended.assert_code(3);
    assert!(!ended.stderr.contains("runs go on"), "{ended:#?}");
    fs::write(gate.path("deleted"), "").expect("a file");
    dispatch().run().assert_code(0);
    assert_eq!(cloud.git(&["show", "release:done"]), "done\n");
    assert_eq!(gate.begun_tasks(), "house:1\n");
    cloud.api.assert_clean();
}

#[test]
fn a_signal_ends_the_wait_for_an_engine_that_does_not_answer_at_the_end() {
    each(&[Signal::INT, Signal::TERM, Signal::HUP], |signal| {
        let cloud = Cloud::new(ONE);
        let gate = Gate::new();
        let dispatch = || cloud.dispatch_with_gate(&gate, "echo done > done");
        let running = dispatch().start();
        gate.wait_for_an_agent();
        wait_until("the handle", || cloud.graph.entries("handle").len() == 1);
        cloud
            .api
            .change_oddities(|oddities| oddities.is_away = true);
        gate.open();
        running
            .wait_for_log("waiting until the engines have removed what they have of this dispatch");
        let signal_time = Instant::now();
        running.signal(signal);
        let ended = running.wait();
        // Without the signal, the dispatcher would wait until the API answers.
        assert_within(Duration::from_secs(60), signal_time.elapsed());
        ended.assert_code(3);
        assert!(ended.stderr.contains("1 of 1 tasks are done"), "{ended:#?}");
        let words = "the engine fly may still have something of this dispatch";
        assert!(ended.stderr.contains(words), "{ended:#?}");
        assert!(ended.stderr.contains("fly secrets unset"), "{ended:#?}");
        cloud
            .api
            .change_oddities(|oddities| oddities.is_away = false);
        dispatch().run().assert_code(0);
        assert_eq!(gate.begun_tasks(), "house:1\n");
        cloud.api.assert_clean();
    });
}
