//! The engine `command` with shell scripts as its three command lines.

use super::*;
use crate::dispatch::engine::TaskNeeds;
use crate::environment::variable;

/// The time limit of commands that must not be killed.
const LIMIT: Duration = Duration::from_secs(30);

/// An engine with these command lines, and the directory of its runs.
fn engine(
    start: &str,
    look: &str,
    stop: &str,
    limit: Duration,
) -> (CommandLines, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let settings = CommandSettings {
        start: start.to_owned(),
        look: look.to_owned(),
        stop: stop.to_owned(),
        image: Some("worker:1".to_owned()),
        nano_cpus: Some(1_500_000_000),
    };
    let engine = CommandLines::new(settings, "d1".to_owned(), dir.path().to_owned(), limit);
    (engine, dir)
}

fn spec() -> RunSpec {
    RunSpec {
        variables: vec![
            variable("TASK_ID", "p:8"),
            variable("DESCARTES_CALLBACK_SECRET", "whsec_secret"),
        ],
        removed_variables: vec!["HOME"],
        inherited_variables: Vec::new(),
        memory: None,
        needs: TaskNeeds::default(),
    }
}

fn handle(id: &str) -> Handle {
    Handle::Command { id: id.to_owned() }
}

#[tokio::test]
async fn start_has_the_variables_in_its_environment_and_prints_the_handle_on_its_last_line() {
    let start = r#"printf '%s\n' "$RUN_NAME" "$RUN_IMAGE" "$RUN_VARIABLES" "$TASK_ID" "${HOME-no home}" > "$RUN_OUTPUT"
        case "$(tr '\0' ' ' < /proc/$$/cmdline)" in *"$DESCARTES_CALLBACK_SECRET"*) exit 1;; esac
        echo 'starting…'; echo job-7; echo"#;
    let (engine, dir) = engine(start, "echo gone", "true", LIMIT);
    assert_eq!(engine.start("d1-8-1", &spec()).await, Ok(handle("job-7")));
    let output = fs::read_to_string(dir.path().join("d1-8-1/stdout")).unwrap();
    assert_eq!(
        output,
        "d1-8-1\nworker:1\nTASK_ID DESCARTES_CALLBACK_SECRET DESCARTES_RUN_ID\np:8\nno home\n"
    );
}

#[tokio::test]
async fn start_gets_the_needs_of_the_task_and_the_settings_for_other_needs() {
    let start = r#"echo "$RUN_IMAGE ${RUN_MEMORY-none} $RUN_CPUS" > "$RUN_OUTPUT"; echo job-7"#;
    let (engine, dir) = engine(start, "echo gone", "true", LIMIT);
    engine.start("d1-8-1", &spec()).await.unwrap();
    let spec_with_needs = RunSpec {
        memory: Some(4 << 30),
        needs: TaskNeeds {
            nano_cpus: Some(12_000_000_000),
            image: Some("tools:2".to_owned()),
            ..TaskNeeds::default()
        },
        ..spec()
    };
    engine.start("d1-9-1", &spec_with_needs).await.unwrap();
    let output = |run: &str| fs::read_to_string(dir.path().join(run).join("stdout")).unwrap();
    assert_eq!(output("d1-8-1"), "worker:1 none 1.5\n");
    assert_eq!(output("d1-9-1"), "tools:2 4294967296 12\n");
}

#[tokio::test]
async fn a_started_run_is_found_until_it_is_removed() {
    let stop = r#"echo "$RUN_HANDLE $RUN_GRACE_SECONDS" >> "$RUN_LOG""#;
    let (engine, dir) = engine("echo job-7", "echo running", stop, LIMIT);
    engine.start("d1-8-1", &spec()).await.unwrap();
    let found = FoundRun {
        run: "d1-8-1".to_owned(),
        handle: handle("job-7"),
        is_started: true,
    };
    assert_eq!(engine.find_runs(), [found]);
    engine
        .stop(&handle("job-7"), Duration::from_secs(9))
        .await
        .unwrap();
    engine.remove("d1-8-1", &handle("job-7")).await.unwrap();
    let log = fs::read_to_string(dir.path().join("d1-8-1/log")).unwrap();
    assert_eq!(log, "job-7 9\njob-7 0\n");
    assert!(engine.find_runs().is_empty());
    // A second removal has nothing to do.
    engine.remove("d1-8-1", &handle("job-7")).await.unwrap();
}

#[tokio::test]
async fn the_exit_status_of_start_decides_which_failure_it_is() {
    for (start, expected) in [
        (
            "echo no quota >&2; exit 75",
            StartFailure::Unknown("the command start ended with exit code 75: no quota".to_owned()),
        ),
        (
            "echo no such image >&2; exit 78",
            StartFailure::Refused(
                "the command start ended with exit code 78: no such image".to_owned(),
            ),
        ),
        (
            "echo broken; exit 3",
            StartFailure::Failed("the command start ended with exit code 3: broken".to_owned()),
        ),
        (
            "kill -9 $$",
            StartFailure::Unknown("the command start ended with signal 9".to_owned()),
        ),
        (
            "true",
            StartFailure::Unknown(
                "the command start has printed no line by which the run is found again".to_owned(),
            ),
        ),
    ] {
        let (engine, _dir) = engine(start, "echo gone", "true", LIMIT);
        assert_eq!(engine.start("d1-8-1", &spec()).await, Err(expected));
    }
}

#[tokio::test]
async fn the_output_of_look_is_the_state_and_other_output_is_an_error() {
    for (line, expected) in [
        ("starting", WorkerState::Running),
        ("running", WorkerState::Running),
        ("gone", WorkerState::Gone),
        ("exit 3", WorkerState::Ended(Some(3).into())),
        (
            "exit 137 oom",
            WorkerState::Ended(WorkerEnd {
                code: Some(137),
                is_out_of_memory: true,
            }),
        ),
    ] {
        let (engine, _dir) = engine("true", &format!("echo {line}"), "true", LIMIT);
        let states = engine.states_of(&[("r".to_owned(), handle("x"))]).await;
        assert_eq!(states, Ok(vec![("r".to_owned(), expected)]));
    }
    for look in ["echo exit", "echo dead", "true", "echo running; exit 1"] {
        let (engine, _dir) = engine("true", look, "true", LIMIT);
        assert!(
            engine
                .states_of(&[("r".to_owned(), handle("x"))])
                .await
                .is_err(),
            "{look}"
        );
    }
}

#[tokio::test]
async fn a_failed_look_for_one_run_does_not_affect_the_states_of_the_others() {
    let look = "[ $RUN_HANDLE = good ] && echo running";
    let (engine, _dir) = engine("true", look, "true", LIMIT);
    let runs = [
        ("a".to_owned(), handle("bad")),
        ("b".to_owned(), handle("good")),
    ];
    assert_eq!(
        engine.states_of(&runs).await,
        Ok(vec![
            ("a".to_owned(), WorkerState::Unknown),
            ("b".to_owned(), WorkerState::Running)
        ])
    );
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_child_processes() {
    let start = r#"sleep 1000 & echo $! > "$RUN_LOG"; wait"#;
    let mut limit = Duration::from_millis(500);
    // On a slow machine, the shell may not start `sleep` within the first time limits.
    let pid = loop {
        let (engine, dir) = engine(start, "true", "true", limit);
        let failure = engine.start("d1-8-1", &spec()).await.unwrap_err();
        let seconds = limit.as_secs_f64();
        assert_eq!(
            failure,
            StartFailure::Unknown(format!("the command start was killed after {seconds} s"))
        );
        let log = fs::read_to_string(dir.path().join("d1-8-1/log")).unwrap_or_default();
        // A process id without its line end may be cut off.
        if let Some(pid) = log.strip_suffix('\n') {
            break pid.to_owned();
        }
        limit *= 4;
        assert!(limit < Duration::from_secs(60), "no process id: {log:?}");
    };
    let status_file = format!("/proc/{pid}/stat");
    // The new parent of the killed process may not have reaped it yet.
    let is_running = || fs::read_to_string(&status_file).is_ok_and(|stat| !stat.contains(") Z "));
    while is_running() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn start_returns_although_a_process_that_it_leaves_running_holds_its_output_open() {
    let (engine, _dir) = engine("sleep 1000 & echo $!", "true", "true", LIMIT);
    let Handle::Command { id } = engine.start("d1-8-1", &spec()).await.unwrap() else {
        panic!("not a handle of this engine");
    };
    let pid = Pid::from_raw(id.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_run_whose_start_had_no_clear_result_is_found_and_removed_by_its_id() {
    let stop = r#"echo "$RUN_NAME <$RUN_HANDLE>" >> "${RUN_LOG%/*}/../stops""#;
    let (engine, dir) = engine("exit 75", "echo gone", stop, LIMIT);
    let stops = dir.path().join("stops");
    engine.start("d1-8-1", &spec()).await.unwrap_err();
    engine.start("d1-9-1", &spec()).await.unwrap_err();
    let found = engine.find_runs();
    assert_eq!(found.len(), 2);
    for found in found {
        assert_eq!(
            (found.handle.clone(), found.is_started),
            (handle(""), false)
        );
        engine.remove(&found.run, &found.handle).await.unwrap();
    }
    let mut stops: Vec<String> = fs::read_to_string(stops)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    stops.sort();
    assert_eq!(stops, ["d1-8-1 <>", "d1-9-1 <>"]);
    assert!(engine.find_runs().is_empty());
}

#[tokio::test]
async fn after_a_clear_failure_of_start_no_run_is_found_unless_an_earlier_start_was_unclear() {
    let (engine, dir) = engine(
        r#"test -e "$RUN_LOG" || exit 3; exit 75"#,
        "true",
        "true",
        LIMIT,
    );
    engine.start("d1-8-1", &spec()).await.unwrap_err();
    assert!(engine.find_runs().is_empty());
    let log = dir.path().join("d1-8-1/log");
    fs::write(&log, "").unwrap();
    engine.start("d1-8-1", &spec()).await.unwrap_err();
    fs::remove_file(&log).unwrap();
    engine.start("d1-8-1", &spec()).await.unwrap_err();
    assert_eq!(engine.find_runs().len(), 1);
}

#[tokio::test]
async fn a_run_with_an_empty_handle_file_counts_as_not_started() {
    let (engine, dir) = engine("exit 75", "true", "true", LIMIT);
    engine.start("d1-8-1", &spec()).await.unwrap_err();
    fs::write(dir.path().join("d1-8-1/handle"), "").unwrap();
    assert!(!engine.find_runs()[0].is_started);
}
