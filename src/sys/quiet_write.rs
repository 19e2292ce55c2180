//! Writing to a pipe whose reader may have gone, without a SIGPIPE for the caller, and without blocking.

use super::fd::Fd;
use rustix::io::Errno;

/// How to write, as far as it is known what the kernel can do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// pwritev2(2) with flags that keep it quiet and from blocking.
    Flags,
    /// With SIGPIPE blocked, or turned off, and no more than a pipe that is writable takes for sure.
    Mask,
}

/// Writes what the pipe, known to be writable, takes: `EPIPE` when nobody reads it, `EAGAIN` when it takes nothing.
pub(crate) fn write(pipe: &Fd, bytes: &[u8], manner: &mut Manner) -> Result<usize, Errno> {
    if *manner == Manner::Flags {
        match native::write_with_flags(pipe, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => *manner = Manner::Mask,
            result => return result,
        }
    }
    let bytes = bytes.get(..libc::PIPE_BUF).unwrap_or(bytes);
    native::without_sigpipe(pipe, || rustix::io::write(pipe.lend(), bytes))
}

#[cfg(target_os = "linux")]
mod native {
    use super::{Errno, Fd};
    use crate::sys::arch::{syscall4, syscall6};
    use core::ptr::null;

    pub(super) fn write_with_flags(pipe: &Fd, bytes: &[u8]) -> Result<usize, Errno> {
        const RWF_NOWAIT: usize = 0x8;
        const RWF_NOSIGNAL: usize = 0x100;
        // An answer is an int.
        let length = bytes.len().min(1 << 30);
        let data = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: length };
        // Offset -1, in either of the two ways in which architectures pass it: where the pipe is.
        let arguments =
            [pipe.number() as usize, &raw const data as usize, 1, usize::MAX, usize::MAX, RWF_NOWAIT | RWF_NOSIGNAL];
        // SAFETY: one iovec, whose bytes are only read.
        unsafe { syscall6(libc::SYS_pwritev2, arguments) }.map(|written| written as usize)
    }

    const SIZE: usize = size_of::<u64>();
    const SIGPIPE: u64 = 1 << (libc::SIGPIPE - 1);

    /// Runs `write` so that a SIGPIPE that it raises is taken back before anybody sees it.
    pub(super) fn without_sigpipe(_pipe: &Fd, write: impl FnOnce() -> Result<usize, Errno>) -> Result<usize, Errno> {
        let (set, mut before, mut pending) = (SIGPIPE, 0_u64, 0_u64);
        let (block, restore) = (libc::SIG_BLOCK as usize, libc::SIG_SETMASK as usize);
        let (set, old) = (&raw const set as usize, &raw mut before as usize);
        // SAFETY: the kernel writes one set.
        let _ = unsafe { syscall4(libc::SYS_rt_sigpending, &raw mut pending as usize, SIZE, 0, 0) };
        // SAFETY: the kernel reads one set and writes one.
        let _ = unsafe { syscall4(libc::SYS_rt_sigprocmask, block, set, old, SIZE) };
        let result = write();
        if result == Err(Errno::PIPE) && pending & SIGPIPE == 0 {
            let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the kernel reads a set and a time.
            let _ = unsafe { syscall4(libc::SYS_rt_sigtimedwait, set, 0, &raw const none as usize, SIZE) };
        }
        // SAFETY: the kernel reads one set.
        let _ = unsafe { syscall4(libc::SYS_rt_sigprocmask, restore, old, null::<u64>() as usize, SIZE) };
        result
    }
}

/// SIGPIPE is the process's here, not the thread's: a thread that blocks it only hands it to another. But a pipe can be
/// told to raise none. It is told for the one write, as whoever shares it may want the signal.
#[cfg(target_vendor = "apple")]
mod native {
    use super::{Errno, Fd};
    use core::ffi::c_int;

    pub(super) fn write_with_flags(_pipe: &Fd, _bytes: &[u8]) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }

    pub(super) fn without_sigpipe(pipe: &Fd, write: impl FnOnce() -> Result<usize, Errno>) -> Result<usize, Errno> {
        let before = fcntl(pipe, libc::F_GETNOSIGPIPE, 0)?;
        match fcntl(pipe, libc::F_SETNOSIGPIPE, 1) {
            // A socket that nobody reads any more takes no option.
            Err(Errno::INVAL) => return Err(Errno::PIPE),
            told => told?,
        };
        let result = write();
        let _ = fcntl(pipe, libc::F_SETNOSIGPIPE, before);
        result
    }

    fn fcntl(pipe: &Fd, command: c_int, argument: c_int) -> Result<c_int, Errno> {
        // SAFETY: both commands take a number, or nothing.
        crate::sys::errno::result(unsafe { libc::fcntl(pipe.number(), command, argument) })
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
mod native {
    use super::{Errno, Fd};
    use core::mem::MaybeUninit;
    use core::ptr::null_mut;

    pub(super) fn write_with_flags(_pipe: &Fd, _bytes: &[u8]) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }

    /// Runs `write` so that a SIGPIPE that it raises is taken back before anybody sees it.
    pub(super) fn without_sigpipe(_pipe: &Fd, write: impl FnOnce() -> Result<usize, Errno>) -> Result<usize, Errno> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        let (mut before, mut pending) = (set, set);
        // SAFETY: libc initialises the set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE) };
        // SAFETY: libc writes one set.
        unsafe { libc::sigpending(pending.as_mut_ptr()) };
        // SAFETY: libc reads one set and writes one.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr()) };
        let result = write();
        // SAFETY: sigpending has initialised the set.
        let was_pending = unsafe { libc::sigismember(pending.as_ptr(), libc::SIGPIPE) } == 1;
        if result == Err(Errno::PIPE) && !was_pending {
            let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: libc reads a set and a time.
            unsafe { libc::sigtimedwait(set.as_ptr(), null_mut(), &raw const none) };
        }
        // SAFETY: pthread_sigmask has initialised the set.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), null_mut()) };
        result
    }
}
