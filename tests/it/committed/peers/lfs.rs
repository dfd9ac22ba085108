//! The real git-lfs, with a repository next to the worker (`file://`) and with an LFS server (`http://`).

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::committed::{BRANCH, changed_paths};
use crate::support::lfs::{object_path, oid, pointer, store_object};
use crate::support::origin::git;
use crate::support::{Forge, Origin, Receiver, Worker, quoted};

/// The git token of the worker.
const TOKEN: &str = "git-token-0123456789abcdef";
/// The name and the content of a file: files that end in `.bin` are in Git LFS.
const ATTRIBUTES: (&str, &str) = (
    ".gitattributes",
    "*.bin filter=lfs diff=lfs merge=lfs -text\n",
);

/// Where the remote repository is.
#[derive(Clone, Copy)]
enum Remote {
    Directory,
    Server,
}

/// A project with one file in Git LFS, and its server if it has one.
struct Project {
    origin: Origin,
    forge: Option<Forge>,
}

impl Project {
    fn new(remote: Remote) -> Self {
        Self::with_files(remote, &[])
    }

    /// `files` are the names and contents of further files.
    fn with_files(remote: Remote, files: &[(&str, &str)]) -> Self {
        let origin = Origin::with_files(&[ATTRIBUTES, ("a.bin", &pointer(b"content"))]);
        origin.commit(files);
        store_object(&origin.path("project.git"), b"content");
        let forge = match remote {
            Remote::Directory => None,
            Remote::Server => Some(Forge::start(&origin.path(""), Some(TOKEN))),
        };
        Self { origin, forge }
    }

    /// One project for each kind of remote.
    fn for_each_remote() -> [Self; 2] {
        [Remote::Directory, Remote::Server].map(Self::new)
    }

    /// A worker that clones the project, with the token if the remote is a server.
    fn worker(&self, receiver: &Receiver) -> Worker {
        let worker = self.origin.worker(receiver);
        match &self.forge {
            Some(forge) => worker
                .env("DESCARTES_REPO", forge.url())
                .env("DESCARTES_GIT_TOKEN", TOKEN),
            None => worker,
        }
    }

    /// Runs an agent whose work must be pushed; returns the terminal event.
    #[track_caller]
    fn run_and_assert_completed(&self, agent: &str) -> Value {
        let receiver = Receiver::start();
        self.worker(&receiver).agent(agent).run().assert_code(0);
        receiver.only_event("completed")
    }

    /// Runs an agent whose work must not be pushed; returns the message of the failure.
    #[track_caller]
    fn run_and_assert_not_pushed(&self, agent: &str) -> String {
        let receiver = Receiver::start();
        self.worker(&receiver).agent(agent).run().assert_code(1);
        let failure = &receiver.only_event("failed")["failure"];
        assert_eq!(failure["reason"], "push_failed", "{failure}");
        assert_eq!(failure["retryable"], false, "{failure}");
        assert_eq!(self.origin.branches(), ["main"]);
        failure["message"].as_str().unwrap().to_owned()
    }

    /// The path at which the remote stores an object.
    fn object(&self, content: &[u8]) -> PathBuf {
        object_path(&self.origin.path("project.git"), &oid(content))
    }

    /// Asserts that the file is a pointer to this content on the pushed branch, and that the remote has the content.
    #[track_caller]
    fn assert_pointer_and_object_are_pushed(&self, file: &str, content: &[u8]) {
        let pushed = self.origin.show(BRANCH, file);
        assert_eq!(pushed, pointer(content).trim_end(), "{file}");
        assert_eq!(fs::read(self.object(content)).unwrap(), content, "{file}");
    }
}

#[test]
fn fetched_files_that_the_agent_left_alone_stay_pointers() {
    for project in Project::for_each_remote() {
        let receiver = Receiver::start();
        let worker = project.worker(&receiver).env("DESCARTES_LFS", "true");
        let agent = "test \"$(cat a.bin)\" = content || exit 9; touch a.bin; echo more >> README";
        worker.agent(agent).run().assert_code(0);
        assert_eq!(changed_paths(&project.origin), ["README"]);
    }
}

#[test]
fn files_are_not_fetched_unless_the_setting_says_so() {
    for project in Project::for_each_remote() {
        project.run_and_assert_completed(
            "grep -q '^oid sha256:' a.bin || exit 9; echo more >> README",
        );
        assert_eq!(changed_paths(&project.origin), ["README"]);
    }
}

#[test]
fn new_and_changed_files_are_pushed_as_pointers_with_their_objects() {
    for commit in ["true", "git add -A; git commit -qm mine"] {
        for project in Project::for_each_remote() {
            let hook_file = project.origin.path("hook-ran");
            let agent = format!(
                "mkdir -p .git/hooks; for hook in pre-push post-commit; do
                   printf '#!/bin/sh\\ntouch %s\\n' {} > .git/hooks/$hook; done
                 printf changed > a.bin; printf new > new.bin; {commit}
                 chmod +x .git/hooks/*",
                quoted(&hook_file)
            );
            project.run_and_assert_completed(&agent);
            assert_eq!(
                changed_paths(&project.origin),
                ["a.bin", "new.bin"],
                "{commit}"
            );
            project.assert_pointer_and_object_are_pushed("a.bin", b"changed");
            project.assert_pointer_and_object_are_pushed("new.bin", b"new");
            assert!(!hook_file.exists(), "a hook of the agent's repository ran");
        }
    }
}

#[test]
fn a_file_larger_than_the_limit_of_git_files_is_pushed_as_a_pointer() {
    let project = Project::new(Remote::Directory);
    // In bytes; the worker pushes no file that is larger than 50 MiB.
    let size = 60 << 20;
    project.run_and_assert_completed(&format!("head -c {size} /dev/zero > new.bin"));
    project.assert_pointer_and_object_are_pushed("new.bin", &vec![0; size]);
}

#[test]
fn a_pointer_without_an_object_is_named_and_nothing_is_pushed() {
    for project in Project::for_each_remote() {
        let agent = format!("printf '{}' > new.bin", pointer(b"nowhere"));
        let message = project.run_and_assert_not_pushed(&agent);
        assert!(
            message
                .contains("neither in the agent's repository nor on the project's server: new.bin"),
            "{message}"
        );
    }
}

#[test]
fn a_pointer_whose_object_is_damaged_is_named_and_nothing_is_pushed() {
    for project in Project::for_each_remote() {
        let agent = "printf new > new.bin; git add new.bin; git commit -qm mine; rm new.bin
            find .git/lfs/objects -type f | while read file; do chmod u+w $file; printf nEw > $file; done";
        let message = project.run_and_assert_not_pushed(agent);
        assert!(
            message.contains("nor on the project's server: new.bin"),
            "{message}"
        );
        assert!(!project.object(b"new").exists());
    }
}

#[test]
fn a_pointer_whose_object_the_server_has_is_pushed() {
    for project in Project::for_each_remote() {
        store_object(&project.origin.path("project.git"), b"older");
        project.run_and_assert_completed(&format!("printf '{}' > new.bin", pointer(b"older")));
        project.assert_pointer_and_object_are_pushed("new.bin", b"older");
    }
}

#[test]
fn the_agents_configuration_does_not_send_objects_elsewhere() {
    for project in Project::for_each_remote() {
        let elsewhere = Origin::new();
        let foreign = Forge::start(&elsewhere.path(""), None);
        let url = format!("{}/project.git/info/lfs", foreign.base_url());
        let agent = format!(
            "git config lfs.url {url}; git config -f .lfsconfig lfs.url {url}
             git config remote.origin.url {}; printf new > new.bin",
            foreign.url()
        );
        project.run_and_assert_completed(&agent);
        project.assert_pointer_and_object_are_pushed("new.bin", b"new");
        let requests = foreign.requests();
        assert!(requests.is_empty(), "{requests:?}");
    }
}

#[test]
fn an_lfs_address_in_the_base_counts_only_if_it_is_on_the_projects_host() {
    let origin = Origin::new();
    let foreign = Forge::start(&origin.path(""), None);
    let other_host = format!(
        "[lfs]\n\turl = http://localhost:{}/\n",
        foreign.url().rsplit(':').next().unwrap()
    );
    for remote in [Remote::Directory, Remote::Server] {
        let project = Project::with_files(remote, &[(".lfsconfig", &other_host)]);
        let message = project.run_and_assert_not_pushed("printf new > new.bin");
        assert!(
            message.contains("would go to localhost") && message.contains("new.bin"),
            "{message}"
        );
    }
    assert!(foreign.requests().is_empty());
}

#[test]
fn an_object_with_a_secret_is_named_and_nothing_is_pushed() {
    let project = Project::new(Remote::Server);
    let agent = format!("(head -c 100000 /dev/zero; printf '{TOKEN}') > new.bin");
    let message = project.run_and_assert_not_pushed(&agent);
    assert!(
        message.contains("holding a secret that the worker knows: new.bin"),
        "{message}"
    );
    assert!(
        fs::read_dir(project.origin.path("project.git/lfs/objects"))
            .unwrap()
            .count()
            == 1
    );
}

#[test]
fn the_token_goes_to_the_projects_server_only_and_never_from_the_agents_repository() {
    let project = Project::new(Remote::Server);
    project.run_and_assert_completed("printf new > new.bin");
    let requests = project.forge.as_ref().unwrap().requests();
    let with_token = requests.iter().any(|request| {
        let is_upload = request
            .line
            .starts_with("PUT /project.git/info/lfs/objects/");
        is_upload && request.authorization.is_some()
    });
    assert!(with_token, "{requests:?}");
    let config = fs::read_to_string(project.origin.workspace().join(".git/config")).unwrap();
    assert!(!config.contains(TOKEN), "{config}");
}

#[test]
fn objects_in_the_directory_that_lfs_storage_names_are_pushed() {
    for storage in [
        "git config lfs.storage \"$PWD/../store\"",
        "git config lfs.storage store",
        "git config --global lfs.storage \"$PWD/../store\"",
        // The directory may be behind a symbolic link.
        "mkdir ../real; ln -s real ../store; git config lfs.storage \"$PWD/../store\"",
    ] {
        let project = Project::new(Remote::Directory);
        let agent = format!("{storage}; printf new > new.bin; git add -A; git commit -qm mine");
        project.run_and_assert_completed(&agent);
        assert_eq!(changed_paths(&project.origin), ["new.bin"], "{storage}");
        project.assert_pointer_and_object_are_pushed("new.bin", b"new");
    }
}

#[test]
fn links_among_the_objects_are_not_followed() {
    let commit = "printf new > new.bin; git add -A; git commit -qm mine; rm new.bin";
    for agent in [
        format!("{commit}; mv .git/lfs/objects ../moved; ln -s ../../../moved .git/lfs/objects"),
        format!(
            "{commit}; cd .git/lfs/objects; mv * ../moved; ln -s ../moved \"$(ls ../moved | cut -c1-2 | head -n 1)\""
        ),
        format!(
            "git config lfs.storage \"$PWD/../store\"; {commit}; mv ../store/objects ../moved; ln -s ../moved ../store/objects"
        ),
    ] {
        let project = Project::new(Remote::Directory);
        let message = project.run_and_assert_not_pushed(&agent);
        assert!(
            message.contains("nor on the project's server: new.bin"),
            "{message}"
        );
        assert!(!project.object(b"new").exists());
    }
}

#[test]
fn objects_that_are_too_large_together_are_not_copied() {
    let project = Project::new(Remote::Directory);
    let hash = oid(b"huge");
    let (first, second) = (&hash[..2], &hash[2..4]);
    // In bytes; the worker uploads at most 32 GiB.
    let size = 33_u64 << 30;
    let agent = format!(
        "printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:{hash}\\nsize {size}\\n' > new.bin
         mkdir -p .git/lfs/objects/{first}/{second}; truncate -s {size} .git/lfs/objects/{first}/{second}/{hash}"
    );
    let message = project.run_and_assert_not_pushed(&agent);
    assert!(
        message.contains("larger than 32 GiB together: new.bin"),
        "{message}"
    );
}

/// A project with a submodule `vendor/lib`, which has one file in Git LFS.
fn project_with_submodule() -> (Project, Origin) {
    let library = Origin::with_files(&[ATTRIBUTES, ("a.bin", &pointer(b"content"))]);
    store_object(&library.path("project.git"), b"content");
    let project = Project::new(Remote::Directory);
    let seed = project.origin.path("seed");
    let (allow, url) = ("protocol.file.allow=always", library.url());
    let add = ["submodule", "--quiet", "add", &url, "vendor/lib"];
    git(&seed, &[&["-c", allow][..], &add].concat());
    project.origin.commit(&[]);
    (project, library)
}

#[test]
fn files_of_a_submodule_are_fetched_if_both_settings_say_so() {
    for (lfs, expected) in [("true", "content"), ("false", "version")] {
        let (project, _library) = project_with_submodule();
        let receiver = Receiver::start();
        let worker = project.worker(&receiver).env("DESCARTES_LFS", lfs);
        let worker = worker.env("DESCARTES_SUBMODULES", "true");
        let agent =
            format!("grep -q '^{expected}' vendor/lib/a.bin || exit 9; echo more >> README");
        worker.agent(agent).run().assert_code(0);
        assert_eq!(changed_paths(&project.origin), ["README"], "{lfs}");
        let message = receiver.only_event("completed")["message"].to_string();
        assert!(!message.contains("vendor/lib"), "{message}");
    }
}

#[test]
fn a_changed_file_of_a_submodule_is_named() {
    for lfs in ["true", "false"] {
        let (project, _library) = project_with_submodule();
        let receiver = Receiver::start();
        let worker = project.worker(&receiver).env("DESCARTES_LFS", lfs);
        let worker = worker.env("DESCARTES_SUBMODULES", "true");
        let agent = "printf changed > vendor/lib/a.bin; echo more >> README";
        worker.agent(agent).run().assert_code(0);
        assert_eq!(changed_paths(&project.origin), ["README"], "{lfs}");
        let message = receiver.only_event("completed")["message"].to_string();
        assert!(
            message.contains("not committed inside them: vendor/lib"),
            "{message}"
        );
    }
}
