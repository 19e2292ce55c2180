//! The open fds of this process, from proc_pidinfo, read into a buffer on the stack.

use crate::sys::fd::{ListedFds, list_open};
use rustix::fd::RawFd;
use rustix::io::Errno;

/// Calls `visit` with each open fd. The list has no cursor, so a full buffer is read again while that brings new fds;
/// where more fds are kept than it holds, this way fails.
pub(super) fn each_open_fd(visit: &mut impl FnMut(RawFd)) -> Result<(), Errno> {
    let mut highest_seen = -1;
    loop {
        let mut buffer = ListedFds::new();
        let open = list_open(&mut buffer)?;
        let full = open.is_full();
        let highest = open.numbers().max().unwrap_or(-1);
        open.numbers().for_each(&mut *visit);
        if !full {
            return Ok(());
        }
        if highest <= highest_seen {
            return Err(Errno::OVERFLOW);
        }
        highest_seen = highest;
    }
}
