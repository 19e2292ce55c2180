//! The directory of a pidfile: where the file is made and removed, and where a daemon that ends holds off the next.
//!
//! A removed pidfile's locks are nobody's to meet any more, while the daemon that removed it still lives for a moment. So
//! before it removes the file it takes a shared flock(2) on the directory, which ends with it; and who makes a new pidfile
//! takes the exclusive one for that. Anybody who may read the directory can hold it as well, so it is waited for, but
//! not for ever.

use super::NAME_SIZE;
use crate::deadline::{Deadline, pause};
use crate::sys::cstr::{at_start_of, split_path};
use crate::sys::fd::{self, Fd};
use core::ffi::{CStr, c_char};
use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// The directory of a path, and the name within it.
pub(super) fn open(path: &CStr) -> Result<(Fd, &CStr), Errno> {
    const PATH_SIZE: usize = 4096;
    let (directory, name) = split_path(path);
    if name.to_bytes_with_nul().len() > NAME_SIZE {
        return Err(Errno::NAMETOOLONG);
    }
    if name.is_empty() {
        return Err(if directory.is_empty() { Errno::NOENT } else { Errno::ISDIR });
    }
    let mut buffer = [0 as c_char; PATH_SIZE];
    let directory = if directory.is_empty() { &b"."[..] } else { directory };
    for (place, &byte) in buffer.iter_mut().zip(directory) {
        *place = byte as c_char;
    }
    let directory = at_start_of(&buffer).ok_or(Errno::NAMETOOLONG)?;
    #[cfg(target_os = "linux")]
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    #[cfg(not(target_os = "linux"))]
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    Ok((fd::open(CWD, directory, flags, Mode::empty())?, name))
}

/// No daemon of this directory that removed its pidfile is alive as long as the result is, or it took too long.
pub(super) fn wait_for_the_ending(directory: BorrowedFd<'_>) -> Option<Fd> {
    lock(directory, FlockOperation::NonBlockingLockExclusive, Deadline::milliseconds(1000))
}

/// Locks the directory until this process ends or closes the fd, which becomes another open file description of the
/// same directory: workers have inherited the old one, and would keep the lock.
pub(super) fn hold_off_starts(directory: RawFd) {
    let Ok(lent) = fd::borrow(directory) else { return };
    if let Some(own) = lock(lent, FlockOperation::NonBlockingLockShared, Deadline::milliseconds(100)) {
        let _ = fd::replace(directory, &own);
    }
}

#[inline(never)]
fn lock(directory: BorrowedFd<'_>, operation: FlockOperation, patience: Deadline) -> Option<Fd> {
    let own = fd::open(directory, c".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).ok()?;
    loop {
        match rustix::fs::flock(own.lend(), operation) {
            Ok(()) => return Some(own),
            Err(Errno::WOULDBLOCK) if !patience.has_passed() => pause(),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}
