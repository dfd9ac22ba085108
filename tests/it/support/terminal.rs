//! A pseudo-terminal for a worker. Does not use script(1), which not every machine has.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal: the side of the program, and the side of the person who uses it.
pub struct Terminal {
    person: File,
    program: File,
}

impl Terminal {
    pub fn with_columns(columns: u16) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&person).expect("the terminal is ours");
        unlockpt(&person).expect("the terminal opens");
        let name = ptsname(&person, Vec::new()).expect("a name");
        let name = PathBuf::from(name.into_string().expect("UTF-8"));
        // Without NOCTTY, a test process without a controlling terminal would get this one, and would be ended with it.
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let program = open(&name, flags, Mode::empty()).expect("the program's side");
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(program.as_fd(), size).expect("a size");
        Self {
            person: File::from(person),
            program: File::from(program),
        }
    }

    /// Connects the three standard streams of a command to the terminal; returns the file to read its output from.
    pub fn attach(self, command: &mut Command) -> File {
        let another = || self.program.try_clone().expect("another handle");
        command.stdin(another()).stdout(another()).stderr(another());
        self.person
    }
}
