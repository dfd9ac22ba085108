//! The kinds of isolation, and the words in the launcher's command line.

/// The hidden command that restricts itself and executes a program.
pub(super) const COMMAND: &str = "launch";
/// Before the name and the value of a variable for the program only: libraries that the loader cannot load
/// must not break bubblewrap and the launcher.
pub(super) const SET: &str = "set";
/// Before the file by which the launcher becomes a member of a control group.
pub(super) const GROUP: &str = "group";
/// Before the numbers of the program's user and group.
pub(super) const USER: &str = "user";
/// Before the program and its arguments.
pub(super) const PROGRAM: &str = "program";
/// What a test without a program adds to the number of its isolation, as its exit code. No error of
/// bubblewrap or of the launcher has such an exit code.
pub(super) const TEST_EXIT_CODE: i32 = 40;

/// What separates a program from the worker, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing but a process group.
    Off,
    /// A session without a controlling terminal.
    Session,
    /// A session, and Landlock, which refuses ptrace and the files in `/proc/<pid>` that need the same right.
    LandlockTrace,
    /// The same, and no signal reaches a process outside.
    Landlock,
    /// A PID namespace with a `/proc` for it: processes outside do not exist for the program, and all
    /// processes inside die with the first one.
    Namespace,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Off,
        Self::Session,
        Self::LandlockTrace,
        Self::Landlock,
        Self::Namespace,
    ];

    /// The word on the wire, and between the worker and the launcher.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Session => "session",
            Self::LandlockTrace => "landlock-trace",
            Self::Landlock => "landlock",
            Self::Namespace => "pid-namespace",
        }
    }

    /// What it does, as the end of a sentence about the agent.
    pub fn description(self) -> &'static str {
        match self {
            Self::Off => "can read, signal and trace every process of its user",
            Self::Session => {
                "has no terminal, but can read, signal and trace every process of its user"
            }
            Self::LandlockTrace => {
                "cannot trace or read the worker, but can see and signal it, and lower its resource limits"
            }
            Self::Landlock => {
                "can see the worker and lower its resource limits, but cannot trace, read or signal it"
            }
            Self::Namespace => "cannot see the worker, and no process of it survives",
        }
    }
}

/// The kind that a test without a program reported by its exit code.
pub fn kind_of_test(exit_code: i32) -> Option<Kind> {
    let number = usize::try_from(exit_code.checked_sub(TEST_EXIT_CODE)?).ok()?;
    Kind::ALL.get(number).copied()
}
