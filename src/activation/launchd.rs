//! launch_activate_socket(3): the sockets of a name in the job's property list.

use super::{Socket, Source, Visit, set_collected};
use crate::sys::fd;
use crate::sys::launchd;
use core::ffi::CStr;
use rustix::fd::RawFd;
use rustix::io::{Errno, FdFlags};

/// `ESRCH`: launchd has not started this process. launchd itself refuses a name that was asked for before.
pub(super) fn collect(name: &CStr, visit: Visit<'_>) -> Result<(), Errno> {
    let mut sockets = launchd::activate(name)?;
    set_collected();
    let mut moved = Ok(());
    for number in sockets.numbers() {
        moved = moved.and(leave_stdio(number));
        rustix::io::fcntl_setfd(fd::borrow(*number)?, FdFlags::CLOEXEC)?;
    }
    moved?;
    let mut goes_on = true;
    for &mut number in sockets.numbers() {
        goes_on = goes_on && visit(&Socket::new(fd::borrow(number)?, Source::Launchd, name)?);
    }
    Ok(())
}

/// Where there is no other number for it, it stays open.
fn leave_stdio(number: &mut RawFd) -> Result<(), Errno> {
    if *number < 3 {
        let own = fd::duplicate(fd::borrow(*number)?)?;
        fd::close(core::mem::replace(number, own.into_number()))?;
    }
    Ok(())
}
