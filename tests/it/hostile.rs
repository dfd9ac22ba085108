//! For whoever lends a worker a token: whatever an agent leaves in its clone, its HOME or its PATH,
//! nothing of it is run with the token near, and the work arrives all the same.
//!
//! Every test plants a spy, a program that writes down its environment and that of every process
//! but the workers (nothing protects those from an agent that is root), where a careless worker's
//! git would run it.

mod contents;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::origin::program;
use crate::support::{Forge, Origin, Receiver, path, quoted, setting, with_enough_time};

const BRANCH: &str = "descartes/proj-456/8";

/// For the tests in which git is not expected to wait: it may be slow on a busy machine.
const LONG_GIT_IDLE_TIMEOUT: &str = "10m";

/// A project behind a token, and a spy.
struct Scene {
    origin: Origin,
    forge: Forge,
    receiver: Receiver,
    token: String,
}

impl Scene {
    fn new() -> Self {
        let origin = Origin::with(&[("README", "A house.\n"), ("src/main", "roof\n")]);
        // Different for every test, because spies of other tests run at the same time.
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
            quoted(origin.path("loot"))
        );
        program(&spy, &script);
        Self {
            forge: Forge::start(&origin.path(""), Some(&token)),
            receiver: Receiver::start(),
            token,
            origin,
        }
    }

    fn spy(&self) -> PathBuf {
        self.origin.path("spy")
    }

    fn loot(&self) -> String {
        fs::read_to_string(self.origin.path("loot")).unwrap_or_default()
    }

    /// Has an agent do its work and then its mischief; `$SPY` is the spy's path, `$RUN` a shell's
    /// command that runs it, `$AT` a directory of the agent's outside the project. Gives the
    /// terminal event.
    #[track_caller]
    fn play(&self, mischief: &str) -> Value {
        self.play_within(LONG_GIT_IDLE_TIMEOUT, mischief)
    }

    /// The same with another limit on how long git may be silent.
    #[track_caller]
    fn play_within(&self, git_idle_timeout: &str, mischief: &str) -> Value {
        let path = format!("{}:{}", self.origin.path("bin").display(), path().display());
        let agent = format!(
            "SPY={}; RUN={}; AT={}; echo done > DONE\n{mischief}\nrm -f \"$AT/loot\"; true",
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
        let story = self.receiver.story();
        assert_eq!(story.len(), 2, "{ended:#?}");
        let loot = self.loot();
        assert!(
            !loot.contains(&self.token),
            "the spy saw the token:\n{loot}"
        );
        self.receiver.only(&story[1])
    }

    /// The same, where the work must arrive and the spy must never run.
    #[track_caller]
    fn harmless(&self, mischief: &str) -> Value {
        let event = self.play(mischief);
        assert_eq!(event["status"], "completed", "{event}");
        self.assert_harmless();
        event["result"]["work"].clone()
    }

    #[track_caller]
    fn assert_harmless(&self) {
        assert_eq!(self.loot(), "", "the spy ran");
        assert_eq!(self.origin.show(BRANCH, "DONE"), "done");
    }
}

/// Mischief that makes the agent's git wait for a pipe, until the limit on git's silence. On a busy machine
/// another git may be silent for as long, and then the work does not arrive.
#[track_caller]
fn harmless_although_git_waits(mischief: &str) {
    with_enough_time(Duration::from_secs(5), |limit| {
        let scene = Scene::new();
        let event = scene.play_within(&setting(limit), mischief);
        if event["status"] != "completed" {
            return Err(format!("the work did not arrive: {event:#}"));
        }
        scene.assert_harmless();
        Ok(())
    });
}

#[test]
fn the_spy_sees_what_there_is_to_see() {
    let scene = Scene::new();
    let status = Command::new(scene.spy())
        .env("HELD", &scene.token)
        .stdin(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert!(scene.loot().contains(&format!("HELD={}", scene.token)));
}

#[test]
fn the_agent_itself_is_not_shown_the_token() {
    let scene = Scene::new();
    let event = scene.play(r#""$SPY" < /dev/null; mv "$AT/loot" "$AT/kept""#);
    assert_eq!(event["status"], "completed");
    let seen = fs::read_to_string(scene.origin.path("kept")).unwrap();
    assert!(
        seen.contains("ran as") && !seen.contains(&scene.token),
        "{seen}"
    );
}

#[test]
fn hooks_do_not_run() {
    Scene::new().harmless(
        r#"mkdir -p .git/hooks; for hook in pre-commit commit-msg post-commit pre-push post-checkout post-index-change
         do cp "$SPY" .git/hooks/$hook; done
         for hook in reference-transaction pre-auto-gc fsmonitor-watchman; do cp "$SPY" .git/hooks/$hook; done
         git config core.hooksPath "$PWD/.git/hooks"; git config --global core.hooksPath "$PWD/.git/hooks""#,
    );
}

#[test]
fn a_file_system_monitor_does_not_run() {
    Scene::new()
        .harmless(r#"git config core.fsmonitor "$RUN"; git config --global core.fsmonitor "$RUN""#);
}

#[test]
fn an_ssh_command_does_not_run() {
    let scene = Scene::new();
    let mischief = format!(
        "for where in --local --global; do git config $where core.sshCommand \"$RUN\"
         git config $where ssh.variant simple; git config $where url.ssh://evil/.insteadOf {}/; done",
        scene.forge.base()
    );
    scene.harmless(&mischief);
}

#[test]
fn a_credential_helper_is_not_asked() {
    let scene = Scene::new();
    let mischief = format!(
        "for where in --local --global; do git config $where credential.helper \"!$RUN\"
         git config $where credential.{}.helper \"!$RUN\"; done
         printf 'machine 127.0.0.1 login agent password guessed\\n' > \"$HOME/.netrc\"",
        scene.forge.base()
    );
    scene.harmless(&mischief);
    let guessed = scene.forge.journal().iter().any(|(_, sent)| {
        // agent:guessed
        sent.as_deref() == Some("Basic YWdlbnQ6Z3Vlc3NlZA==")
    });
    assert!(!guessed);
}

#[test]
fn another_url_instead_is_not_taken() {
    let scene = Scene::new();
    let evil = Forge::start(&scene.origin.path(""), None);
    let mischief = format!(
        "for where in --local --global; do git config $where url.{evil}/.insteadOf {base}/
         git config $where url.{evil}/.pushInsteadOf {base}/; git config $where http.proxy {evil}
         git config $where remote.origin.url {evil}/project.git; done",
        evil = evil.base(),
        base = scene.forge.base()
    );
    scene.harmless(&mischief);
    assert_eq!(evil.journal(), []);
}

#[test]
fn a_program_that_asks_for_passwords_does_not_run() {
    Scene::new().harmless(
        r#"for where in --local --global; do git config $where core.askPass "$SPY"; done"#,
    );
}

#[test]
fn a_diff_of_the_agents_does_not_run() {
    Scene::new().harmless(
        r#"for where in --local --global; do git config $where diff.external "$RUN"; git config $where diff.spy.textconv "$RUN"
         git config $where diff.spy.command "$RUN"; git config $where core.pager "$RUN"; git config $where interactive.diffFilter "$RUN"; done
         echo '* diff=spy' > .gitattributes; mkdir -p .git/info; echo '* diff=spy' > .git/info/attributes; echo changed >> README"#,
    );
}

#[test]
fn aliases_do_not_run() {
    Scene::new().harmless(
        "for where in --local --global; do for command in init add write-tree commit-tree rev-parse rev-list push diff \
         cat-file merge-base read-tree; do git config $where alias.$command \"!$RUN\"; done; done",
    );
}

#[test]
fn included_configuration_is_not_in_force() {
    harmless_although_git_waits(
        r#"set_evil() { git config --file "$AT/evil" "$@"; }
         set_evil core.fsmonitor "$RUN"; set_evil core.sshCommand "$RUN"; set_evil core.askPass "$SPY"
         set_evil credential.helper "!$RUN"; git config include.path "$AT/evil"; git config --global include.path "$AT/evil"
         git config includeIf.gitdir:/.path "$AT/evil"
         mkfifo "$AT/fifo"; git config --add include.path "$AT/fifo""#,
    );
}

#[test]
fn filters_that_the_agent_configured_run_without_the_token() {
    let scene = Scene::new();
    let filter = quoted(quoted(scene.origin.path("clean")));
    let event = scene.play(&format!(
        r#"cat > "$AT/clean" <<'END'
#!/bin/sh
at=${{0%/*}}
echo ran >> "$at/ran"
tr '\0' '\n' < /proc/self/environ >> "$at/loot"
tr a-z A-Z
END
         chmod +x "$AT/clean"; for where in --local --global; do git config $where filter.spy.clean {filter}; done
         echo 'new filter=spy' > .gitattributes; echo new > new; echo ignored >> .git/info/exclude; touch ignored"#
    ));
    assert_eq!(event["status"], "completed", "{event}");
    assert!(scene.origin.path("ran").exists(), "the filter did not run");
    assert_eq!(scene.origin.show(BRANCH, "new"), "NEW");
    let files = scene.origin.git(&["ls-tree", "-r", "--name-only", BRANCH]);
    assert!(!files.contains("ignored"), "{files}");
}

#[test]
fn attributes_of_the_agent_run_no_merge_driver() {
    let scene = Scene::new();
    scene.harmless(
        r#"mkdir -p .git/info "$HOME/.config/git"; for file in .gitattributes .git/info/attributes "$HOME/.config/git/attributes"; do
         echo '* merge=spy text eol=crlf' > "$file"; done
         for where in --local --global; do git config $where merge.spy.driver "$RUN"; done; touch README; echo new > new"#,
    );
    assert_eq!(scene.origin.show(BRANCH, "new"), "new");
}
