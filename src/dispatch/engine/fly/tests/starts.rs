//! Full regions, rates, and machines that are found again.

use super::*;

#[tokio::test]
async fn two_starts_at_the_same_time_both_try_the_region_after_the_full_one() {
    let barrier = Arc::new(Barrier::new(2));
    let api = Scripted::new(&["fra", "ams"], move |line, body, number| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        "POST machines" if body["region"] == "fra" => Answer {
            // Both have asked for the first region before one of them has an answer.
            barrier: Some(Arc::clone(&barrier)),
            ..error(409, NO_ROOM)
        },
        "POST machines" => answer(200, &json!({ "id": format!("m{number}") })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    let spec = spec();
    let (one, two) = tokio::join!(
        api.fly.start("d1-a-1", &spec),
        api.fly.start("d1-b-1", &spec)
    );
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    // The next one begins where there was room.
    let third = api.fly.start("d1-c-1", &spec).await;
    assert!(third.is_ok(), "{third:?}");
    let requests = api.requests.lock().unwrap();
    let regions = requests.iter().filter(|(line, _)| line == "POST machines");
    let regions: Vec<&str> = regions
        .filter_map(|(_, body)| body["region"].as_str())
        .collect();
    assert_eq!(regions, ["fra", "fra", "ams", "ams", "ams"]);
}

#[tokio::test(start_paused = true)]
async fn starts_that_find_no_room_at_the_same_time_make_one_pause() {
    // The clock stands still, because a slow machine may handle the last answer after a pause of real time. A paused
    // clock would advance while the runtime waits for the sockets, except while a blocking task runs.
    let (_ends_at_drop, is_over) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || is_over.recv());
    let barrier = Arc::new(Barrier::new(3));
    let api = Scripted::new(&["fra"], move |line, _, _| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        _ => Answer {
            barrier: Some(Arc::clone(&barrier)),
            ..error(409, NO_ROOM)
        },
    });
    let api = api.await;
    let spec = spec();
    let start = |run| api.fly.start(run, &spec);
    let _ = tokio::join!(start("d1-a-1"), start("d1-b-1"), start("d1-c-1"));
    let (_, pause) = api.fly.full.get().unwrap();
    assert_eq!(pause, Duration::from_secs(1));
}

#[tokio::test]
async fn a_start_that_comes_too_soon_does_not_try_other_regions() {
    let api = Scripted::new(&["fra", "ams"], |line, _, _| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        _ => error(429, "rate limit exceeded"),
    });
    let mut api = api.await;
    api.fly.client.max_repeats = 0;
    let started = api.fly.start("d1-a-1", &spec()).await;
    assert!(matches!(started, Err(StartFailure::Full(_))), "{started:?}");
    let requests = api.requests.lock().unwrap();
    let mut regions = requests.iter().filter(|(line, _)| line == "POST machines");
    assert!(regions.all(|(_, body)| body["region"] == "fra"));
    assert_eq!(api.fly.full.get(), None);
}

#[tokio::test]
async fn a_run_that_waits_for_room_does_not_store_its_secrets_again() {
    let api = Scripted::new(&[], |line, _, number| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        _ if number == 0 => error(409, NO_ROOM),
        _ => answer(200, &json!({ "id": "m1" })),
    });
    let api = api.await;
    let started = api.fly.start("d1-a-1", &spec()).await;
    assert!(matches!(started, Err(StartFailure::Full(_))), "{started:?}");
    api.fly.full.set(None);
    assert_eq!(api.fly.start("d1-a-1", &spec()).await, Ok(handle()));
    assert_eq!(api.count("POST secrets"), 1);
    let body = &api.requests.lock().unwrap()[2].1;
    let secrets = body["config"]["processes"][0]["secrets"].as_array();
    assert_eq!(secrets.unwrap().len(), 2, "{body}");
}

#[tokio::test]
async fn a_machine_whose_request_had_no_clear_answer_is_found_although_no_region_has_room() {
    let api = Scripted::new(&[], |line, _, number| match (line, number) {
        ("POST secrets", _) => answer(200, &json!({ "version": 1 })),
        ("POST machines", 0) => error(503, "unavailable"),
        ("GET machines", _) => answer(200, &json!([described("started")])),
        _ => panic!("{line}"),
    });
    let api = api.await;
    let started = api.fly.start("d1-a-1", &spec()).await;
    assert!(matches!(started, Err(StartFailure::Full(_))), "{started:?}");
    assert!(api.fly.full.get().is_some());
    assert_eq!(api.fly.start("d1-a-1", &spec()).await, Ok(handle()));
}

#[tokio::test]
async fn a_taken_name_without_the_machine_is_searched_for_in_the_list() {
    for status in [409, 422] {
        let api = Scripted::new(&[], move |line, _, number| match (line, number) {
            ("POST secrets", _) => answer(200, &json!({ "version": 1 })),
            ("POST machines", 0) => error(status, "already_exists: the name is taken"),
            ("GET machines", _) => answer(200, &json!([described("started")])),
            _ => panic!("{line}"),
        });
        let api = api.await;
        let started = api.fly.start("d1-a-1", &spec()).await;
        let is_unknown = matches!(started, Err(StartFailure::Unknown(_)));
        assert!(is_unknown, "{status}: {started:?}");
        assert_eq!(api.fly.start("d1-a-1", &spec()).await, Ok(handle()));
    }
}

#[tokio::test]
async fn a_machine_that_exists_is_preferred_to_a_destroyed_one_of_the_same_run() {
    let machine = |id: &str, state: &str, event: &str| {
        let mut machine = described(state);
        machine["id"] = json!(id);
        machine["events"] = json!([{ "type": event, "timestamp": 1 }]);
        machine
    };
    let never_started = machine("m9", "destroyed", "launch");
    let destroyed = machine("m8", "destroyed", "exit");
    let living = machine("m1", "started", "start");
    let lists = [
        (json!([never_started, destroyed, living]), Some("m1"), 2),
        (json!([never_started, destroyed]), Some("m8"), 1),
        (json!([never_started]), None, 0),
    ];
    for (list, expected, count) in lists {
        let api = Scripted::new(&[], move |line, _, _| match line {
            "GET machines" => answer(200, &list),
            _ => panic!("{line}"),
        });
        let api = api.await;
        let found = api.fly.sweep().await.unwrap();
        assert_eq!(found.len(), count);
        let expected = expected.map(|id| Handle::Fly {
            machine: id.to_owned(),
        });
        assert_eq!(found.into_iter().next().map(|found| found.handle), expected);
        assert_eq!(api.fly.find("d1-a-1").await, Ok(expected));
    }
}
