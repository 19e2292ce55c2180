//! Environment variables by which a service manager speaks to this very process.

use crate::sys::env;
use core::ffi::CStr;
use rustix::io::Errno;
use rustix::process::getpid;

pub(crate) fn is_set(name: &CStr) -> bool {
    env::with(name, |_| ()).is_some()
}

/// A number: `EINVAL` for a value that is none.
pub(crate) fn number(name: &CStr) -> Result<Option<u64>, Errno> {
    env::with(name, |value| crate::decimal::parse(value.to_bytes()).ok_or(Errno::INVAL)).transpose()
}

/// Whether the variable is there, and has this process's number.
pub(crate) fn is_own_pid(name: &CStr) -> Result<bool, Errno> {
    Ok(number(name)?.is_some_and(|number| number == u64::from(getpid().as_raw_pid().unsigned_abs())))
}

/// The inode of a pidfd on pidfs tells a process from one that had the same pid; absent, or on an older kernel, the
/// pid must do.
pub(crate) fn is_own_pidfd_id(name: &CStr) -> Result<bool, Errno> {
    let Some(id) = number(name)? else { return Ok(true) };
    Ok(own_pidfd_id()?.is_none_or(|own| own == id))
}

#[cfg(target_os = "linux")]
fn own_pidfd_id() -> Result<Option<u64>, Errno> {
    const PIDFS_MAGIC: u64 = 0x5049_4446;
    let pidfd = match crate::sys::fd::pidfd_open(getpid().as_raw_pid()) {
        Err(Errno::NOSYS | Errno::PERM) => return Ok(None),
        result => result?,
    };
    let on_pidfs = rustix::fs::fstatfs(pidfd.lend())?.f_type as u64 == PIDFS_MAGIC;
    let stat = rustix::fs::fstat(pidfd.lend())?;
    Ok(on_pidfs.then_some(stat.st_ino as u64))
}

#[cfg(not(target_os = "linux"))]
fn own_pidfd_id() -> Result<Option<u64>, Errno> {
    Ok(None)
}
