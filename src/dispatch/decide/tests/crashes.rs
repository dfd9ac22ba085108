//! Dispatchers, workers and requests fail at random; the dispatch must still end, with each task merged once.

use proptest::prelude::*;

use super::simulation::{World, task_of};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_crashes_at_any_step_a_task_has_one_run_and_each_success_is_merged_once(
        seed in any::<u64>(),
        faulty_steps in 0_usize..150,
    ) {
        let mut world = World::new(seed);
        for _ in 0..faulty_steps {
            world.step();
        }
        world.faults = false;
        for _ in 0..600 {
            world.step();
            world.now += 13;
            let is_idle = world.state.runs.iter().all(|run| !run.is_live());
            let decision = world.decide();
            if decision.is_over && is_idle {
                break;
            }
            if let Some(wake_at) = decision.wake_at.filter(|_| is_idle) {
                world.now = wake_at;
            }
        }
        let decision = world.decide();
        // A task is blocked after its second conflict, and so are the tasks that need it. All others are merged.
        prop_assert!(decision.is_over, "{:?}", decision);
        for (task, standing) in decision.standings.iter().enumerate() {
            let is_merged = world.branch.iter().any(|run| task_of(run) == TASKS[task]);
            let is_done = *standing == Standing::Done;
            let is_blocked = matches!(standing, Standing::Blocked(_));
            prop_assert!(is_done == is_merged && (is_done || is_blocked), "{:?}", standing);
        }
        for run in &world.acknowledged {
            let run = world.state.run(run).unwrap();
            let is_merged = world.branch.contains(&run.id);
            prop_assert!(is_merged || !run.is_completed(), "the success of {} was lost", run.id);
        }
    }
}
