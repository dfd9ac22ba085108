//! Descriptors that a child process inherits next to its standard streams.
//!
//! Everything else that this process opens is closed in its children.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::{FdFlags, dup2, fcntl_dupfd_cloexec, fcntl_setfd};

/// The smallest number that is reserved: 0 to 2 are the standard streams.
const FIRST_NUMBER: RawFd = 3;
/// The largest number that is reserved: POSIX shells redirect only numbers with one digit.
const LAST_NUMBER: RawFd = 9;

/// The descriptor whose number is reserved for [`Inherited::reserved`]. Between two uses, it is a copy of standard
/// input.
static RESERVED: Mutex<Option<OwnedFd>> = Mutex::new(None);

fn reserved() -> MutexGuard<'static, Option<OwnedFd>> {
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reserves a number for [`Inherited`]. Must be called before this process opens anything, because the
/// small numbers are used first.
pub fn reserve() {
    let copy = fcntl_dupfd_cloexec(io::stdin(), FIRST_NUMBER);
    *reserved() = copy.ok().filter(|copy| copy.as_raw_fd() <= LAST_NUMBER);
}

/// The number of [`Inherited::reserved`] in the child.
///
/// # Errors
/// If this process was started with all small numbers in use.
pub fn reserved_number() -> io::Result<RawFd> {
    let number = reserved().as_ref().map(AsRawFd::as_raw_fd);
    number.ok_or_else(|| {
        io::Error::other(format!(
            "the descriptors {FIRST_NUMBER} to {LAST_NUMBER} were all open when the worker started, and it needs one; \
             close one, for example by `{LAST_NUMBER}<&-` behind the command"
        ))
    })
}

/// The descriptors that a child process inherits.
#[derive(Debug)]
pub struct Inherited {
    /// A descriptor that has the number [`reserved_number`] in the child.
    pub reserved: OwnedFd,
    /// A file that has the same number in the child as in this process.
    pub file: Option<File>,
}

impl Inherited {
    /// Lets children inherit the descriptors until the result is dropped: it must be dropped directly
    /// after the start of the child, before anything else is started.
    pub fn lend(&self) -> io::Result<Lent<'_>> {
        let mut lent = Lent {
            reserved: reserved(),
            file: self.file.as_ref(),
        };
        let target = lent.reserved.as_mut();
        let target = target.ok_or_else(|| io::Error::other("no descriptor is reserved"))?;
        dup2(&self.reserved, target)?;
        if let Some(file) = &self.file {
            fcntl_setfd(file, FdFlags::empty())?;
        }
        lent.file = self.file.as_ref();
        Ok(lent)
    }
}

/// Descriptors that children inherit while this exists.
pub struct Lent<'a> {
    reserved: MutexGuard<'static, Option<OwnedFd>>,
    file: Option<&'a File>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // None of these calls can fail for descriptors that are open.
        if let Some(reserved) = self.reserved.as_mut() {
            let _ = fcntl_setfd(&*reserved, FdFlags::CLOEXEC);
            let _ = dup2(io::stdin(), reserved);
            let _ = fcntl_setfd(&*reserved, FdFlags::CLOEXEC);
        }
        if let Some(file) = self.file {
            let _ = fcntl_setfd(file, FdFlags::CLOEXEC);
        }
    }
}
