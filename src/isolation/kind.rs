//! The kinds of isolation, and the words in the launcher's command line.

/// The name of the hidden command (the launcher), which restricts itself and executes a program.
pub(super) const LAUNCH_COMMAND: &str = "launch";
/// The word before the name and the value of a variable for the program alone. In the environment of bubblewrap and
/// the launcher, a variable of the loader such as `LD_PRELOAD` could break them.
pub(super) const SET_WORD: &str = "set";
/// The word before the file to which the launcher writes to become a member of a control group.
pub(super) const GROUP_WORD: &str = "group";
/// The word before the ids of the program's user and group.
pub(super) const USER_WORD: &str = "user";
/// The word before the program and its arguments.
pub(super) const PROGRAM_WORD: &str = "program";
/// A launcher without a program only tests the isolation. Its exit code is this number plus the index of the kind in
/// [`Kind::ALL`]. No error of bubblewrap or of the launcher has such an exit code.
pub(super) const TEST_EXIT_CODE: i32 = 40;

/// What separates a program from the worker, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing but a process group.
    Off,
    /// A session without a controlling terminal.
    Session,
    /// A session, and Landlock, which forbids ptrace and the files in `/proc/<pid>` that need the same right.
    LandlockTrace,
    /// Like `LandlockTrace`, and Landlock also forbids signals to processes outside.
    Landlock,
    /// A PID namespace with a `/proc` for it: processes outside do not exist for the program, and all
    /// processes inside die with the first one.
    Namespace,
}

impl Kind {
    /// Every kind, the weakest first.
    pub const ALL: [Self; 5] = [
        Self::Off,
        Self::Session,
        Self::LandlockTrace,
        Self::Landlock,
        Self::Namespace,
    ];

    /// The word in the protocol, and in the launcher's command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Session => "session",
            Self::LandlockTrace => "landlock-trace",
            Self::Landlock => "landlock",
            Self::Namespace => "pid-namespace",
        }
    }

    /// Completes a sentence that begins with "the agent": what it can do to the worker and what it cannot.
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

/// The kind that a launcher without a program reported by its exit code.
pub fn kind_from_exit_code(exit_code: i32) -> Option<Kind> {
    let number = usize::try_from(exit_code.checked_sub(TEST_EXIT_CODE)?).ok()?;
    Kind::ALL.get(number).copied()
}
