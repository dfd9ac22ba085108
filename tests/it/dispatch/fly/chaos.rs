//! Random kills of dispatchers and machines, and unclear answers of the API.

use std::time::Duration;

use rustix::process::Signal;

use super::Cloud;
use crate::dispatch::crashes::{
    CHAOS_AGENT, KILLS, Random, chaos_graph, pause, print, seed_of_this_run, serial_tree,
};
use crate::dispatch::fly_api::CreateFault;
use crate::dispatch::sample::number_from_environment;

const FAULTS: [CreateFault; 5] = [
    CreateFault::TimesOut { is_created: true },
    CreateFault::TimesOut { is_created: false },
    CreateFault::Closes { is_created: true },
    CreateFault::Fails { is_created: false },
    CreateFault::Garbage,
];

#[test]
fn after_random_kills_and_unclear_answers_the_tree_is_that_of_a_serial_run() {
    let (kills, diamonds) = number_from_environment(KILLS).map_or((3, 1), |kills| (kills, 6));
    let seed = seed_of_this_run();
    print(&format!("dispatch on fly: seed {seed}, {kills} kills"));
    let mut random = Random(seed);
    let nodes = chaos_graph(diamonds);
    let expected = serial_tree(&nodes, CHAOS_AGENT);
    let (mut killed_dispatchers, mut lost_machines) = (0, 0);
    while killed_dispatchers + lost_machines < kills {
        let cloud = Cloud::new(&nodes);
        let dispatch = || {
            let dispatch = cloud.dispatch(CHAOS_AGENT);
            dispatch.args(["--jobs", "3", "--attempts", "100"])
        };
        let mut running = dispatch().start();
        let ended = loop {
            if killed_dispatchers + lost_machines >= kills {
                break running.wait();
            }
            pause(Duration::from_millis(200 + random.below(1500)));
            let number = usize::try_from(random.below(8)).expect("small");
            let fault = FAULTS.get(number).copied();
            cloud
                .api
                .change_oddities(|oddities| oddities.creates.extend(fault));
            let chosen = usize::try_from(random.below(3)).expect("small");
            if random.below(3) == 0 && cloud.api.lose_a_machine(chosen) {
                lost_machines += 1;
                continue;
            }
            running.signal(Signal::KILL);
            let ended = running.wait();
            if ended.signal != Some(9) {
                break ended;
            }
            killed_dispatchers += 1;
            running = dispatch().start();
        };
        assert_eq!(ended.code, Some(0), "seed {seed}: {ended:#?}");
        assert_eq!(
            cloud.git(&["rev-parse", "descartes/house^{tree}"]),
            expected,
            "seed {seed}"
        );
        let ids = cloud.git(&[
            "log",
            "--merges",
            "--format=%(trailers:key=Task-Id,valueonly)",
            "descartes/house",
        ]);
        let mut ids: Vec<&str> = ids.lines().filter(|id| !id.is_empty()).collect();
        ids.sort_unstable();
        let tasks = nodes.lines().filter(|row| row.contains("| P |"));
        let mut tasks: Vec<&str> = tasks
            .map(|row| row.split(" | ").next().expect("an id"))
            .collect();
        tasks.sort_unstable();
        assert_eq!(ids, tasks, "seed {seed}");
        assert_eq!(cloud.api.living_machines(), [""; 0], "seed {seed}");
        assert_eq!(cloud.api.secrets(), [""; 0], "seed {seed}");
    }
    print(&format!(
        "dispatch on fly: killed {killed_dispatchers} dispatchers, {lost_machines} machines"
    ));
}
