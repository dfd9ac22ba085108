//! Stops, waits for the end of a machine, and the clean-up.

use super::super::stop::MIN_WAIT_INTERVAL;
use super::*;

#[tokio::test]
async fn a_running_machine_is_destroyed_only_after_its_grace_period_after_any_answer_to_the_stop() {
    let statuses = [200, 400, 408, 409, 412, 422, 500, 503];
    join_all(statuses.map(|status| async move {
        let api = ScriptedApi::new(&[], move |line, _, _| match line {
            STOP => error(status, "an error"),
            GET => answer(200, &machine("started")),
            WAIT => error(500, "internal"),
            DESTROY => answer(200, &json!({ "ok": true })),
            _ => panic!("{line}"),
        });
        let api = api.await;
        let began = Instant::now();
        let grace = Duration::from_millis(200);
        assert_eq!(api.stop(grace).await, Ok(()), "{status}");
        let margin = api.fly.stop_margin;
        let elapsed = began.elapsed();
        assert!(elapsed >= grace + margin, "{status}");
        assert_eq!(api.count(DESTROY), 1, "{status}");
        // On a slow machine, the stop may end before the first request that waits, or take long enough for several.
        let max = 1 + elapsed.as_millis() / MIN_WAIT_INTERVAL.as_millis();
        let waits = api.count(WAIT) as u128;
        assert!(waits <= max, "{status}: {waits} requests in {elapsed:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_machine_without_a_process_is_destroyed_at_once() {
    for state in ["created", "starting", "stopped"] {
        let api = ScriptedApi::new(&[], move |line, _, _| match line {
            STOP => error(412, "machine is not started"),
            GET => answer(200, &machine(state)),
            DESTROY => answer(200, &json!({ "ok": true })),
            _ => panic!("{line}"),
        });
        let api = api.await;
        assert_eq!(api.stop(Duration::from_secs(600)).await, Ok(()));
        assert_eq!(api.request_lines(), [STOP, GET, DESTROY], "{state}");
    }
}

#[tokio::test]
async fn a_repeated_stop_does_not_begin_a_new_grace_period() {
    let api = ScriptedApi::new(&[], |line, _, earlier| match line {
        DESTROY if earlier > 0 => answer(200, &json!({ "ok": true })),
        GET => answer(200, &machine("started")),
        _ => error(500, "internal"),
    });
    let api = api.await;
    let grace = Duration::from_millis(100);
    let why = api.stop(grace).await.unwrap_err();
    assert!(why.contains("internal"), "{why}");
    // With a new grace period, the stop would take an hour.
    let limit = Duration::from_secs(60);
    let again = tokio::time::timeout(limit, api.stop(Duration::from_secs(3600)));
    assert_eq!(again.await, Ok(Ok(())));
}

#[tokio::test]
async fn the_timeout_in_the_body_of_a_stop_is_at_most_the_one_that_the_api_allows() {
    let api = ScriptedApi::new(&[], |line, _, _| match line {
        STOP | WAIT => answer(200, &json!({ "ok": true })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    assert_eq!(api.stop(Duration::from_secs(305)).await, Ok(()));
    assert_eq!(api.requests.lock().unwrap()[0].1["timeout"], "300s");
}

#[tokio::test]
async fn after_an_early_answer_the_next_wait_begins_after_a_pause() {
    let api = ScriptedApi::new(&[], |line, _, earlier| match (line, earlier) {
        (WAIT, 0) => error(408, "deadline_exceeded"),
        (WAIT, _) => answer(200, &json!({ "ok": true })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    let began = Instant::now();
    assert_eq!(api.fly.wait_for_end(&handle()).await, Ok(()));
    assert!(began.elapsed() >= MIN_WAIT_INTERVAL);
    assert_eq!(api.count(WAIT), 2);
}

#[tokio::test]
async fn one_answer_404_does_not_mean_that_the_machine_has_ended() {
    let api = ScriptedApi::new(&[], |line, _, earlier| match (line, earlier) {
        (WAIT, 0) => error(404, "machine not found"),
        (WAIT, _) => answer(200, &json!({ "ok": true })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    assert_eq!(api.fly.wait_for_end(&handle()).await, Ok(()));
    assert_eq!(api.count(WAIT), 2);
}

#[tokio::test]
async fn the_clean_up_destroys_a_listed_machine_although_an_earlier_answer_was_404() {
    let api = ScriptedApi::new(&[], |line, _, earlier| match line {
        "GET machines" => answer(200, &json!([machine("started")])),
        DESTROY if earlier == 0 => error(404, "machine not found"),
        DESTROY => answer(200, &json!({ "ok": true })),
        "GET secrets" => answer(200, &json!({ "secrets": [] })),
        _ => error(404, "machine not found"),
    });
    let api = api.await;
    assert_eq!(api.stop(Duration::from_secs(600)).await, Ok(()));
    assert_eq!(api.request_lines(), [STOP, DESTROY]);
    let states = api.fly.states_of(&[("d1-a-1".to_owned(), handle())]).await;
    assert_eq!(
        states,
        Ok(vec![("d1-a-1".to_owned(), WorkerState::Running)])
    );
    assert!(!api.fly.is_destroyed("m1"));
    api.fly.note_destroyed("m1");
    let requests = Arc::clone(&api.requests);
    remove_all(&RemoteEngine::Fly(Box::new(api.fly)))
        .await
        .unwrap();
    let requests = requests.lock().unwrap();
    let destroys = requests.iter().filter(|(line, _)| line == DESTROY);
    assert_eq!(destroys.count(), 2);
}

#[tokio::test]
async fn the_clean_up_continues_after_an_error_and_is_tried_again() {
    let list = |ids: &[&str]| {
        let with_id = |id: &&str| {
            let mut machine = machine("started");
            machine["id"] = json!(id);
            machine
        };
        json!(ids.iter().map(with_id).collect::<Vec<_>>())
    };
    join_all([false, true].map(|always_fails| async move {
        let api = ScriptedApi::new(&[], move |line, _, earlier| match line {
            "GET machines" => answer(200, &list(&["m1", "m2"])),
            "DELETE machines/m1" if always_fails || earlier == 0 => error(500, "cannot destroy m1"),
            "GET secrets" => {
                let secret = json!({ "name": "DESCARTES_RUN_D1_KEY" });
                answer(200, &json!({ "secrets": [secret] }))
            }
            "POST secrets" => error(500, "cannot set secrets"),
            GET => answer(200, &machine("started")),
            _ => answer(200, &json!({ "ok": true })),
        });
        let api = api.await;
        let requests = Arc::clone(&api.requests);
        let why = remove_all(&RemoteEngine::Fly(Box::new(api.fly))).await;
        let why = why.unwrap_err();
        let words = if always_fails {
            "cannot destroy m1"
        } else {
            "cannot set secrets"
        };
        assert!(why.contains(words), "{why}");
        let requests = requests.lock().unwrap();
        let count = |line: &str| requests.iter().filter(|(other, _)| other == line).count();
        assert!(count("DELETE machines/m2") >= 1);
        assert_eq!(count("POST secrets"), 4);
    }))
    .await;
}
