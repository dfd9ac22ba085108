//! Answers of the API that are unclear, late or wrong, or that say that there is no room.

use std::time::Duration;

use rustix::process::Signal;

use super::{Cloud, ONE};
use crate::dispatch::fly_api::{CreateFault, Lists};
use crate::dispatch::sample::{AGENT_THAT_LISTS_FILES, Gate};
use crate::support::{duration_setting, each, wait_until, with_enough_time};

#[test]
fn a_request_for_a_machine_without_a_clear_answer_leads_to_one_machine() {
    let both = |fault: fn(bool) -> CreateFault| [fault(true), fault(false)];
    let cases = [
        both(|is_created| CreateFault::TimesOut { is_created }),
        both(|is_created| CreateFault::Closes { is_created }),
        both(|is_created| CreateFault::Fails { is_created }),
        [CreateFault::Garbage, CreateFault::TooSoon(1)],
    ];
    each(&cases.concat(), |oddity| {
        let cloud = Cloud::new(ONE);
        cloud
            .api
            .change_oddities(|oddities| oddities.creates.push_back(oddity));
        let ended = cloud
            .dispatch(AGENT_THAT_LISTS_FILES)
            .args(["--attempts", "1"])
            .run();
        assert_eq!(ended.code, Some(0), "{oddity:?} {ended:#?}");
        assert_eq!(cloud.api.count_created(), 1, "{oddity:?}");
        let is_created = matches!(
            oddity,
            CreateFault::TimesOut { is_created: true }
                | CreateFault::Closes { is_created: true }
                | CreateFault::Fails { is_created: true }
                | CreateFault::Garbage
        );
        // A machine that was made is found without another request for it.
        let requests = cloud.api.exchanges("create").len();
        assert_eq!(requests, if is_created { 1 } else { 2 }, "{oddity:?}");
        cloud.api.assert_clean();
    });
}

#[test]
fn a_machine_that_is_in_no_list_is_found_because_its_name_is_taken() {
    // The dispatcher asks for the first list when it starts, and repeats that request.
    each(
        &[(false, 3), (true, 4), (false, 4)],
        |(is_clash_422, empty_lists)| {
            let cloud = Cloud::new(ONE);
            let gate = Gate::new();
            cloud.api.change_oddities(|oddities| {
                oddities
                    .creates
                    .push_back(CreateFault::TimesOut { is_created: true });
                oddities.empty_lists = empty_lists;
                oddities.is_clash_422 = is_clash_422;
            });
            let running = cloud
                .dispatch_with_gate(&gate, AGENT_THAT_LISTS_FILES)
                .args(["--attempts", "1"])
                .start();
            wait_until("the handle", || cloud.graph.entries("handle").len() == 1);
            gate.open();
            running.wait().assert_code(0);
            assert_eq!(cloud.api.count_created(), 1);
            cloud.api.assert_clean();
        },
    );
}

#[test]
fn a_full_region_is_followed_by_the_next_one_and_costs_no_attempt() {
    let cases = [
        (
            422,
            r#"{"error":"no room","status":"insufficient_capacity"}"#,
        ),
        (409, r#"{"error":"aborted: no capacity"}"#),
        (
            409,
            r#"{"error":"aborted: insufficient resources available to fulfill request"}"#,
        ),
        (
            412,
            r#"{"error":"insufficient resources to create new machine"}"#,
        ),
        (503, "<html>Service Unavailable</html>"),
        (403, r#"{"error":"over the allowed quota"}"#),
    ];
    each(&cases, |answer| {
        let cloud = Cloud::new(ONE);
        cloud.api.change_oddities(|oddities| {
            oddities.full_regions.insert("fra".to_owned(), answer);
        });
        let ended = cloud
            .dispatch(AGENT_THAT_LISTS_FILES)
            .args(["--attempts", "1"])
            .env("DESCARTES_DISPATCH_FLY_REGION", "fra,ams")
            .run();
        assert_eq!(ended.code, Some(0), "{answer:?} {ended:#?}");
        assert_eq!(cloud.create_bodies()[0]["region"], "ams");
        cloud.api.assert_clean();
    });
}

#[test]
fn when_all_regions_are_full_the_same_attempt_starts_as_soon_as_there_is_room() {
    // The worker must claim its task within the start deadline. Waiting for room is not part of it.
    with_enough_time(Duration::from_secs(1), |limit| {
        let cloud = Cloud::new(ONE);
        let full = (
            422,
            r#"{"error":"no room in fra","status":"insufficient_capacity"}"#,
        );
        cloud.api.change_oddities(|oddities| {
            oddities.full_regions.insert("fra".to_owned(), full);
        });
        let running = cloud
            .dispatch(AGENT_THAT_LISTS_FILES)
            .args(["--attempts", "1"])
            .env("DESCARTES_DISPATCH_FLY_REGION", "fra")
            .env("DESCARTES_DISPATCH_START_DEADLINE", duration_setting(limit))
            .start();
        running.wait_for_log("the start is tried again: the Machines API");
        wait_until("several requests", || {
            cloud.api.exchanges("create").len() >= 2
        });
        cloud
            .api
            .change_oddities(|oddities| oddities.full_regions.clear());
        let ended = running.wait();
        if ended.code != Some(0) && ended.stderr.contains("within the start deadline") {
            return Err("the claim did not come".to_owned());
        }
        ended.assert_code(0);
        assert_eq!(cloud.graph.entries("intent").len(), 1);
        cloud.api.assert_clean();
        Ok(())
    });
}

#[test]
fn a_stopped_dispatcher_does_not_wait_for_a_run_that_waits_for_room() {
    let cloud = Cloud::new(ONE);
    cloud.api.change_oddities(|oddities| {
        let full = (409, r#"{"error":"aborted: no capacity"}"#);
        oddities.full_regions.insert(String::new(), full);
    });
    let running = cloud.dispatch(AGENT_THAT_LISTS_FILES).start();
    running.wait_for_log("the start is tried again");
    running.signal(Signal::INT);
    running.wait().assert_code(3);
    cloud.api.assert_clean();
    // A run that has not begun does not count as an attempt.
    cloud
        .api
        .change_oddities(|oddities| oddities.full_regions.clear());
    let again = cloud.dispatch("cp \"$DESCARTES_PROMPT_FILE\" done");
    again.args(["--attempts", "1"]).run().assert_code(0);
    let prompt = cloud.show("done");
    assert!(!prompt.contains("earlier attempt"), "{prompt}");
}

#[test]
fn an_api_that_does_not_answer_as_it_should_is_reported_before_anything_starts() {
    let cases = [
        (
            (401, r#"{"error":"token validation error"}"#),
            "fly tokens create deploy",
        ),
        (
            (404, r#"{"error":"App not found"}"#),
            "fly apps create workers",
        ),
        (
            (200, "<html>Welcome</html>"),
            "is FLY_FLAPS_BASE_URL the address",
        ),
        ((502, "<html>Bad Gateway</html>"), "Bad Gateway"),
    ];
    each(&cases, |(answer, words)| {
        let cloud = Cloud::new(ONE);
        cloud
            .api
            .change_oddities(|oddities| oddities.answer = Some(answer));
        let ended = cloud.dispatch(AGENT_THAT_LISTS_FILES).run();
        ended.assert_code(2);
        assert!(ended.stderr.contains(words), "{ended:#?}");
        assert_eq!(cloud.graph.entries("intent").len(), 0);
    });
}

#[test]
fn after_a_refusal_of_the_api_no_run_starts_and_running_work_is_merged() {
    let cloud = Cloud::new("1 | First | P | 1 | H\n2 | Second | P | 1 | H\n\n@edges\n2 -> 1\n");
    let gate = Gate::new();
    let running = cloud
        .dispatch_with_gate(&gate, AGENT_THAT_LISTS_FILES)
        .start();
    gate.wait_for_an_agent();
    cloud
        .api
        .change_oddities(|oddities| oddities.answer = Some((403, r#"{"error":"unauthorized"}"#)));
    gate.open();
    running.wait_for_log("not started: the Machines API");
    cloud.api.change_oddities(|oddities| oddities.answer = None);
    let ended = running.wait();
    ended.assert_code(1);
    assert!(
        ended.stderr.contains("nothing new was started: "),
        "{ended:#?}"
    );
    assert_eq!(cloud.show("done-1"), "\n");
    assert_eq!(cloud.api.count_created(), 1);
    cloud.api.assert_clean();
}

#[test]
fn a_run_is_not_lost_while_the_api_does_not_answer() {
    let cloud = Cloud::new(ONE);
    let gate = Gate::new();
    let running = cloud.dispatch_with_gate(&gate, "echo done > done").start();
    gate.wait_for_an_agent();
    cloud
        .api
        .change_oddities(|oddities| oddities.is_away = true);
    running.wait_for_log("is unknown until it answers");
    cloud
        .api
        .change_oddities(|oddities| oddities.is_away = false);
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(cloud.graph.entries("intent").len(), 1);
    cloud.api.assert_clean();
}

#[test]
fn a_machine_that_the_api_does_not_know_is_gone_only_if_it_says_so_twice() {
    // After one answer without the machine, the run continues.
    let cloud = Cloud::new(ONE);
    let gate = Gate::new();
    let running = cloud.dispatch_with_gate(&gate, "echo done > done").start();
    gate.wait_for_an_agent();
    cloud
        .api
        .change_oddities(|oddities| (oddities.empty_lists, oddities.false_404s) = (1, 1));
    wait_until("the wrong answers", || cloud.api.false_answers_left() == 0);
    let lists = cloud.api.exchanges("list").len();
    wait_until("further lists", || {
        cloud.api.exchanges("list").len() > lists + 1
    });
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(cloud.graph.entries("intent").len(), 1);
    cloud.api.assert_clean();
    // After two answers without the machine, there is another attempt.
    let cloud = Cloud::new(ONE);
    let agent = "case $(cat \"$DESCARTES_PROMPT_FILE\") in *'was lost'*) echo again > again;; *) sleep 1000;; esac";
    let running = cloud.dispatch(agent).start();
    running.wait_for_log(" works");
    cloud
        .api
        .change_oddities(|oddities| (oddities.empty_lists, oddities.false_404s) = (2, 2));
    running.wait().assert_code(0);
    assert_eq!(cloud.show("again"), "again\n");
    cloud.api.assert_clean();
}

#[test]
fn a_run_is_not_lost_because_of_a_server_error_of_the_api() {
    let cloud = Cloud::new(ONE);
    let gate = Gate::new();
    let running = cloud.dispatch_with_gate(&gate, "echo done > done").start();
    gate.wait_for_an_agent();
    let broken = (500, r#"{"error":"internal: server error"}"#);
    cloud
        .api
        .change_oddities(|oddities| oddities.answer = Some(broken));
    let words = running.wait_for_log("is unknown until it answers");
    assert!(words.contains("internal: server error (500)"), "{words}");
    cloud.api.change_oddities(|oddities| oddities.answer = None);
    running.wait_for_log("the engine fly answers again");
    gate.open();
    running.wait().assert_code(0);
    assert_eq!(cloud.graph.entries("intent").len(), 1);
    cloud.api.assert_clean();
}

#[test]
fn a_start_after_an_outage_of_the_engine_logs_that_it_answers_again() {
    let cloud = Cloud::new("1 | Only | P | 1 | H\n2 | After | P | 1 | H\n\n@edges\n2 -> 1\n");
    let gate = Gate::new();
    let running = cloud
        .dispatch_with_gate(&gate, AGENT_THAT_LISTS_FILES)
        .start();
    gate.wait_for_an_agent();
    cloud
        .api
        .change_oddities(|oddities| oddities.lists = Lists::Broken);
    running.wait_for_log("is unknown until it answers");
    // No list succeeds any more: the worker of the first task reports without the API, and the API's next successful answer is the
    // one to the start of the second task.
    gate.open();
    running.wait_for_log("the engine fly answers again");
    cloud
        .api
        .change_oddities(|oddities| oddities.lists = Lists::Work);
    running.wait().assert_code(0);
    cloud.api.assert_clean();
}

#[test]
fn a_start_without_an_answer_is_not_tried_again_after_the_dispatch_is_over() {
    let cloud = Cloud::new(ONE);
    // The worker runs, but every attempt to find its machine fails until its work is merged.
    cloud.api.change_oddities(|oddities| {
        oddities
            .creates
            .push_back(CreateFault::TimesOut { is_created: true });
        oddities.lists = Lists::BreakSoon;
        // The end takes longer than the pauses between the attempts.
        oddities.secrets_pause = Duration::from_secs(5);
    });
    let running = cloud.dispatch(AGENT_THAT_LISTS_FILES).start();
    running.wait_for_log("merged: ");
    cloud
        .api
        .change_oddities(|oddities| oddities.lists = Lists::Work);
    running.wait().assert_code(0);
    assert_eq!(cloud.api.exchanges("create").len(), 1);
    cloud.api.assert_clean();
}

#[test]
fn a_start_without_an_answer_is_not_tried_again_after_its_run_was_cancelled() {
    let cloud = Cloud::new(ONE);
    // There is no machine, and every attempt to find it fails.
    cloud.api.change_oddities(|oddities| {
        oddities
            .creates
            .push_back(CreateFault::TimesOut { is_created: false });
        oddities.lists = Lists::BreakSoon;
    });
    let running = cloud.dispatch(AGENT_THAT_LISTS_FILES).start();
    running.wait_for_log("the start is tried again");
    cloud.graph.command(&["cancel"]).run().assert_code(0);
    let lists = || cloud.api.exchanges("list").len();
    let before = lists();
    wait_until("the end of the start, or further attempts", || {
        !cloud.graph.entries("not_started").is_empty() || lists() > before + 3
    });
    cloud
        .api
        .change_oddities(|oddities| oddities.lists = Lists::Work);
    running.wait().assert_code(3);
    assert_eq!(cloud.api.count_created(), 0);
    assert_eq!(cloud.api.exchanges("create").len(), 1);
    cloud.api.assert_clean();
}
