//! Which file it is, whatever its name.

use core::ffi::CStr;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

/// Device and inode: what tells a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    #[allow(clippy::unnecessary_cast, reason = "the types of these fields differ between systems")]
    pub(crate) fn of(stat: &Stat) -> FileId {
        FileId { device: stat.st_dev as u64, inode: stat.st_ino as u64 }
    }

    /// Whether this file is the one at that place, which may be empty.
    #[inline(never)]
    pub(crate) fn is_at(self, directory: BorrowedFd<'_>, path: &CStr) -> Result<bool, Errno> {
        match rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileId::of(&stat) == self),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}
