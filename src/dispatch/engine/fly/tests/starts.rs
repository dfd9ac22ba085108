//! Starts: regions without capacity, rate limits, and machines that exist already.

use super::*;

#[tokio::test]
async fn two_starts_at_the_same_time_both_try_the_next_region_if_the_first_has_no_capacity() {
    let barrier = Arc::new(Barrier::new(2));
    let api = ScriptedApi::new(&["fra", "ams"], move |line, body, earlier| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        "POST machines" if body["region"] == "fra" => Answer {
            // Both starts have requested a machine in the first region before one of them gets an answer.
            barrier: Some(Arc::clone(&barrier)),
            ..error(409, NO_CAPACITY)
        },
        "POST machines" => answer(200, &json!({ "id": format!("m{earlier}") })),
        _ => panic!("{line}"),
    });
    let api = api.await;
    let spec = spec();
    let (first, second) = tokio::join!(
        api.fly.start("d1-a-1", &spec),
        api.fly.start("d1-b-1", &spec)
    );
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    // The next start begins with the region that had capacity.
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
async fn starts_without_capacity_at_the_same_time_begin_only_one_pause() {
    // The clock must stand still: on a slow machine, the last answer could come after the end of the first pause. A
    // paused clock advances while the runtime only waits for sockets, but not while a blocking task runs.
    let (_ends_task_when_dropped, end_of_test) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || end_of_test.recv());
    let barrier = Arc::new(Barrier::new(3));
    let api = ScriptedApi::new(&["fra"], move |line, _, _| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        _ => Answer {
            barrier: Some(Arc::clone(&barrier)),
            ..error(409, NO_CAPACITY)
        },
    });
    let api = api.await;
    let spec = spec();
    let start = |run| api.fly.start(run, &spec);
    let _ = tokio::join!(start("d1-a-1"), start("d1-b-1"), start("d1-c-1"));
    let pause = api.fly.capacity_pause.get().unwrap();
    assert_eq!(pause.length, Duration::from_secs(1));
}

#[tokio::test]
async fn a_rate_limited_start_does_not_try_other_regions() {
    let api = ScriptedApi::new(&["fra", "ams"], |line, _, _| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        _ => error(429, "rate limit exceeded"),
    });
    let mut api = api.await;
    api.fly.client.max_retries = 0;
    let started = api.fly.start("d1-a-1", &spec()).await;
    assert!(
        matches!(started, Err(StartFailure::NoCapacity(_))),
        "{started:?}"
    );
    let requests = api.requests.lock().unwrap();
    let mut regions = requests.iter().filter(|(line, _)| line == "POST machines");
    assert!(regions.all(|(_, body)| body["region"] == "fra"));
    assert_eq!(api.fly.capacity_pause.get(), None);
}

#[tokio::test]
async fn a_repeated_start_does_not_store_the_same_secrets_again() {
    let api = ScriptedApi::new(&[], |line, _, earlier| match line {
        "POST secrets" => answer(200, &json!({ "version": 1 })),
        _ if earlier == 0 => error(409, NO_CAPACITY),
        _ => answer(200, &json!({ "id": "m1" })),
    });
    let api = api.await;
    let started = api.fly.start("d1-a-1", &spec()).await;
    assert!(
        matches!(started, Err(StartFailure::NoCapacity(_))),
        "{started:?}"
    );
    api.fly.capacity_pause.set(None);
    assert_eq!(api.fly.start("d1-a-1", &spec()).await, Ok(handle()));
    assert_eq!(api.count("POST secrets"), 1);
    let body = &api.requests.lock().unwrap()[2].1;
    let secrets = body["config"]["processes"][0]["secrets"].as_array();
    assert_eq!(secrets.unwrap().len(), 2, "{body}");
}

#[tokio::test]
async fn a_machine_whose_request_had_no_clear_answer_is_found_during_a_capacity_pause() {
    let api = ScriptedApi::new(&[], |line, _, earlier| match (line, earlier) {
        ("POST secrets", _) => answer(200, &json!({ "version": 1 })),
        ("POST machines", 0) => error(503, "unavailable"),
        ("GET machines", _) => answer(200, &json!([machine("started")])),
        _ => panic!("{line}"),
    });
    let api = api.await;
    let started = api.fly.start("d1-a-1", &spec()).await;
    assert!(
        matches!(started, Err(StartFailure::NoCapacity(_))),
        "{started:?}"
    );
    assert!(api.fly.capacity_pause.get().is_some());
    assert_eq!(api.fly.start("d1-a-1", &spec()).await, Ok(handle()));
}

#[tokio::test]
async fn after_a_name_conflict_without_an_id_the_machine_is_searched_in_the_list() {
    for status in [409, 422] {
        let api = ScriptedApi::new(&[], move |line, _, earlier| match (line, earlier) {
            ("POST secrets", _) => answer(200, &json!({ "version": 1 })),
            ("POST machines", 0) => error(status, "already_exists: the name is taken"),
            ("GET machines", _) => answer(200, &json!([machine("started")])),
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
async fn an_existing_machine_is_preferred_to_a_destroyed_one_of_the_same_run() {
    let with_event = |id: &str, state: &str, event: &str| {
        let mut machine = machine(state);
        machine["id"] = json!(id);
        machine["events"] = json!([{ "type": event, "timestamp": 1 }]);
        machine
    };
    let never_started = with_event("m9", "destroyed", "launch");
    let destroyed = with_event("m8", "destroyed", "exit");
    let existing = with_event("m1", "started", "start");
    let lists = [
        (json!([never_started, destroyed, existing]), Some("m1"), 2),
        (json!([never_started, destroyed]), Some("m8"), 1),
        (json!([never_started]), None, 0),
    ];
    for (list, expected, count) in lists {
        let api = ScriptedApi::new(&[], move |line, _, _| match line {
            "GET machines" => answer(200, &list),
            _ => panic!("{line}"),
        });
        let api = api.await;
        let found = api.fly.find_runs().await.unwrap();
        assert_eq!(found.len(), count);
        let expected = expected.map(|id| Handle::Fly {
            machine: id.to_owned(),
        });
        assert_eq!(found.into_iter().next().map(|found| found.handle), expected);
        assert_eq!(api.fly.find_machine("d1-a-1").await, Ok(expected));
    }
}
