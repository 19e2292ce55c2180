//! File descriptors: making them (CLOEXEC and above the standard streams), borrowing and closing them by number.

use core::ffi::{CStr, c_int};
use core::mem::{ManuallyDrop, transmute};
use rustix::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
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

/// An fd that is closed with its owner. rustix's OwnedFd asserts in many places that the number is not -1, which LLVM
/// cannot see to hold, and closes inline; this one does neither.
#[derive(Debug)]
pub(crate) struct Fd(RawFd);

impl Fd {
    /// Takes the fd with this number from the kernel, or from the caller of the library.
    pub(crate) fn take(number: RawFd) -> Result<Fd, Errno> {
        if number < 0 { Err(Errno::BADF) } else { Ok(Fd(number)) }
    }

    pub(crate) fn number(&self) -> RawFd {
        self.0
    }

    pub(crate) fn into_number(self) -> RawFd {
        ManuallyDrop::new(self).0
    }

    pub(crate) fn lend(&self) -> BorrowedFd<'_> {
        // SAFETY: BorrowedFd is a transparent wrapper of RawFd, and the number of an owned fd is not negative.
        unsafe { transmute::<RawFd, BorrowedFd<'_>>(self.0) }
    }
}

impl Drop for Fd {
    #[inline(never)]
    fn drop(&mut self) {
        let _ = close(self.0);
    }
}

impl From<Fd> for OwnedFd {
    fn from(fd: Fd) -> OwnedFd {
        // SAFETY: OwnedFd is a transparent wrapper of RawFd, and the number, of which it becomes the owner, not negative.
        unsafe { transmute::<RawFd, OwnedFd>(fd.into_number()) }
    }
}

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Fd {
        Fd(fd.into_raw_fd())
    }
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
pub(crate) fn open_lowest(directory: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: Mode) -> Result<Fd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::LARGEFILE;
    // SAFETY: the path ends with a NUL and is only read.
    Fd::take(unsafe {
        syscall4(
            libc::SYS_openat,
            directory.as_raw_fd() as usize,
            path.as_ptr() as usize,
            flags.bits() as usize,
            mode.bits() as usize,
        )
    }?)
}

/// openat(2) with `O_CLOEXEC` and `O_NOCTTY`; the fd may be any number, also 0 to 2.
#[cfg(not(target_os = "linux"))]
pub(crate) fn open_lowest(directory: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: Mode) -> Result<Fd, Errno> {
    rustix::fs::openat(directory, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, mode).map(Fd::from)
}

/// openat(2) with `O_CLOEXEC` and `O_NOCTTY`, above the standard streams.
pub(crate) fn open(directory: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: Mode) -> Result<Fd, Errno> {
    above_stdio(open_lowest(directory, path, flags, mode)?)
}

/// A duplicate that is CLOEXEC and above the standard streams.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<Fd, Errno> {
    duplicate_from(fd, 3)
}

/// A duplicate that is CLOEXEC and has this number or a higher one.
pub(crate) fn duplicate_from(fd: BorrowedFd<'_>, lowest: RawFd) -> Result<Fd, Errno> {
    #[cfg(target_os = "linux")]
    {
        let (fd, lowest) = (fd.as_raw_fd() as usize, lowest as usize);
        // SAFETY: F_DUPFD_CLOEXEC takes an int, no pointer.
        let number = unsafe { syscall4(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC as usize, lowest, 0) };
        match number {
            // A limit of 3 leaves no such fd, which is no other case than that all are taken.
            Err(Errno::INVAL) => Err(Errno::MFILE),
            number => Fd::take(number?),
        }
    }
    #[cfg(not(target_os = "linux"))]
    rustix::io::fcntl_dupfd_cloexec(fd, lowest).map(Fd::from)
}

/// A pipe, CLOEXEC and above the standard streams: the end to read from, and the end to write to.
pub(crate) fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut ends = [-1; 2];
    #[cfg(not(target_vendor = "apple"))]
    // SAFETY: two ints are written into an array of two.
    super::errno::result(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    #[cfg(target_vendor = "apple")]
    // SAFETY: two ints are written into an array of two.
    super::errno::result(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    let (reader, writer) = (Fd::take(ends[0])?, Fd::take(ends[1])?);
    #[cfg(target_vendor = "apple")]
    for end in [&reader, &writer] {
        rustix::io::fcntl_setfd(end.lend(), rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok((above_stdio(reader)?, above_stdio(writer)?))
}

/// The same file on an fd that is not one of the standard streams.
pub(crate) fn above_stdio(fd: Fd) -> Result<Fd, Errno> {
    if fd.number() > 2 { Ok(fd) } else { duplicate(fd.lend()) }
}

/// dup2(2), which also clears CLOEXEC when source and target are the same.
pub(crate) fn put(source: BorrowedFd<'_>, target: RawFd) -> Result<(), Errno> {
    if source.as_raw_fd() == target {
        return rustix::io::fcntl_setfd(source, rustix::io::FdFlags::empty());
    }
    // The target is a place, not a possession: whatever is there is replaced, and it stays open.
    let mut place = ManuallyDrop::new(OwnedFd::from(Fd::take(target)?));
    loop {
        // A signal is no reason to leave a parallel assignment half done.
        match rustix::io::dup2(source, &mut place) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Makes the open fd `target` a duplicate of `source`, CLOEXEC.
pub(crate) fn replace(target: RawFd, source: &Fd) -> Result<(), Errno> {
    let mut place = ManuallyDrop::new(OwnedFd::from(Fd::take(target)?));
    #[cfg(not(target_vendor = "apple"))]
    return rustix::io::dup3(source.lend(), &mut place, rustix::io::DupFlags::CLOEXEC);
    #[cfg(target_vendor = "apple")]
    return rustix::io::dup2(source.lend(), &mut place)
        .and_then(|()| rustix::io::fcntl_setfd(&*place, rustix::io::FdFlags::CLOEXEC));
}

/// close(2), not retried on EINTR, whose fd is already free again on every system here.
pub(crate) fn close(fd: RawFd) -> Result<(), Errno> {
    // Raw on Linux, where libc's close is a cancellation point.
    #[cfg(target_os = "linux")]
    // SAFETY: the fd was given up by whoever called a function that says it closes it.
    return unsafe { syscall4(libc::SYS_close, fd as usize, 0, 0, 0) }.map(drop);
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
        unsafe { syscall4(libc::SYS_close_range, first as usize, last as usize, flags, 0) }.map(drop)
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
pub(crate) fn pidfd_open(pid: c_int) -> Result<Fd, Errno> {
    // SAFETY: pidfd_open takes numbers only.
    above_stdio(Fd::take(unsafe { syscall4(libc::SYS_pidfd_open, pid as usize, 0, 0, 0) }?)?)
}

/// A pidfd of a process, above the standard streams; ENOSYS where there is no such thing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pidfd_open(_pid: c_int) -> Result<Fd, Errno> {
    Err(Errno::NOSYS)
}

/// An fd that is readable when this child has ended: a pidfd, or elsewhere a kqueue that watches for it.
#[cfg(target_os = "linux")]
pub(crate) use pidfd_open as watch_exit;

/// An fd that is readable when this child has ended: a pidfd, or elsewhere a kqueue that watches for it. ESRCH: it has.
#[cfg(not(target_os = "linux"))]
pub(crate) fn watch_exit(pid: c_int) -> Result<Fd, Errno> {
    // SAFETY: kqueue takes nothing.
    let queue = Fd::take(super::errno::result(unsafe { libc::kqueue() })?)?;
    rustix::io::fcntl_setfd(queue.lend(), rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: zero is a kevent without anything.
    let mut change: libc::kevent = unsafe { core::mem::zeroed() };
    change.ident = pid as _;
    change.filter = libc::EVFILT_PROC;
    change.flags = libc::EV_ADD | libc::EV_ONESHOT;
    change.fflags = libc::NOTE_EXIT;
    let (changes, none) = (&raw const change, core::ptr::null_mut());
    // SAFETY: one change is read, and no event is asked for.
    super::errno::result(unsafe { libc::kevent(queue.number(), changes, 1, none, 0, core::ptr::null()) })?;
    above_stdio(queue)
}

/// getdents64(2); 0 at the end.
#[cfg(target_os = "linux")]
pub(crate) fn getdents(directory: &Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most the buffer's length into it.
    unsafe {
        syscall4(libc::SYS_getdents64, directory.number() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0)
    }
    .map(|length| length as usize)
}

/// The numbers of open fds, as many as fit.
#[cfg(target_vendor = "apple")]
pub(crate) fn list_open(numbers: &mut [RawFd; 512]) -> Result<&[RawFd], Errno> {
    const PROC_PIDLISTFDS: c_int = 1;
    /// struct proc_fdinfo: the number, and what kind of file it is.
    const RECORD: usize = 2;
    let mut records = [0 as c_int; 512 * RECORD];
    let size = size_of_val(&records) as c_int;
    let pid = rustix::process::getpid().as_raw_pid();
    // SAFETY: at most the size of the records is written into them.
    let filled = unsafe { libc::proc_pidinfo(pid, PROC_PIDLISTFDS, 0, records.as_mut_ptr().cast(), size) };
    // libproc answers 0 for a failure, and no process has no fd.
    if filled <= 0 {
        return Err(super::errno::last());
    }
    let filled = filled as usize / (RECORD * size_of::<c_int>());
    for (number, record) in numbers.iter_mut().zip(records.chunks_exact(RECORD)) {
        *number = record.first().copied().unwrap_or(-1);
    }
    numbers.get(..filled).ok_or(Errno::OVERFLOW)
}

/// F_GETLK: who has a write lock on the file. Asked as one who wants to read: read locks, which whoever may read the
/// file can have, are nobody's claim.
#[cfg(target_os = "linux")]
pub(crate) fn write_lock_holder(file: BorrowedFd<'_>) -> Result<Option<c_int>, Errno> {
    // SAFETY: zero is a lock on the whole file.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = libc::F_RDLCK as _;
    // SAFETY: F_GETLK reads and writes one flock.
    super::errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) })?;
    Ok((lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_pid))
}
