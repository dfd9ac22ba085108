//! How git reaches the remote repository: credentials, redirects, proxies, certificate authorities, and retries.

use std::fs;

use super::{TOKEN, permanent_failure};
use crate::support::origin::{git, write_program};
use crate::support::{Forge, Origin, Receiver, ServerBehavior, path, quoted};

#[test]
fn the_token_is_sent_only_to_the_host_of_the_repository() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let ended = origin
        .worker(&receiver)
        .env("DESCARTES_REPO", forge.url())
        .env("DESCARTES_GIT_TOKEN", TOKEN)
        .agent("env; cat .git/config; git remote -v; echo done > DONE")
        .run();
    ended.assert_code(0);
    assert_eq!(origin.show("descartes/proj-456/8", "DONE"), "done");
    let output = receiver.only_event("completed").to_string();
    assert!(
        !output.contains(TOKEN) && !output.contains("***"),
        "{output}"
    );
    // git first sends a request without credentials.
    assert!(
        forge
            .requests()
            .iter()
            .any(|request| request.authorization.is_none())
    );

    // Another host asks for credentials, and gets none.
    let (receiver, elsewhere) = (
        Receiver::start(),
        Forge::start(&origin.path(""), Some(TOKEN)),
    );
    forge.set_behavior(ServerBehavior::Redirect(elsewhere.base_url()));
    let ended = origin
        .worker(&receiver)
        .env("DESCARTES_WORKSPACE", origin.path("again"))
        .env("DESCARTES_REPO", forge.url())
        .env("DESCARTES_GIT_TOKEN", TOKEN)
        .agent("true")
        .run();
    permanent_failure(&receiver, &ended);
    let requests = elsewhere.requests();
    assert!(!requests.is_empty());
    assert!(
        requests
            .iter()
            .all(|request| request.authorization.is_none()),
        "{requests:?}"
    );
}

#[test]
fn git_follows_the_redirect_of_a_renamed_project() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let new_address = Forge::start(&origin.path(""), None);
    let old_address = Forge::start(&origin.path(""), None);
    old_address.set_behavior(ServerBehavior::Redirect(new_address.base_url()));
    let worker = origin
        .worker(&receiver)
        .env("DESCARTES_REPO", old_address.url());
    worker.agent("echo done > DONE").run().assert_code(0);
    assert_eq!(origin.show("descartes/proj-456/8", "DONE"), "done");
}

#[test]
fn a_clone_is_retried_if_the_remote_is_unreachable_for_a_short_time() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let forge = Forge::start(&origin.path(""), None);
    forge.set_behavior(ServerBehavior::CloseConnections);
    let worker = origin.worker(&receiver).env("DESCARTES_REPO", forge.url());
    let running = worker.agent("true").start();
    crate::support::wait_until("a fetch", || !forge.requests().is_empty());
    forge.set_behavior(ServerBehavior::Serve);
    running.wait().assert_code(0);
}

#[test]
fn submodules_are_cloned_with_the_token_of_their_host_if_the_setting_says_so() {
    let origin = Origin::new();
    let seed = origin.path("seed");
    let library = origin.path("lib.git");
    git(
        &origin.path(""),
        &[
            "clone",
            "-q",
            "--bare",
            seed.to_str().unwrap(),
            library.to_str().unwrap(),
        ],
    );
    git(
        &library,
        &["config", "uploadpack.allowAnySHA1InWant", "true"],
    );
    let commit = git(&library, &["rev-parse", "main"]);
    let modules = "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n";
    fs::write(seed.join(".gitmodules"), modules).unwrap();
    git(
        &seed,
        &[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{commit},lib"),
        ],
    );
    git(&seed, &["add", ".gitmodules"]);
    git(&seed, &["commit", "-qm", "linked"]);
    git(
        &seed,
        &[
            "push",
            "-q",
            origin.path("project.git").to_str().unwrap(),
            "main",
        ],
    );
    let forge = Forge::start(&origin.path(""), Some(TOKEN));
    let receiver = Receiver::start();
    let worker = origin.worker(&receiver).env("DESCARTES_REPO", forge.url());
    let worker = worker
        .env("DESCARTES_GIT_TOKEN", TOKEN)
        .env("DESCARTES_SUBMODULES", "true");
    worker
        .agent("grep -q house lib/README && echo done > DONE")
        .run()
        .assert_code(0);
    let changed = origin.git(&["diff", "--name-only", "main", "descartes/proj-456/8"]);
    assert_eq!(changed, ".scud/tasks/tasks.scg\nDONE");
}

#[test]
fn git_goes_through_the_proxy_that_the_environment_names() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let proxy = Forge::start(&origin.path(""), None);
    let worker = origin
        .worker(&receiver)
        .env("DESCARTES_REPO", "http://git.invalid/project.git")
        .env("http_proxy", proxy.base_url())
        .env("no_proxy", "127.0.0.1");
    let ended = worker.agent("true").run();
    ended.assert_code(1);
    let requests = proxy.requests();
    assert!(
        requests
            .iter()
            .any(|request| request.line.contains("http://git.invalid/project.git")),
        "{requests:?}"
    );
}

#[test]
fn git_trusts_the_authorities_in_ssl_cert_file_in_addition_to_those_of_the_system() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let script = format!(
        "[ \"$1\" = fetch ] || exit 0; cp \"$GIT_SSL_CAINFO\" {}; echo 'fatal: Authentication failed' >&2; exit 128",
        quoted(origin.path("seen"))
    );
    write_program(&origin.path("bin/git"), &script);
    let path = format!("{}:{}", origin.path("bin").display(), path().display());
    let key = rcgen::generate_simple_self_signed(vec!["git.example".to_owned()]).unwrap();
    fs::write(origin.path("own.pem"), key.cert.pem()).unwrap();
    let worker = origin
        .worker(&receiver)
        .env("PATH", path)
        .env("SSL_CERT_FILE", origin.path("own.pem"))
        .env("DESCARTES_REPO", "https://git.example/x.git");
    let ended = worker.agent("true").run();
    permanent_failure(&receiver, &ended);
    let authorities = fs::read_to_string(origin.path("seen")).unwrap();
    assert!(
        authorities.ends_with(&key.cert.pem()),
        "{}",
        authorities.len()
    );
    assert!(authorities.matches("BEGIN CERTIFICATE").count() > 50);
}
