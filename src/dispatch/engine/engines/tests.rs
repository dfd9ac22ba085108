//! The end of a run, and of a dispatch.
use tokio::task::LocalSet;

use super::*;
use crate::dispatch::engine::command::CommandLines;
use crate::dispatch::engine::settings::CommandSettings;
use crate::dispatch::engine::spec::TaskNeeds;

fn spec() -> RunSpec {
    RunSpec {
        variables: Vec::new(),
        removed_variables: Vec::new(),
        inherited_variables: Vec::new(),
        memory: None,
        needs: TaskNeeds::default(),
    }
}

fn engines(
    dir: &Path,
    program: PathBuf,
    engine: EngineKind,
    remotes: Vec<RemoteEngine>,
) -> Engines {
    let choice = EngineChoice {
        engine,
        limit: None,
    };
    let local = Local::new(program, dir.to_owned(), "d1".to_owned());
    let deadline = Duration::from_secs(300);
    Engines::new(vec![choice], deadline, dir.to_owned(), local, remotes)
}

#[tokio::test]
async fn close_names_an_engine_that_is_still_starting_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let settings = CommandSettings {
        start: "exec sleep 1000".to_owned(),
        look: "echo gone".to_owned(),
        stop: "true".to_owned(),
        image: None,
        nano_cpus: None,
    };
    let limit = Duration::from_secs(300);
    let command = CommandLines::new(settings, "d1".to_owned(), dir.path().to_owned(), limit);
    let remotes = vec![RemoteEngine::Command(command)];
    let mut engines = engines(dir.path(), PathBuf::new(), EngineKind::Command, remotes);
    let work = async {
        let engine = engines.place("d1-8-1", &spec());
        assert_eq!(engine, Some(EngineKind::Command));
        assert_eq!(engines.start("d1-8-1", spec()), None);
        engines.close(Duration::from_millis(50)).await
    };
    let messages = LocalSet::new().run_until(work).await;
    let words = "the engine command may still have something of this dispatch (it has not answered";
    assert!(
        matches!(&messages[..], [message] if message.starts_with(words)),
        "{messages:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn close_waits_until_a_local_worker_that_ignores_sigterm_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("worker");
    // A shell writes the program: a child that another test starts at the same time inherits every file that is open in this
    // process, and the kernel starts no program that is open for writing ("Text file busy").
    let write =
        "printf '#!/bin/sh\\ntrap \"\" TERM\\nexec sleep 1000\\n' > \"$0\" && chmod 700 \"$0\"";
    let mut shell = std::process::Command::new("/bin/sh");
    let written = shell.args(["-c", write]).arg(&program).status().unwrap();
    assert!(written.success());
    let mut engines = engines(dir.path(), program, EngineKind::Local, Vec::new());
    let work = async {
        engines.place("d1-8-1", &spec());
        let handle = engines.start("d1-8-1", spec()).unwrap().unwrap();
        engines.release("d1-8-1", &handle, Duration::from_secs(5));
        assert_eq!(engines.close(Duration::from_secs(60)).await, [""; 0]);
        // A killed process ends a moment after the signal.
        let began = std::time::Instant::now();
        while engines.local.state_of("another run", &handle) == WorkerState::Running {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the worker still runs"
            );
            std::thread::yield_now();
        }
    };
    LocalSet::new().run_until(work).await;
}
