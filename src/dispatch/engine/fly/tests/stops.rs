//! Stops, ends and the clean-up.

use super::super::stop::WAIT_PAUSE;
use super::*;

#[tokio::test]
async fn a_machine_that_runs_has_its_grace_period_before_it_is_destroyed_whatever_the_api_answers()
{
    let statuses = [200, 400, 408, 409, 412, 422, 500, 503];
    join_all(statuses.map(|status| async move {
        let api = Scripted::new(&[], move |line, _, _| match line {
            STOP => error(status, "says the API"),
            GET => answer(200, &described("started")),
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
        // On a slow machine, the time may be over before the first request that waits, or leave room for more than one.
        let most = 1 + elapsed.as_millis() / WAIT_PAUSE.as_millis();
        let waits = api.count(WAIT) as u128;
        assert!(waits <= most, "{status}: {waits} requests in {elapsed:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_machine_without_a_process_is_destroyed_at_once() {
    for state in ["created", "starting", "stopped"] {
        let api = Scripted::new(&[], move |line, _, _| match line {
            STOP => error(412, "machine is not started"),
            GET => answer(200, &described(state)),
            DESTROY => answer(200, &json!({ "ok": true })),
            _ => panic!("{line}"),
        });
        let api = api.await;
        assert_eq!(api.stop(Duration::from_secs(600)).await, Ok(()));
        assert_eq!(api.requests(), [STOP, GET, DESTROY], "{state}");
    }
}

#[tokio::test]
async fn a_stop_that_is_repeated_does_not_begin_a_new_grace_period() {
    let api = Scripted::new(&[], |line, _, number| match line {
        DESTROY if number > 0 => answer(200, &json!({ "ok": true })),
        GET => answer(200, &described("started")),
        _ => error(500, "internal"),
    });
    let api = api.await;
    let grace = Duration::from_millis(100);
    let why = api.stop(grace).await.unwrap_err();
    assert!(why.contains("internal"), "{why}");
    // It would wait for an hour.
    let limit = Duration::from_secs(60);
    let again = tokio::time::timeout(limit, api.stop(Duration::from_secs(3600)));
    assert_eq!(again.await, Ok(Ok(())));
}

#[tokio::test]
async fn the_body_of_a_stop_has_no_longer_time_than_the_api_allows() {
    let api = Scripted::new(&[], |line, _, _| match line {
        STOP | WAIT => answer(200, &json!({ "ok": true })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    assert_eq!(api.stop(Duration::from_secs(305)).await, Ok(()));
    assert_eq!(api.requests.lock().unwrap()[0].1["timeout"], "300s");
}

#[tokio::test]
async fn a_wait_that_the_api_answers_too_early_is_not_repeated_at_once() {
    let api = Scripted::new(&[], |line, _, number| match (line, number) {
        (WAIT, 0) => error(408, "deadline_exceeded"),
        (WAIT, _) => answer(200, &json!({ "ok": true })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    let began = Instant::now();
    assert_eq!(api.fly.ended(&handle()).await, Ok(()));
    assert!(began.elapsed() >= WAIT_PAUSE);
    assert_eq!(api.count(WAIT), 2);
}

#[tokio::test]
async fn one_answer_that_the_api_does_not_know_a_machine_is_not_its_end() {
    let api = Scripted::new(&[], |line, _, number| match (line, number) {
        (WAIT, 0) => error(404, "machine not found"),
        (WAIT, _) => answer(200, &json!({ "ok": true })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    assert_eq!(api.fly.ended(&handle()).await, Ok(()));
    assert_eq!(api.count(WAIT), 2);
}

#[tokio::test]
async fn a_machine_that_is_listed_after_the_api_did_not_know_it_is_destroyed() {
    let api = Scripted::new(&[], |line, _, number| match line {
        "GET machines" => answer(200, &json!([described("started")])),
        DESTROY if number == 0 => error(404, "machine not found"),
        DESTROY => answer(200, &json!({ "ok": true })),
        "GET secrets" => answer(200, &json!({ "secrets": [] })),
        _ => error(404, "machine not found"),
    });
    let api = api.await;
    assert_eq!(api.stop(Duration::from_secs(600)).await, Ok(()));
    assert_eq!(api.requests(), [STOP, DESTROY]);
    let looks = api.fly.look(&[("d1-a-1".to_owned(), handle())]).await;
    assert_eq!(looks, Ok(vec![("d1-a-1".to_owned(), Seen::Running)]));
    assert!(!api.fly.is_destroyed("m1"));
    api.fly.note_destroyed("m1");
    let count = Arc::clone(&api.requests);
    remove_all(&Remote::Fly(Box::new(api.fly))).await.unwrap();
    let requests = count.lock().unwrap();
    let destroys = requests.iter().filter(|(line, _)| line == DESTROY);
    assert_eq!(destroys.count(), 2);
}

#[tokio::test]
async fn the_clean_up_goes_on_after_an_error_and_is_tried_again() {
    let list = |ids: &[&str]| {
        let machine = |id: &&str| {
            let mut machine = described("started");
            machine["id"] = json!(id);
            machine
        };
        json!(ids.iter().map(machine).collect::<Vec<_>>())
    };
    join_all([false, true].map(|is_hopeless| async move {
        let api = Scripted::new(&[], move |line, _, number| match line {
            "GET machines" => answer(200, &list(&["m1", "m2"])),
            "DELETE machines/m1" if is_hopeless || number == 0 => error(500, "cannot destroy m1"),
            "GET secrets" => {
                let secret = json!({ "name": "DESCARTES_RUN_D1_KEY" });
                answer(200, &json!({ "secrets": [secret] }))
            }
            "POST secrets" => error(500, "cannot set secrets"),
            GET => answer(200, &described("started")),
            _ => answer(200, &json!({ "ok": true })),
        });
        let api = api.await;
        let requests = Arc::clone(&api.requests);
        let why = remove_all(&Remote::Fly(Box::new(api.fly))).await;
        let why = why.unwrap_err();
        let words = if is_hopeless {
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
