//! The open fds of this process, from /proc/self/fd, read into a buffer on the stack.

use rustix::fd::RawFd;
use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;

/// Calls `visit` with each open fd but the one that reads the list. Closing fds meanwhile is fine.
pub(super) fn each_open_fd(visit: &mut impl FnMut(RawFd)) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let directory = crate::sys::fd::open_lowest(CWD, c"/proc/self/fd", flags, Mode::empty())?;
    if rustix::fs::fstatfs(directory.lend())?.f_type != PROC_SUPER_MAGIC {
        return Err(Errno::NOSYS);
    }
    let mut buffer = [0; 1024];
    loop {
        let length = crate::sys::fd::getdents(&directory, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut records = buffer.get(..length).unwrap_or_default();
        while let Some((fd, rest)) = first_fd(records) {
            records = rest;
            if fd != Some(directory.number()) {
                fd.map(&mut *visit);
            }
        }
    }
}

/// The fd that the first record of a buffer names, and the records behind it. A `struct linux_dirent64` is inode and
/// offset, 8 bytes each, the record's length, the type, and the name with its NUL.
fn first_fd(records: &[u8]) -> Option<(Option<RawFd>, &[u8])> {
    let length = u16::from_ne_bytes([*records.get(16)?, *records.get(17)?]);
    let (record, rest) = records.split_at_checked(usize::from(length))?;
    let name = record.get(19..)?.split(|&byte| byte == 0).next()?;
    Some((crate::decimal::parse(name).map(|number| number as RawFd), rest))
}
