//! Descriptors that a child process inherits next to its standard streams.
//!
//! All other descriptors of this process are close-on-exec, so its children do not have them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::{FdFlags, dup2, fcntl_dupfd_cloexec, fcntl_setfd};

/// The smallest number that is reserved: 0 to 2 are the standard streams.
const FIRST_NUMBER: RawFd = 3;
/// The largest number that is reserved: POSIX shells redirect only numbers with one digit.
const LAST_NUMBER: RawFd = 9;

/// Keeps the number [`reserved_number`] in use, so that nothing else gets it. While no child is being started, it is a
/// copy of standard input.
static PLACEHOLDER: Mutex<Option<OwnedFd>> = Mutex::new(None);

fn lock_placeholder() -> MutexGuard<'static, Option<OwnedFd>> {
    PLACEHOLDER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reserves a number for [`Inherited::at_reserved_number`]. Must be called before this process opens anything, because
/// the kernel assigns the small numbers first.
pub fn reserve_number() {
    let copy = fcntl_dupfd_cloexec(io::stdin(), FIRST_NUMBER);
    *lock_placeholder() = copy.ok().filter(|copy| copy.as_raw_fd() <= LAST_NUMBER);
}

/// The number of [`Inherited::at_reserved_number`] in the child.
///
/// # Errors
/// If this process was started with all small numbers in use.
pub fn reserved_number() -> io::Result<RawFd> {
    let number = lock_placeholder().as_ref().map(AsRawFd::as_raw_fd);
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
    pub at_reserved_number: OwnedFd,
    /// A file that has the same number in the child as in this process.
    pub file: Option<File>,
}

impl Inherited {
    /// Lets children inherit the descriptors until the result is dropped: it must be dropped directly
    /// after the start of the child, before anything else is started.
    pub fn let_children_inherit(&self) -> io::Result<InheritanceGuard<'_>> {
        let mut guard = InheritanceGuard {
            placeholder: lock_placeholder(),
            file: self.file.as_ref(),
        };
        let target = guard.placeholder.as_mut();
        let target = target.ok_or_else(|| io::Error::other("no descriptor is reserved"))?;
        dup2(&self.at_reserved_number, target)?;
        if let Some(file) = &self.file {
            fcntl_setfd(file, FdFlags::empty())?;
        }
        Ok(guard)
    }
}

/// While this exists, children inherit the descriptors.
pub struct InheritanceGuard<'a> {
    placeholder: MutexGuard<'static, Option<OwnedFd>>,
    file: Option<&'a File>,
}

impl Drop for InheritanceGuard<'_> {
    fn drop(&mut self) {
        // None of these calls can fail for descriptors that are open.
        if let Some(placeholder) = self.placeholder.as_mut() {
            let _ = fcntl_setfd(&*placeholder, FdFlags::CLOEXEC);
            let _ = dup2(io::stdin(), placeholder);
            let _ = fcntl_setfd(&*placeholder, FdFlags::CLOEXEC);
        }
        if let Some(file) = self.file {
            let _ = fcntl_setfd(file, FdFlags::CLOEXEC);
        }
    }
}
