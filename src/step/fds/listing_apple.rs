//! The open fds of this process, from proc_pidinfo, read into a buffer on the stack.

use rustix::fd::RawFd;
use rustix::io::Errno;

/// Calls `visit` with each open fd. The list has no cursor: when it does not fit, it is read again while closing has
/// made it another. Where more fds than fit are kept, or stay open as they are only marked, this way fails.
pub(super) fn each_open_fd(visit: &mut impl FnMut(RawFd)) -> Result<(), Errno> {
    let mut highest_before = -1;
    loop {
        let mut buffer = [0; 512];
        let open = crate::sys::fd::list_open(&mut buffer)?;
        open.iter().for_each(|&fd| visit(fd));
        if open.len() < 512 {
            return Ok(());
        }
        let highest = open.iter().copied().max().unwrap_or(-1);
        if highest <= highest_before {
            return Err(Errno::OVERFLOW);
        }
        highest_before = highest;
    }
}
