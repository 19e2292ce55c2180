//! The two locks of an open pidfile, and what they say.

use super::State;
use rustix::fd::BorrowedFd;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The state of an open pidfile. The shared flock is tried only when the kernel knows no holder, and a starter that
/// meets it tries again.
pub(super) fn state(file: BorrowedFd<'_>, written: i32) -> Result<State, Errno> {
    if let Some(pid) = process_lock_holder(file)? {
        return Ok(State::Running(pid));
    }
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(State::Free),
        // Between the two looks the daemon may have taken its process lock.
        Err(Errno::WOULDBLOCK) => {
            Ok(process_lock_holder(file)?.or(best_effort(written)).map_or(State::Held, State::Running))
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(target_os = "linux")]
pub(super) fn lock_for_process(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let locked = loop {
        match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
            // A signal came before a remote file system was asked.
            Err(Errno::INTR) => {}
            result => break result,
        }
    };
    match locked {
        Ok(()) => Ok(()),
        Err(Errno::BADF) => Err(Errno::BADF),
        Err(errno @ (Errno::AGAIN | Errno::ACCESS)) => match process_lock_holder(file)? {
            Some(_) => Err(Errno::EXIST),
            None if is_confused(file)? => Ok(()),
            // Somebody who may only read the file has a read lock on it.
            None => Err(errno),
        },
        // A file system without process locks.
        Err(_) => Ok(()),
    }
}

/// Elsewhere flock(2) is the same lock.
#[cfg(not(target_os = "linux"))]
pub(super) fn lock_for_process(_file: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(())
}

/// The process that holds the process lock, as the kernel knows it.
#[cfg(target_os = "linux")]
pub(super) fn process_lock_holder(file: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    // A holder outside of this pid namespace has pid 0 here, and an open-file lock has -1.
    crate::sys::fd::write_lock_holder(file).map(|holder| holder.filter(|&pid| pid > 0))
}

/// The process that holds the process lock, which is nobody here.
#[cfg(not(target_os = "linux"))]
pub(super) fn process_lock_holder(_file: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    Ok(None)
}

/// The written pid, where there are no process locks.
fn best_effort(written: i32) -> Option<i32> {
    (cfg!(not(target_os = "linux")) && written > 0).then_some(written)
}

/// Whether another process has the process lock.
#[cfg(target_os = "linux")]
pub(super) fn is_taken(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(crate::sys::fd::write_lock_holder(file)?.is_some() && !is_confused(file)?)
}

/// Whether the file system cannot tell a process lock from our own flock.
#[cfg(target_os = "linux")]
fn is_confused(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    rustix::fs::fstatfs(file).map(|stat| stat.f_type == rustix::fs::NFS_SUPER_MAGIC)
}

/// Whether another process has the process lock, which nobody has here.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_taken(_file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(false)
}
