//! Isolates the worker from the agent, the checks and all other programs that run the project's code.
//!
//! The worker starts such a program through a hidden command of its own binary. That command restricts
//! itself and then executes the program, so that no code runs between fork and exec. Knows no agents
//! and no settings of a run.

mod control_group;
mod guess;
mod init;
mod kind;
mod launcher;
mod socket;
mod user;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::environment::{Variables, value_of};
use crate::programs;
pub use control_group::{ControlGroup, describe_limits};
use kind::{GROUP_WORD, LAUNCH_COMMAND, PROGRAM_WORD, SET_WORD, USER_WORD};
pub use kind::{Kind, kind_from_exit_code};
pub use launcher::run_if_requested;
pub use socket::{Message, WorkerSocket};
pub use user::User;

/// Which kinds of isolation the operator accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The strongest that this machine allows.
    Auto,
    /// Only a PID namespace. If none can be made, the run does not start.
    Strict,
    /// No isolation, even if the machine allows it.
    Off,
}

/// How programs are isolated in this run. Cheap to clone; all clones share the result of the test.
#[derive(Debug, Clone)]
pub struct Isolation {
    pub mode: Mode,
    /// The user of isolated programs, if it is not the worker's.
    pub user: Option<User>,
    /// The path of bubblewrap.
    bubblewrap: Option<PathBuf>,
    /// The kind that this machine allows; `None` before [`Isolation::set_tested_kind`].
    tested_kind: Arc<Mutex<Option<Kind>>>,
}

impl Isolation {
    /// Looks for bubblewrap on the search path; starts nothing.
    pub fn new(mode: Mode, user: Option<User>, path: &OsStr) -> Self {
        let bubblewrap = match mode {
            Mode::Off => None,
            Mode::Auto | Mode::Strict => programs::on_path(path, "bwrap"),
        };
        Self {
            mode,
            user,
            bubblewrap,
            tested_kind: Arc::default(),
        }
    }

    /// The isolation of this run; before [`Self::set_tested_kind`], a guess from the machine's settings.
    pub fn kind(&self) -> Kind {
        let tested_kind = *self
            .tested_kind
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tested_kind.unwrap_or_else(|| match self.mode {
            Mode::Off => Kind::Off,
            Mode::Auto | Mode::Strict => guess::guess_kind(self.bubblewrap.is_some()),
        })
    }

    /// Sets the kind that works according to a test.
    pub fn set_tested_kind(&self, kind: Kind) {
        *self
            .tested_kind
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(kind);
    }

    /// Completes a sentence that begins with "the agent": what it can do to the worker and what it cannot.
    pub fn description(&self) -> String {
        let description = self.kind().description();
        match &self.user {
            None => description.to_owned(),
            Some(user) if self.kind() == Kind::Namespace => {
                format!("runs as the user {}, and {description}", user.name)
            }
            Some(user) => format!(
                "runs as the user {}, and can see the worker, but cannot trace, read or signal it",
                user.name
            ),
        }
    }

    /// How to start a program; `None` if it is started without isolation.
    pub fn launch(&self) -> Option<Launch> {
        self.launch_as(self.kind())
    }

    /// How to start a program with an isolation of this kind; `None` for [`Kind::Off`], and for [`Kind::Namespace`]
    /// without bubblewrap. For each kind between these two, the launcher uses the strongest one that the kernel
    /// supports.
    pub fn launch_as(&self, kind: Kind) -> Option<Launch> {
        let bubblewrap = match kind {
            Kind::Off => return None,
            Kind::Namespace => Some(self.bubblewrap.clone()?),
            Kind::Session | Kind::LandlockTrace | Kind::Landlock => None,
        };
        Some(Launch {
            bubblewrap,
            user: self.user.clone(),
        })
    }
}

/// How the worker starts one program in isolation.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The path of bubblewrap, for a PID namespace.
    bubblewrap: Option<PathBuf>,
    /// The program's user, if it is not the worker's.
    pub user: Option<User>,
}

/// A command line that starts a program in isolation, and the resources that it needs.
#[derive(Debug)]
pub struct PreparedLaunch {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// The launcher's standard input: a socket, over which it receives the program's standard input.
    pub stdin: OwnedFd,
    /// The worker's end of the socket: receives the launcher's messages.
    pub socket: WorkerSocket,
    /// Whether the program runs in a PID namespace.
    pub is_namespace: bool,
    /// The control group of the program and of everything that it starts. `None` with a PID namespace, which does not
    /// need one, and if the worker may not make one.
    pub control_group: Option<ControlGroup>,
    /// The worker's own program, if the launcher cannot be started by its path.
    own_program_file: Option<File>,
}

impl Launch {
    /// Prepares the start of a program. Moves the dynamic loader's variables (`LD_*`) from `environment` to the
    /// launcher's arguments, so that they affect only the program, and not bubblewrap and the launcher.
    pub fn prepare(
        &self,
        program: OsString,
        args: Vec<OsString>,
        stdin: Option<&File>,
        environment: &mut Variables,
    ) -> io::Result<PreparedLaunch> {
        // bubblewrap sets PWD. The launcher removes it if the program should have none.
        let has_pwd = value_of(environment, "PWD").is_some();
        let (socket, launcher_socket) = WorkerSocket::pair()?;
        socket.send_stdin(stdin)?;
        let (mut launch_args, mut own_program_file) = (Vec::new(), None);
        let (first_program, kind) = if let Some(bubblewrap) = &self.bubblewrap {
            launch_args.extend(NAMESPACE_OPTIONS.map(Into::into));
            if let Some(path) = path_of_own_program() {
                launch_args.push(path.into());
            } else {
                let own_program = own_program_file.insert(File::open(programs::own_executable()?)?);
                launch_args.push(format!("/proc/self/fd/{}", own_program.as_raw_fd()).into());
            }
            (bubblewrap.clone(), Kind::Namespace)
        } else {
            (programs::own_executable()?, Kind::Landlock)
        };
        launch_args.extend(
            [
                LAUNCH_COMMAND,
                kind.word(),
                if has_pwd { "pwd" } else { "no-pwd" },
            ]
            .map(Into::into),
        );
        if let Some(User { uid, gid, .. }) = &self.user {
            launch_args.extend([
                USER_WORD.into(),
                uid.to_string().into(),
                gid.to_string().into(),
            ]);
        }
        let control_group = match self.bubblewrap {
            Some(_) => None,
            None => ControlGroup::create(),
        };
        if let Some(group) = &control_group {
            launch_args.extend([GROUP_WORD.into(), group.members_file().into()]);
        }
        // Only a test has no program.
        if !program.is_empty() {
            let is_for_loader =
                |(name, _): &mut (OsString, OsString)| name.as_encoded_bytes().starts_with(b"LD_");
            for (name, value) in environment.extract_if(.., is_for_loader) {
                launch_args.extend([SET_WORD.into(), name, value]);
            }
            launch_args.extend([PROGRAM_WORD.into(), program]);
            launch_args.extend(args);
        }
        Ok(PreparedLaunch {
            program: first_program,
            args: launch_args,
            stdin: launcher_socket.into(),
            socket,
            is_namespace: self.bubblewrap.is_some(),
            control_group,
            own_program_file,
        })
    }
}

impl PreparedLaunch {
    /// Makes the descriptor that the launcher needs inheritable. Must be called directly before the start. Until this
    /// value is dropped, no other program may be started, because it would inherit the descriptor too.
    pub fn make_descriptor_inheritable(&self) -> io::Result<()> {
        let file = self.own_program_file.as_ref();
        file.map_or(Ok(()), |file| Ok(fcntl_setfd(file, FdFlags::empty())?))
    }
}

/// The path of the worker's program, if that file still exists. Inside the namespace, the path is needed because
/// /proc/self/exe is bubblewrap there.
fn path_of_own_program() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?;
    let at_path = fs::metadata(&path).ok()?;
    let running = fs::metadata(programs::own_executable().ok()?).ok()?;
    ((at_path.dev(), at_path.ino()) == (running.dev(), running.ino())).then_some(path)
}

/// bubblewrap's options for a PID namespace that sees the machine's files and devices as they are. The
/// launcher is its first process.
const NAMESPACE_OPTIONS: [&str; 9] = [
    "--unshare-pid",
    "--die-with-parent",
    "--dev-bind",
    "/",
    "/",
    "--proc",
    "/proc",
    "--as-pid-1",
    "--",
];
