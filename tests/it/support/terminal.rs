//! A pseudo-terminal for a worker. Does not use script(1), which not every machine has.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::emulator::RESIZE_MARK;
use super::{RunningWorker, wait_until};

/// The number of lines of each window.
pub const LINES: u16 = 24;

/// A pseudo-terminal: the side of the program, and the side of the person who uses it.
pub struct Terminal {
    person: File,
    program: File,
}

impl Terminal {
    pub fn with_columns(columns: u16) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&person).expect("grantpt");
        unlockpt(&person).expect("unlockpt");
        let name = ptsname(&person, Vec::new()).expect("a name");
        let name = PathBuf::from(name.into_string().expect("UTF-8"));
        // Without NOCTTY, a test process without a controlling terminal would get this one, and would be ended with it.
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let program = open(&name, flags, Mode::empty()).expect("the program's side");
        set_columns(&program, columns);
        Self {
            person: File::from(person),
            program: File::from(program),
        }
    }

    /// A handle that changes the width of the window. It keeps the terminal open: the output of the program ends only after
    /// the handle is dropped.
    pub fn resizer(&self) -> Resizer {
        Resizer(self.program.try_clone().expect("another handle"))
    }

    /// Connects the three standard streams of a command to the terminal; returns the file to read its output from.
    pub fn attach(self, command: &mut Command) -> File {
        let another = || self.program.try_clone().expect("another handle");
        command.stdin(another()).stdout(another()).stderr(another());
        self.person
    }
}

/// Changes the width of a terminal's window.
pub struct Resizer(File);

impl Resizer {
    /// Changes the width while the program is stopped by SIGSTOP, and writes a mark into its output, so that the
    /// [`Emulator`](super::Emulator) knows at which place the width changed.
    pub fn set_columns(&mut self, columns: u16, running: &RunningWorker) {
        running.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", running.pid().as_raw_nonzero());
        wait_until("the program to stop", || {
            let stat = std::fs::read_to_string(&stat).expect("the program is there");
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" T"))
        });
        write!(self.0, "\x1b]{RESIZE_MARK}{columns}\x07").expect("the mark");
        set_columns(&self.0, columns);
        running.signal(Signal::CONT);
    }
}

/// Sets the width of a terminal's window.
fn set_columns(program: impl AsFd, columns: u16) {
    let size = Winsize {
        ws_row: LINES,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(program.as_fd(), size).expect("a size");
}
