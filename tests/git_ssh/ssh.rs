//! For operators who use git over ssh: clone and push use the user's ssh configuration and keys, and an
//! agent that runs as the same user cannot redirect the push.

use std::fs;
use std::process::Command;

use crate::server::SshServer;
use crate::support::origin::write_program;
use crate::support::{Forge, Origin, Receiver, Worker, lfs, quoted};

/// The branch to which workers for task 8 push by default.
const BRANCH: &str = "descartes/proj-456/8";

/// An ssh server that clients call `forge`.
struct SshRemote {
    sshd: SshServer,
}

impl SshRemote {
    /// Starts the server. Writes its files, and a client configuration, below the origin's directory.
    fn start(origin: &Origin) -> Self {
        let programs = origin.path("programs-of-server");
        fs::create_dir_all(&programs).unwrap();
        let variables = format!("PATH={}:/usr/bin:/bin", programs.display());
        let server = Self {
            sshd: SshServer::start(&origin.path(""), &variables),
        };
        server.configure(origin);
        server
    }

    /// Writes the client's configuration.
    fn configure(&self, origin: &Origin) {
        let path = |name: &str| origin.path(name).display().to_string();
        let text = format!(
            "Host forge\n HostName 127.0.0.1\n Port {}\n HostKeyAlias forge\n IdentityFile \"{}\"\n\
             IdentitiesOnly yes\n UserKnownHostsFile \"{}\"\n",
            self.sshd.port,
            path("key"),
            path("known_hosts")
        );
        fs::write(origin.path("ssh_config"), text).unwrap();
    }
}

/// A worker whose ssh reads its configuration below the origin's directory. OpenSSH ignores `HOME` and
/// looks in the home directory from the user table, so a script passes the file with `-F`.
fn worker(origin: &Origin, receiver: &Receiver) -> Worker {
    let config = origin.path("ssh_config");
    let script = format!(
        "for word in \"$@\"; do [ \"$word\" = -F ] && exec /usr/bin/ssh \"$@\"; done; exec /usr/bin/ssh -F {} \"$@\"",
        quoted(&config)
    );
    let tools = origin.path("tools");
    fs::create_dir_all(&tools).unwrap();
    write_program(&tools.join("ssh"), &script);
    let path = format!(
        "{}:{}:/usr/local/bin:/usr/bin:/bin",
        origin.path("bin").display(),
        tools.display()
    );
    let url = format!("forge:{}", origin.path("project.git").display());
    origin
        .worker(receiver)
        .env("PATH", path)
        .env("DESCARTES_REPO", url)
}

#[test]
fn a_project_is_cloned_and_pushed_over_ssh() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let server = SshRemote::start(&origin);
    worker(&origin, &receiver)
        .agent("echo done > DONE")
        .run()
        .assert_code(0);
    assert_eq!(origin.show(BRANCH, "DONE"), "done");

    let receiver = Receiver::start();
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap();
    fs::write(
        origin.path("ssh_config"),
        format!(
            "IdentityFile \"{}\"\nUserKnownHostsFile \"{}\"\nHostKeyAlias forge\n",
            origin.path("key").display(),
            origin.path("known_hosts").display()
        ),
    )
    .unwrap();
    let url = format!(
        "ssh://{}@127.0.0.1:{}{}",
        user.trim(),
        server.sshd.port,
        origin.path("project.git").display()
    );
    let second = worker(&origin, &receiver)
        .env("DESCARTES_REPO", url)
        .env("DESCARTES_RUN_ID", "run-2")
        .env("DESCARTES_WORKSPACE", origin.path("again"));
    second.agent("echo other > DONE").run().assert_code(0);
    assert_eq!(origin.show(&format!("{BRANCH}-run-2"), "DONE"), "other");
}

#[test]
fn an_agent_cannot_change_the_server_of_ssh_or_make_ssh_run_a_program() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let _server = SshRemote::start(&origin);
    let spy_output = quoted(origin.path("spy_output"));
    write_program(
        &origin.path("spy"),
        &format!("echo \"$*\" >> {spy_output}; exit 1"),
    );
    // `$SPY` is the path of the spy, `$RUN_SPY` is a shell command that runs it, and `$OUTSIDE` is a directory outside the clone.
    let agent = format!(
        "OUTSIDE={}; SPY=\"$OUTSIDE/spy\"; RUN_SPY={}
         echo done > DONE; git config core.sshCommand \"$RUN_SPY\"; cp \"$SPY\" \"$OUTSIDE/bin/ssh\"; cp \"$SPY\" \"$OUTSIDE/bin/git\"
         printf 'ProxyCommand %s %%%%h\\nPermitLocalCommand yes\\nLocalCommand %s local\\n' \"$RUN_SPY\" \"$RUN_SPY\" > \"$OUTSIDE/evil\"
         cat \"$OUTSIDE/ssh_config\" >> \"$OUTSIDE/evil\"; mv \"$OUTSIDE/evil\" \"$OUTSIDE/ssh_config\"; echo > \"$OUTSIDE/known_hosts\"",
        quoted(origin.path("tmp").parent().unwrap()),
        quoted(quoted(origin.path("spy")))
    );
    worker(&origin, &receiver)
        .agent(&agent)
        .run()
        .assert_code(0);
    assert_eq!(origin.show(BRANCH, "DONE"), "done");
    assert_eq!(
        fs::read_to_string(origin.path("spy_output")).unwrap_or_default(),
        ""
    );
}

#[test]
fn an_unknown_host_key_is_a_workspace_failure_and_ssh_asks_no_question() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let _server = SshRemote::start(&origin);
    fs::write(origin.path("known_hosts"), "").unwrap();
    worker(&origin, &receiver)
        .agent("true")
        .run()
        .assert_code(1);
    let failure = &receiver.only_event("failed")["failure"];
    assert_eq!(failure["reason"], "workspace_failed");
    let detail = failure["detail"].as_str().unwrap();
    assert!(detail.contains("Host key verification failed"), "{detail}");
}

#[test]
fn a_rejected_key_is_a_workspace_failure_and_ssh_asks_no_question() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let _server = SshRemote::start(&origin);
    fs::write(origin.path("authorized_keys"), "").unwrap();
    worker(&origin, &receiver)
        .agent("true")
        .run()
        .assert_code(1);
    let detail = receiver.only_event("failed")["failure"]["detail"].to_string();
    assert!(detail.contains("Permission denied (publickey"), "{detail}");
}

#[test]
fn the_terminal_event_has_the_patch_if_the_key_is_revoked_during_the_run() {
    let (receiver, origin) = (Receiver::start(), Origin::new());
    let _server = SshRemote::start(&origin);
    let agent = format!(
        "echo mine > mine; : > {}",
        quoted(origin.path("authorized_keys"))
    );
    worker(&origin, &receiver)
        .agent(&agent)
        .run()
        .assert_code(1);
    let event = receiver.only_event("failed");
    assert_eq!(event["failure"]["reason"], "push_failed");
    assert!(
        event["result"]["work"]["patch"]
            .as_str()
            .unwrap()
            .contains("+mine")
    );
}

/// The value of `Authorization` that `git-lfs-authenticate` gives to the client for the LFS server.
const AUTHORIZATION: &str = "RemoteAuth token-of-ssh";

/// An origin with Git LFS, an ssh server, and an LFS server.
fn lfs_origin() -> (Origin, SshRemote, Forge) {
    let origin = Origin::with_files(&[
        (
            ".gitattributes",
            "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        ),
        ("a.bin", &lfs::pointer(b"content")),
    ]);
    lfs::store_object(&origin.path("project.git"), b"content");
    let forge = Forge::start(&origin.path(""), None);
    let server = SshRemote::start(&origin);
    (origin, server, forge)
}

/// Installs the program `git-lfs-authenticate` on the ssh server. It tells clients the address of the LFS server.
fn install_git_lfs_authenticate(origin: &Origin, forge: &Forge) {
    let href = format!("{}/project.git/info/lfs", forge.base_url());
    let answer = format!(
        "echo '{{\"href\": \"{href}\", \"header\": {{\"Authorization\": \"{AUTHORIZATION}\"}}}}'"
    );
    let script = format!("echo \"$*\" >> {}; {answer}", quoted(origin.path("calls")));
    write_program(
        &origin.path("programs-of-server/git-lfs-authenticate"),
        &script,
    );
}

#[test]
fn git_lfs_files_are_fetched_and_pushed_if_the_remote_is_reached_by_ssh() {
    let (origin, _server, forge) = lfs_origin();
    install_git_lfs_authenticate(&origin, &forge);
    let receiver = Receiver::start();
    let worker = worker(&origin, &receiver).env("DESCARTES_LFS", "true");
    let ended = worker
        .agent("grep -q '^content' a.bin || exit 9; printf new > new.bin")
        .run();
    ended.assert_code(0);
    assert_eq!(
        origin.show(BRANCH, "new.bin"),
        lfs::pointer(b"new").trim_end()
    );
    let object = lfs::object_path(&origin.path("project.git"), &lfs::oid(b"new"));
    assert_eq!(fs::read(object).unwrap(), b"new");
    let calls = fs::read_to_string(origin.path("calls")).unwrap();
    assert!(
        calls.contains("download") && calls.contains("upload"),
        "{calls}"
    );
    let requests = forge.requests();
    let request = requests
        .iter()
        .find(|request| request.line.ends_with("/objects/batch"))
        .expect("a request for objects");
    let authorization = request.authorization.as_deref();
    assert_eq!(authorization, Some(AUTHORIZATION), "{requests:?}");
}

#[test]
fn nothing_is_pushed_if_the_ssh_server_has_no_git_lfs() {
    let (origin, _server, forge) = lfs_origin();
    let receiver = Receiver::start();
    worker(&origin, &receiver)
        .agent("printf new > new.bin")
        .run()
        .assert_code(1);
    let failure = &receiver.only_event("failed")["failure"];
    assert_eq!(failure["reason"], "push_failed", "{failure}");
    assert_eq!(failure["retryable"], false, "{failure}");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("could not be pushed to the Git LFS server")
            && message.contains("git-lfs-authenticate"),
        "{failure}"
    );
    assert_eq!(origin.branches(), ["main"]);
    assert!(forge.requests().is_empty());
}
