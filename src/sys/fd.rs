//! File descriptors: making them (CLOEXEC and above the standard streams), borrowing and closing them by number.

use core::ffi::{CStr, c_int};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

#[cfg(target_os = "linux")]
use super::arch::syscall4;

/// The fd with this number, which the caller of the library vouches for. A negative number is EBADF.
pub(crate) fn borrow<'a>(fd: RawFd) -> Result<BorrowedFd<'a>, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the number is not -1; its owner, the library's caller, lends it for the call.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// rustix's `as_fd`, without its assertion that the number is not -1, which LLVM cannot see to hold.
pub(crate) trait Lend {
    fn lend(&self) -> BorrowedFd<'_>;
}

impl Lend for OwnedFd {
    fn lend(&self) -> BorrowedFd<'_> {
        // SAFETY: an OwnedFd is open, and never negative: `max` changes nothing.
        unsafe { BorrowedFd::borrow_raw(self.as_raw_fd().max(0)) }
    }
}

/// Takes the fd with this number from the caller of the library.
pub(crate) fn take(fd: RawFd) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the number is not -1; the library's caller, or the kernel, just handed it over.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The numbers of these fds.
pub(crate) fn numbers<'a>(fds: &'a [BorrowedFd<'_>]) -> &'a [RawFd] {
    let first = fds.as_ptr().cast::<RawFd>();
    // SAFETY: BorrowedFd is a transparent wrapper of RawFd (its documentation promises the layout).
    unsafe { core::slice::from_raw_parts(first, fds.len()) }
}

/// These numbers as fds, once every one of them is known to be open.
#[cfg(feature = "capi")]
pub(crate) fn borrow_all<'a>(fds: &'a [RawFd]) -> Result<&'a [BorrowedFd<'a>], Errno> {
    for &fd in fds {
        borrow_open(fd)?;
    }
    let first = fds.as_ptr().cast::<BorrowedFd<'a>>();
    // SAFETY: BorrowedFd is a transparent wrapper of RawFd, and no number is negative, as the loop has checked.
    Ok(unsafe { core::slice::from_raw_parts(first, fds.len()) })
}

/// The fd with this number, once it is known to be open.
pub(crate) fn borrow_open<'a>(fd: RawFd) -> Result<BorrowedFd<'a>, Errno> {
    let fd = borrow(fd)?;
    rustix::io::fcntl_getfd(fd).map(|_| fd)
}

/// Whether this number is an open fd.
pub(crate) fn is_open(fd: RawFd) -> bool {
    borrow_open(fd).is_ok()
}

/// openat(2) with `O_CLOEXEC` and `O_NOCTTY`; the fd may be any number, also 0 to 2.
#[cfg(target_os = "linux")]
pub(crate) fn open_lowest(directory: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::LARGEFILE;
    let args = [directory.as_raw_fd() as usize, path.as_ptr() as usize, flags.bits() as usize, mode.bits() as usize];
    // SAFETY: the path ends with a NUL and is only read.
    take(unsafe { syscall4(libc::SYS_openat, args) }?)
}

/// openat(2) with `O_CLOEXEC` and `O_NOCTTY`; the fd may be any number, also 0 to 2.
#[cfg(not(target_os = "linux"))]
pub(crate) fn open_lowest(directory: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, mode)
}

/// openat(2) with `O_CLOEXEC` and `O_NOCTTY`, above the standard streams.
pub(crate) fn open(directory: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    above_stdio(open_lowest(directory, path, flags, mode)?)
}

/// A duplicate that is CLOEXEC and above the standard streams.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    #[cfg(target_os = "linux")]
    {
        let args = [fd.as_raw_fd() as usize, libc::F_DUPFD_CLOEXEC as usize, 3, 0];
        // SAFETY: F_DUPFD_CLOEXEC takes an int, no pointer.
        take(unsafe { syscall4(libc::SYS_fcntl, args) }?)
    }
    #[cfg(not(target_os = "linux"))]
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
}

/// The same file on an fd that is not one of the standard streams.
pub(crate) fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { duplicate(fd.lend()) }
}

/// dup2(2), which also clears CLOEXEC when source and target are the same.
pub(crate) fn put(source: BorrowedFd<'_>, target: RawFd) -> Result<(), Errno> {
    if source.as_raw_fd() == target {
        return rustix::io::fcntl_setfd(source, rustix::io::FdFlags::empty());
    }
    let mut place = take(target)?;
    let result = rustix::io::dup2(source, &mut place);
    // The target is a place, not a possession: it stays open.
    let _ = place.into_raw_fd();
    result
}

/// close(2), not retried on EINTR, whose fd is already free again on every system here.
pub(crate) fn close(fd: RawFd) -> Result<(), Errno> {
    // Raw on Linux, where libc's close is a cancellation point.
    #[cfg(target_os = "linux")]
    // SAFETY: the fd was given up by whoever called a function that says it closes it.
    return unsafe { syscall4(libc::SYS_close, [fd as usize, 0, 0, 0]) }.map(drop);
    #[cfg(not(target_os = "linux"))]
    // SAFETY: the fd was given up by whoever called a function that says it closes it.
    return super::errno::result(unsafe { libc::close(fd) }).map(drop);
}

/// What a sweep does to an fd.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Close,
    Cloexec,
}

impl Act {
    /// Does it to one fd. One that is not open is fine.
    pub(crate) fn on(self, fd: RawFd) {
        match self {
            Act::Close => drop(close(fd)),
            Act::Cloexec => drop(borrow(fd).map(|fd| rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC))),
        }
    }

    /// Does it to all fds from `first` to `last`, in one system call.
    #[cfg(target_os = "linux")]
    pub(crate) fn on_range(self, first: u32, last: u32) -> Result<(), Errno> {
        const CLOSE_RANGE_CLOEXEC: usize = 1 << 2;
        let flags = if self == Act::Cloexec { CLOSE_RANGE_CLOEXEC } else { 0 };
        // SAFETY: close_range takes numbers only; as for `close`, these fds were given up.
        unsafe { syscall4(libc::SYS_close_range, [first as usize, last as usize, flags, 0]) }.map(drop)
    }

    /// Does it to all fds from `first` to `last`, in one system call.
    #[cfg(target_os = "freebsd")]
    pub(crate) fn on_range(self, first: u32, last: u32) -> Result<(), Errno> {
        const CLOSE_RANGE_CLOEXEC: c_int = 1 << 2;
        let flags = if self == Act::Cloexec { CLOSE_RANGE_CLOEXEC } else { 0 };
        // SAFETY: close_range takes numbers only; as for `close`, these fds were given up.
        super::errno::result(unsafe { libc::close_range(first, last, flags) }).map(drop)
    }

    /// There is no such system call here.
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    pub(crate) fn on_range(self, _first: u32, _last: u32) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
}

/// A pidfd of a process, above the standard streams; ENOSYS where there is no such thing.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_open(pid: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes numbers only.
    above_stdio(take(unsafe { syscall4(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0]) }?)?)
}

/// A pidfd of a process, above the standard streams; ENOSYS where there is no such thing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pidfd_open(_pid: c_int) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// getdents64(2); 0 at the end.
#[cfg(target_os = "linux")]
pub(crate) fn getdents(directory: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let args = [directory.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0];
    // SAFETY: the kernel writes at most the buffer's length into it.
    unsafe { syscall4(libc::SYS_getdents64, args) }.map(|length| length as usize)
}
