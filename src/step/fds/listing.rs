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
    let mut buffer = [0; 2048];
    loop {
        let length = crate::sys::fd::getdents(&directory, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        for name in names(buffer.get(..length).unwrap_or_default()) {
            if let Some(fd) = number(name).filter(|&fd| fd != directory.number()) {
                visit(fd);
            }
        }
    }
}

/// The names in a buffer of `struct linux_dirent64`: inode and offset, 8 bytes each, the record's length, the type,
/// the name with its NUL.
fn names(mut records: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let length = u16::from_ne_bytes([*records.get(16)?, *records.get(17)?]);
        let (record, rest) = records.split_at_checked(usize::from(length))?;
        records = rest;
        record.get(19..)?.split(|&byte| byte == 0).next()
    })
}

fn number(name: &[u8]) -> Option<RawFd> {
    crate::decimal::parse(name).and_then(|number| RawFd::try_from(number).ok())
}
