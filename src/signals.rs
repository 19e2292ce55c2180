//! Signals as an fd, for daemons with an event loop.
//!
//! The signals are blocked in the calling thread, and wait until they are taken. As everywhere, one that comes again while
//! it waits is one signal, unless it is a real-time signal; but none that came is lost.

use crate::deadline::Deadline;
use crate::step::signals::is_catchable;
use crate::sys::fd::{self, Fd};
use crate::sys::poll::{Place, poll};
use crate::sys::signal_fd;
use crate::sys::signals::{Disposition, Mask, is_ignored, set};
use core::ffi::c_int;
use core::time::Duration;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// A signal that has come. On systems without signalfd(2) only its number is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: c_int,
    /// `si_code` of sigaction(2).
    pub code: c_int,
    /// Who sent it, or the child that SIGCHLD tells of.
    pub pid: i32,
    /// As whom that runs.
    pub uid: u32,
    /// Of SIGCHLD: the exit status, or the signal.
    pub status: c_int,
    /// Of sigqueue(3).
    pub value: c_int,
}

/// Blocks the signals in the calling thread, and opens an fd that is readable when one of them has come.
///
/// Call it before there are other threads, which inherit the mask then: a thread that does not block a signal gets it.
/// So do programs that are started, unless told otherwise. Closing the fd unblocks nothing.
///
/// An ignored SIGCHLD gets its default, as the kernel would not even make one of it.
///
/// `EINVAL` for no signals, and for one that cannot be caught or belongs to libc.
pub fn open(signals: &[c_int]) -> Result<OwnedFd, Errno> {
    open_fd(signals).map(OwnedFd::from)
}

pub(crate) fn open_fd(signals: &[c_int]) -> Result<Fd, Errno> {
    if signals.is_empty() || !signals.iter().all(|&signal| is_catchable(signal)) {
        return Err(Errno::INVAL);
    }
    let fd = fd::above_stdio(signal_fd::open(signals)?)?;
    Mask::of(signals).add();
    // Of no other ignored signal does the kernel keep quiet.
    if signals.contains(&libc::SIGCHLD) && is_ignored(libc::SIGCHLD) {
        set(libc::SIGCHLD, Disposition::Default)?;
    }
    Ok(fd)
}

/// Takes the next signal: `ETIMEDOUT` when none has come in time; no limit is for ever.
pub fn next(fd: BorrowedFd<'_>, limit: Option<Duration>) -> Result<Signal, Errno> {
    signal_fd::check(fd)?;
    let deadline = Deadline::after(limit);
    while poll(&mut [Place::readable(Some(fd.as_raw_fd()))], deadline)? {
        match signal_fd::read(fd) {
            // Another thread was quicker.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::TIMEDOUT)
}
