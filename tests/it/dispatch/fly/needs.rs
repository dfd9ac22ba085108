//! The table `needs` in `.descartes.toml`: memory, processors, image and engine of tasks.

use super::*;

fn cloud_with_needs(nodes: &str, needs: &str) -> Cloud {
    let cloud = Cloud::new(nodes);
    cloud.graph.write(".descartes.toml", needs);
    cloud.graph.commit("Needs");
    let remote = cloud.remote.to_str().expect("UTF-8");
    cloud.graph.git(&["push", "--quiet", remote, "main"]);
    cloud
}

#[test]
fn tasks_get_the_memory_the_processors_and_the_image_that_they_need() {
    let needs = r#"
        [[needs]]
        complexity = 8
        memory = "4GiB"
        cpus = 2

        [[needs]]
        tasks = ["house:3"]
        image = "registry.fly.io/tools:2"
        engine = "docker"
    "#;
    let nodes = "1 | Small | P | 1 | H\n2 | Large | P | 8 | H\n3 | Odd | P | 13 | H\n";
    let cloud = cloud_with_needs(nodes, needs);
    let ended = cloud
        .dispatch(AGENT_THAT_LISTS_FILES)
        .env(
            "DESCARTES_DISPATCH_IMAGE",
            format!("workers@sha256:{}", "1".repeat(64)),
        )
        .run();
    ended.assert_code(0);
    let words = "1 of the tasks should run on the engine docker, as .descartes.toml says";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    let bodies = cloud.create_bodies();
    let machine_of = |task: &str| {
        let is_for_task = |body: &&Value| body["config"]["metadata"]["descartes_task"] == task;
        let config = &bodies.iter().find(is_for_task).expect("a machine")["config"];
        let guest = &config["guest"];
        let image = config["image"]
            .as_str()
            .expect("an image")
            .split('@')
            .next();
        let number = |name: &str| guest[name].as_u64().expect("a number");
        (
            number("memory_mb"),
            number("cpus"),
            image.expect("a name").to_owned(),
        )
    };
    assert_eq!(machine_of("house:1"), (1024, 1, "workers".to_owned()));
    assert_eq!(machine_of("house:2"), (4096, 2, "workers".to_owned()));
    assert_eq!(
        machine_of("house:3"),
        (4096, 2, "registry.fly.io/tools:2".to_owned())
    );
    cloud.api.assert_clean();
}

#[test]
fn tasks_that_need_an_engine_wait_for_room_there_and_ctrl_c_ends_the_wait() {
    let nodes = "1 | Left | P | 1 | H\n2 | Right | P | 1 | H\n";
    each(&[false, true], |is_stopped| {
        let cloud = cloud_with_needs(nodes, "[[needs]]\nengine = \"fly\"\n");
        let gate = Gate::new();
        let dispatch = cloud
            .graph
            .dispatch_with_gate(&gate, "touch done-${TASK_ID##*:}");
        let running = cloud
            .on_engine(dispatch, "local=1")
            .args(["--engine", "fly=1"])
            .start();
        gate.wait_for_an_agent();
        wait_until("both intents", || cloud.graph.entries("intent").len() == 2);
        assert_eq!(cloud.api.count_created(), 1);
        if is_stopped {
            running.signal(Signal::INT);
            running.wait_for_log("given up while it waited for room");
        }
        gate.open();
        running.wait().assert_code(if is_stopped { 3 } else { 0 });
        assert_eq!(cloud.api.count_created(), if is_stopped { 1 } else { 2 });
        cloud.api.assert_clean();
    });
}

#[test]
fn a_task_does_not_wait_for_an_engine_on_which_nothing_new_may_start() {
    let cloud = cloud_with_needs(ONE, "[[needs]]\nengine = \"fly\"\n");
    let ended = cloud
        .on_engine(cloud.graph.dispatch(AGENT_THAT_LISTS_FILES), "local=1")
        .args(["--engine", "fly=0"])
        .run();
    ended.assert_code(0);
    let words = "1 of the tasks should run on the engine fly";
    assert!(ended.stderr.contains(words), "{ended:#?}");
    assert_eq!(cloud.api.count_created(), 0);
}

#[test]
fn a_mistake_in_the_needs_is_reported_before_anything_starts() {
    let cloud = cloud_with_needs(ONE, "[[needs]]\nmemory = \"much\"\n");
    for is_plan in [false, true] {
        let mut dispatch = cloud.dispatch(AGENT_THAT_LISTS_FILES);
        if is_plan {
            dispatch = dispatch.arg("--plan");
        }
        let ended = dispatch.run();
        assert_ne!(ended.code, Some(0));
        let words = "in table 1 of [[needs]], memory = \"much\" is not an amount of memory";
        assert!(ended.stderr.contains(words), "{ended:#?}");
    }
    assert_eq!(cloud.api.count_created(), 0);
}
