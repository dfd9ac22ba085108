//! Tests a simulated dispatch in which the dispatcher, workers and requests fail at random. The dispatch must still
//! end, and each task must be merged at most once.

use proptest::prelude::*;

use super::simulation::{Simulation, task_of};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_crashes_at_any_step_one_run_works_on_a_task_and_each_success_is_merged_once(
        seed in any::<u64>(),
        faulty_steps in 0_usize..150,
    ) {
        let mut simulation = Simulation::new(seed);
        for _ in 0..faulty_steps {
            simulation.step();
        }
        simulation.has_faults = false;
        for _ in 0..600 {
            simulation.step();
            simulation.now += 13;
            let is_idle = simulation.state.runs.iter().all(|run| !run.is_live());
            let decision = simulation.decide();
            if decision.is_over && is_idle {
                break;
            }
            if let Some(wake_at) = decision.wake_at.filter(|_| is_idle) {
                simulation.now = wake_at;
            }
        }
        let decision = simulation.decide();
        // A task is blocked after its second conflict, and so are the tasks that need it. All others are merged.
        prop_assert!(decision.is_over, "{:?}", decision);
        for (task, standing) in decision.standings.iter().enumerate() {
            let is_merged = simulation.branch.iter().any(|run| task_of(run) == TASKS[task]);
            let is_done = *standing == Standing::Done;
            let is_blocked = matches!(standing, Standing::Blocked(_));
            prop_assert!(is_done == is_merged && (is_done || is_blocked), "{:?}", standing);
        }
        for run in &simulation.acknowledged {
            let run = simulation.state.run(run).unwrap();
            let is_merged = simulation.branch.contains(&run.id);
            prop_assert!(is_merged || !run.is_completed(), "the success of {} was lost", run.id);
        }
    }
}
