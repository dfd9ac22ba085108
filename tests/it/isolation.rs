//! For anyone whose agent may follow instructions in untrusted texts: the agent cannot reach the worker, its parent or
//! its terminal, and the worker reports which isolation this machine allows.

mod agent_user;
#[cfg(feature = "peers")]
mod bubblewrap;
mod git_token;
mod survivors;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Project, Receiver, Worker, nobody, origin, wait_until};

/// The words for the kinds of isolation in which the agent cannot signal or trace the worker.
const KINDS_THAT_PROTECT_THE_WORKER: [&str; 2] = ["landlock", "pid-namespace"];

/// The word for the isolation in an event.
fn isolation_of(event: &Value) -> String {
    let word = event["worker"]["isolation"].as_str();
    word.unwrap_or_else(|| panic!("no isolation: {event:#}"))
        .to_owned()
}

#[test]
fn the_terminal_event_and_check_name_the_same_isolation() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = |command: &str| {
        let worker = Worker::new(&receiver, &project).env("DESCARTES_FORCE", "true");
        let worker = worker.agent("echo done");
        match command {
            "" => worker,
            command => worker.arg(command),
        }
    };
    let ended = worker("").run();
    let word = isolation_of(&ended.assert_completed(&receiver));
    assert!(
        ended
            .stderr
            .contains(&format!("isolation {word}: the agent ")),
        "{ended:#?}"
    );
    let check = worker("check").run();
    check.assert_code(0);
    let line = format!("ok      isolation: {word}: the agent ");
    assert!(check.stdout.contains(&line), "{check:#?}");
}

#[test]
fn without_isolation_the_events_say_so() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).without_isolation();
    worker.agent("echo done").run().assert_code(0);
    assert_eq!(isolation_of(&receiver.only_event("started")), "off");
    assert_eq!(isolation_of(&receiver.only_event("completed")), "off");
}

#[test]
fn strict_isolation_without_bubblewrap_ends_the_run_before_the_agent_starts() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = || {
        Worker::new(&receiver, &project)
            .env("DESCARTES_ISOLATION", "strict")
            .env("PATH", "/nowhere")
            .agent(": > started")
    };
    let event = worker().run().assert_failed(&receiver, "workspace_failed");
    let message = event["failure"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("DESCARTES_ISOLATION is strict, and the agent cannot get a PID namespace: bubblewrap (bwrap) is not on the PATH"),
        "{message}"
    );
    assert!(!project.path("started").exists());
    let check = worker().arg("check").run();
    check.assert_code(2);
    assert!(check.stdout.contains("MISSING isolation: "), "{check:#?}");
}

#[test]
fn an_invalid_isolation_is_a_mistake_in_the_settings() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let worker = Worker::new(&receiver, &project).env("DESCARTES_ISOLATION", "best");
    let ended = worker.agent("true").run();
    ended.assert_code(2);
    let words = "DESCARTES_ISOLATION: \"best\" is none of auto, strict, off";
    assert!(ended.stderr.contains(words), "{ended:#?}");
}

#[test]
fn the_agent_cannot_signal_the_worker() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = "for signal in TERM QUIT USR1 STOP KILL; do kill -$signal $PPID; done; echo alive";
    let worker = Worker::new(&receiver, &project).agent(agent);
    let ended = worker.run();
    // On an older kernel without bubblewrap, the agent can signal the worker, and the worker only has to report that.
    let requests = receiver.requests();
    let last = requests.last().map(|request| isolation_of(&request.event));
    if last.is_some_and(|word| KINDS_THAT_PROTECT_THE_WORKER.contains(&word.as_str())) {
        let event = ended.assert_completed(&receiver);
        assert_eq!(
            event["result"]["output"]["tail"]
                .as_str()
                .unwrap()
                .lines()
                .last(),
            Some("alive")
        );
    }
}

#[test]
fn the_agent_cannot_read_the_environment_of_the_workers_parent() {
    let (receiver, project) = (Receiver::start(), nobody::project());
    let bin = nobody::shared_dir();
    let agent = "for file in /proc/[0-9]*/environ; do tr '\\0' '\\n' < $file; done 2>/dev/null | grep -c the-callback-token";
    let worker = Worker::new(&receiver, &project)
        .env("DESCARTES_CALLBACK_TOKEN", "the-callback-token")
        .env("DESCARTES_AGENT_COMMAND", format!("{agent}; true"))
        .program(&nobody::copy_worker(&bin));
    // The shell stays the worker's parent, with the same environment.
    let worker = worker.started_by("/bin/sh", |program| {
        vec!["-c".into(), "\"$0\"; exit $?".into(), program.into()]
    });
    let ended = worker.change_command(nobody::run_as_nobody).run();
    let event = ended.assert_completed(&receiver);
    let word = isolation_of(&event);
    if KINDS_THAT_PROTECT_THE_WORKER.contains(&word.as_str()) || word == "landlock-trace" {
        assert_eq!(event["result"]["output"]["tail"], "0\n", "{word}");
    }
}

#[test]
fn the_agent_has_no_terminal() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = "if (: > /dev/tty) 2>/dev/null; then echo a terminal; else echo no terminal; fi";
    let worker = Worker::new(&receiver, &project).agent(agent);
    // A session with a terminal, whose foreground process is the worker.
    let ended = worker
        .started_by("setsid", |program| vec!["-c".into(), program.into()])
        .on_terminal(80)
        .run();
    ended.assert_code(0);
    let event = receiver.only_event("completed");
    assert_eq!(event["result"]["output"]["tail"], "no terminal\n");
}

#[test]
fn the_failure_names_a_program_whose_interpreter_does_not_exist() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let bin = tempfile::tempdir().unwrap();
    let claude = bin.path().join("claude");
    origin::write_executable(&claude, "#!/nowhere/interpreter");
    let path = std::env::join_paths([bin.path().as_os_str(), "/usr/bin".as_ref(), "/bin".as_ref()]);
    let worker = Worker::new(&receiver, &project)
        .env("PATH", path.unwrap())
        .env("DESCARTES_AGENT", "claude-code")
        .env("IS_SANDBOX", "1")
        .env("ANTHROPIC_API_KEY", "sk-ant-the-key");
    let event = worker.run().assert_failed(&receiver, "agent_not_found");
    let message = event["failure"]["message"].as_str().unwrap();
    let expected = format!("the program {} does not exist", claude.display());
    assert_eq!(message, expected);
}

#[test]
fn signals_without_a_meaning_for_the_worker_do_not_end_it() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let agent = ": > waits; until [ -e go ]; do sleep 0.01; done; echo done";
    let worker = Worker::new(&receiver, &project).agent(agent).start();
    wait_until("the agent to start", || project.path("waits").exists());
    for signal in [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::XFSZ,
    ] {
        worker.signal(signal);
    }
    project.write("go", "");
    worker.wait().assert_completed(&receiver);
}

#[test]
fn after_sigquit_or_sigxcpu_the_worker_reports_that_it_was_stopped() {
    for (signal, name) in [(Signal::QUIT, "SIGQUIT"), (Signal::XCPU, "SIGXCPU")] {
        let (receiver, project) = (Receiver::start(), Project::new());
        let worker = Worker::new(&receiver, &project).agent(": > waits; exec sleep 1000");
        let worker = worker.start();
        wait_until("the agent to start", || project.path("waits").exists());
        worker.signal(signal);
        let event = worker.wait().assert_failed(&receiver, "interrupted");
        let message = format!("the worker was stopped by {name}");
        assert_eq!(event["failure"]["message"], message);
    }
}
