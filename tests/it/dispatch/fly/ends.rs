//! Machines that do not start, end early, or are lost.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Cloud, ONE};
use crate::dispatch::fly_api::{CreateFault, ExitPlace};
use crate::dispatch::sample::AGENT_THAT_LISTS_FILES;
use crate::support::{duration_setting, each, with_enough_time};

/// An agent that kills its worker, unless an earlier attempt was lost.
const AGENT_THAT_KILLS_ITS_WORKER: &str = r#"
    if grep -q 'An earlier attempt at this task was lost' "$DESCARTES_PROMPT_FILE"; then
        echo again > again
    else
        kill -9 $(sed 's/.*) . \([0-9]*\) .*/\1/' /proc/$$/stat)
    fi"#;

#[test]
fn a_machine_that_does_not_boot_is_destroyed_and_the_next_attempt_succeeds() {
    with_enough_time(Duration::from_secs(2), |limit| {
        let cloud = Cloud::new(ONE);
        cloud
            .api
            .change_oddities(|oddities| oddities.creates.push_back(CreateFault::Stuck));
        let ended = cloud
            .dispatch(AGENT_THAT_LISTS_FILES)
            .env("DESCARTES_DISPATCH_START_DEADLINE", duration_setting(limit))
            .run();
        let words = "within the start deadline";
        assert!(ended.stderr.contains(words), "{ended:#?}");
        if cloud.api.count_created() > 2 {
            return Err("the claim of the second machine did not come".to_owned());
        }
        ended.assert_code(0);
        assert_eq!(cloud.api.count_created(), 2);
        cloud.api.assert_clean();
        Ok(())
    });
}

#[test]
fn a_machine_that_boots_late_is_waited_for() {
    let cloud = Cloud::new(ONE);
    cloud.api.change_oddities(|oddities| {
        oddities
            .creates
            .push_back(CreateFault::Late(Duration::from_secs(1)));
    });
    cloud.dispatch(AGENT_THAT_LISTS_FILES).run().assert_code(0);
    assert_eq!(cloud.api.count_created(), 1);
    cloud.api.assert_clean();
}

#[test]
fn a_worker_that_was_killed_is_tried_again_wherever_its_exit_code_is_and_whatever_it_is() {
    let cases = [
        (ExitPlace::Request, None, "exit code 137"),
        (ExitPlace::MonitorEvent, None, "exit code 137"),
        (ExitPlace::MonitorEvent, Some(0), "exit code 0"),
        (ExitPlace::Null, None, "was killed"),
        (ExitPlace::Missing, None, "was killed"),
    ];
    each(&cases, |(place, exit_code, words)| {
        let cloud = Cloud::new(ONE);
        cloud.api.change_oddities(|oddities| {
            (oddities.exit_place, oddities.exit_code) = (place, exit_code);
        });
        let ended = cloud
            .dispatch(AGENT_THAT_KILLS_ITS_WORKER)
            .env("DESCARTES_ISOLATION", "off")
            .run();
        assert_eq!(ended.code, Some(0), "{place:?} {ended:#?}");
        assert!(ended.stderr.contains(words), "{place:?} {ended:#?}");
        assert_eq!(cloud.show("again"), "again\n");
        cloud.api.assert_clean();
    });
}

#[test]
fn a_wrong_exit_code_changes_nothing_about_a_run_that_has_reported() {
    let cloud = Cloud::new(ONE);
    cloud
        .api
        .change_oddities(|oddities| oddities.exit_code = Some(137));
    cloud
        .dispatch(AGENT_THAT_LISTS_FILES)
        .args(["--attempts", "1"])
        .run()
        .assert_code(0);
    cloud.api.assert_clean();
}

#[test]
fn a_machine_that_ran_out_of_memory_is_followed_by_one_with_twice_as_much() {
    let cloud = Cloud::new(ONE);
    cloud
        .api
        .change_oddities(|oddities| oddities.is_out_of_memory = true);
    let ended = cloud
        .dispatch(AGENT_THAT_KILLS_ITS_WORKER)
        .env("DESCARTES_ISOLATION", "off")
        .env("DESCARTES_DISPATCH_MEMORY", "1500MiB")
        .run();
    ended.assert_code(0);
    let words = "the machine ran out of memory; it has 1536 MiB";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    let guests: Vec<Value> = cloud
        .create_bodies()
        .iter()
        .map(|body| body["config"]["guest"].clone())
        .collect();
    let guest =
        |cpus: u64, memory: u64| json!({ "cpu_kind": "shared", "cpus": cpus, "memory_mb": memory });
    assert_eq!(guests, [guest(1, 1536), guest(2, 3072)]);
    cloud.api.assert_clean();
}

#[test]
fn a_lost_machine_costs_an_attempt_and_the_next_one_succeeds() {
    let cloud = Cloud::new(ONE);
    let agent = "case $(cat \"$DESCARTES_PROMPT_FILE\") in *'was lost'*) echo again > again;; *) sleep 1000;; esac";
    let running = cloud.dispatch(agent).start();
    running.wait_for_log(" works");
    cloud.api.lose_machines();
    running.wait().assert_code(0);
    assert_eq!(cloud.show("again"), "again\n");
    cloud.api.assert_clean();
}
