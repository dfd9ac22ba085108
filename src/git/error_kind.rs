//! The kinds of errors that git's messages describe. They decide whether the same call can succeed later.

/// The kind of the error of a failed call. It decides whether another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitErrorKind {
    /// The same call fails again until a person changes something. The text describes the error.
    Permanent(&'static str),
    /// The disk of this machine is full; another machine may have room.
    DiskFull,
    /// Another branch has a conflicting name: git cannot store both branches `a` and `a/b`.
    BranchConflict,
    /// Everything else: the connection, a server's error, a timeout.
    Transient,
}

/// Each kind, and phrases of git or a forge that show it, in lower case. The first entry that matches decides, so more
/// specific phrases come first.
const PHRASES: &[(GitErrorKind, &[&str])] = &[
    (
        GitErrorKind::BranchConflict,
        &[
            "directory file conflict",
            "' exists; cannot create 'refs/heads/",
            "blocking reference 'refs/heads/",
            "refname conflict",
        ],
    ),
    (
        GitErrorKind::Permanent("git may have been changed by the agent"),
        &["so it gets no credential"],
    ),
    (
        GitErrorKind::Permanent("the remote's quota is used up"),
        &[
            "quota exceeded",
            "over its quota",
            "exceeded its storage",
            "repository size limit",
            "over the size quota",
            "exceeded its size limit",
            "disk quota exceeded",
            "over its data quota",
            "exceeded its lfs budget",
        ],
    ),
    (GitErrorKind::DiskFull, &["no space left on device"]),
    (
        GitErrorKind::Permanent("the token lacks the `workflow` scope"),
        &["without `workflow` scope", "without `workflows` permission"],
    ),
    (
        GitErrorKind::Permanent("the branch is protected"),
        &[
            "protected branch",
            "gh006",
            "gh013",
            "you are not allowed to push code to protected branches",
        ],
    ),
    (
        GitErrorKind::Permanent("a hook of the remote declined"),
        &["hook declined", "deny updating a hidden ref"],
    ),
    (
        GitErrorKind::Permanent("the remote refused the credentials"),
        &[
            "authentication failed",
            // git-lfs:
            "authentication required",
            "authorization error:",
            "could not read username",
            "could not read password",
            "invalid credentials",
            "permission denied (",
            "http basic: access denied",
            "the requested url returned error: 401",
            "the requested url returned error: 403",
            "host key verification failed",
        ],
    ),
    (
        GitErrorKind::Permanent("the remote does not allow this"),
        &[
            "permission to ",
            "write access to repository not granted",
            "you are not allowed to",
            "not permitted",
        ],
    ),
    (
        GitErrorKind::Permanent("there is no such repository"),
        &[
            "does not appear to be a git repository",
            "repository not found",
            "repository or object not found",
            "the project you were looking for could not be found",
            "the requested url returned error: 404",
            "the requested url returned error: 410",
            "unable to find remote helper",
            "transport '",
        ],
    ),
    (
        GitErrorKind::Permanent("there is no such branch, tag or commit"),
        &[
            "couldn't find remote ref",
            "not our ref",
            "unadvertised object",
            "no such remote ref",
            "is not a commit and a branch",
        ],
    ),
    (
        GitErrorKind::Permanent("a branch and a tag have the same name"),
        &["is ambiguous: write refs/"],
    ),
    (
        GitErrorKind::Permanent("git-lfs is missing"),
        &["there is no git-lfs on the path"],
    ),
    (
        GitErrorKind::Permanent("the ssh server has no Git LFS"),
        &[
            "git-lfs-authenticate: command not found",
            "git-lfs-authenticate: not found",
            "unrecognized command 'git-lfs-authenticate",
        ],
    ),
    (
        GitErrorKind::Permanent("the repository belongs to another user"),
        &["dubious ownership"],
    ),
    (
        GitErrorKind::Permanent("the certificate is not trusted"),
        &[
            "server certificate verification failed",
            "ssl certificate problem",
            "ssl_cacert_badfile",
            "error setting certificate",
        ],
    ),
];

impl GitErrorKind {
    /// The kind that the messages of a failed call describe.
    pub fn of(messages: &str) -> Self {
        let messages = messages.to_lowercase();
        let contains = |phrase: &&str| messages.contains(phrase);
        // If two pushes change a reference at the same time, the message can contain a phrase of `BranchConflict`.
        let race_phrases = ["but expected", "reference already exists", "incorrect old"];
        let is_race = race_phrases.iter().any(contains);
        let found = PHRASES.iter().find(|(kind, phrases)| {
            phrases.iter().any(contains) && !(is_race && *kind == Self::BranchConflict)
        });
        found.map_or(Self::Transient, |(kind, _)| *kind)
    }

    /// Every kind in the table of phrases: all except `Transient`.
    pub fn all() -> impl Iterator<Item = Self> {
        PHRASES.iter().map(|(kind, _)| *kind)
    }

    /// Whether the same task may succeed on another machine or later.
    pub fn is_retryable(self) -> bool {
        !matches!(self, Self::Permanent(_))
    }

    /// Whether the same call may succeed on this machine in a moment.
    pub fn is_transient(self) -> bool {
        self == Self::Transient
    }

    /// A description for messages; `None` for `Transient`.
    pub fn phrase(self) -> Option<&'static str> {
        match self {
            Self::Permanent(phrase) => Some(phrase),
            Self::DiskFull => Some("the disk is full"),
            Self::BranchConflict => Some("another branch's name is in the way"),
            Self::Transient => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_errors_are_recognized_by_the_messages_of_git_and_of_forges() {
        for (messages, phrase) in [
            (
                "remote: HTTP Basic: Access denied\nfatal: Authentication failed for 'https://x/'",
                "the remote refused the credentials",
            ),
            (
                "fatal: could not read Username for 'https://x': terminal prompts disabled",
                "the remote refused the credentials",
            ),
            (
                "git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.",
                "the remote refused the credentials",
            ),
            (
                "remote: Repository not found.\nfatal: repository 'https://x/' not found",
                "there is no such repository",
            ),
            (
                "fatal: '/x' does not appear to be a git repository",
                "there is no such repository",
            ),
            (
                "fatal: couldn't find remote ref nobody",
                "there is no such branch, tag or commit",
            ),
            (
                "remote: error: GH006: Protected branch update failed for refs/heads/main.\n! [remote rejected] main -> main (protected branch hook declined)",
                "the branch is protected",
            ),
            (
                "! [remote rejected] x -> x (pre-receive hook declined)",
                "a hook of the remote declined",
            ),
            (
                "! [remote rejected] x (refusing to allow a Personal Access Token to create or update workflow `.github/workflows/ci.yml` without `workflow` scope)",
                "the token lacks the `workflow` scope",
            ),
            (
                "remote: Your push has been rejected: Quota exceeded for this project",
                "the remote's quota is used up",
            ),
            (
                "fatal: detected dubious ownership in repository at '/srv/x'",
                "the repository belongs to another user",
            ),
            (
                "batch request: fatal: unrecognized command 'git-lfs-authenticate /x upload': exit status 128",
                "the ssh server has no Git LFS",
            ),
        ] {
            assert_eq!(
                GitErrorKind::of(messages),
                GitErrorKind::Permanent(phrase),
                "{messages}"
            );
            assert!(!GitErrorKind::of(messages).is_retryable());
        }
    }

    #[test]
    fn errors_that_may_pass_are_transient() {
        for messages in [
            "fatal: unable to access 'https://x/': The requested URL returned error: 503",
            "fatal: unable to access 'https://x/': Empty reply from server",
            "fatal: unable to access 'https://x/': Could not resolve host: x",
            "error: RPC failed; curl 28 Operation too slow",
            "ssh: connect to host x port 22: Connection refused",
            "! [remote rejected] x -> x (cannot lock ref 'refs/heads/x': is at 1 but expected 2)",
            "! [remote rejected] x -> x (cannot lock ref 'refs/heads/x': Unable to create '/srv/x.lock': File exists.)",
            "fatal: cannot lock ref 'refs/heads/a/b': unable to create directory for .git/refs/heads/a/b",
            "",
        ] {
            assert!(GitErrorKind::of(messages).is_transient(), "{messages}");
        }
    }

    #[test]
    fn a_local_permission_error_is_not_taken_for_rejected_credentials() {
        let denied = std::io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
        let error = crate::git::GitError::from_io("init", "could not make it", &denied);
        assert_eq!(error.messages, "Permission denied");
        assert_eq!(error.kind(), GitErrorKind::Transient);
        let refused = "git@host: Permission denied (publickey,password).";
        assert!(!GitErrorKind::of(refused).is_transient());
    }

    #[test]
    fn a_full_disk_and_a_conflicting_branch_name_are_separate_kinds() {
        let full = "error: unable to write file README: No space left on device";
        assert_eq!(GitErrorKind::of(full), GitErrorKind::DiskFull);
        let conflict = "! [remote rejected] a/b -> a/b (cannot lock ref 'refs/heads/a/b': 'refs/heads/a' exists; cannot create 'refs/heads/a/b')";
        assert_eq!(GitErrorKind::of(conflict), GitErrorKind::BranchConflict);
        let conflict = "error: cannot lock ref 'refs/heads/a': there is a non-empty directory '/srv/refs/heads/a' blocking reference 'refs/heads/a'";
        assert_eq!(GitErrorKind::of(conflict), GitErrorKind::BranchConflict);
        let conflict = "! [remote rejected] a -> a (directory file conflict)";
        assert_eq!(GitErrorKind::of(conflict), GitErrorKind::BranchConflict);
    }
}
