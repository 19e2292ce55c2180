//! signalfd(2), and elsewhere a kqueue.

use super::fd::Fd;
use crate::signals::Signal;
use core::ffi::c_int;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

#[cfg(target_os = "linux")]
mod native {
    use super::{BorrowedFd, Errno, Fd, Signal, c_int};
    use crate::sys::arch::syscall4;
    use core::mem::{MaybeUninit, size_of};

    /// The fd, non-blocking and CLOEXEC.
    pub(crate) fn open(signals: &[c_int]) -> Result<Fd, Errno> {
        // The kernel's own set, in which signal 1 is the lowest bit.
        let set = signals.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: a set of that size is read.
        let fd = unsafe {
            syscall4(libc::SYS_signalfd4, usize::MAX, &raw const set as usize, size_of::<u64>(), flags as usize)
        };
        Fd::take(fd?)
    }

    /// Refuses another kind of fd, of which to read nothing is no error.
    pub(crate) fn check(fd: BorrowedFd<'_>) -> Result<(), Errno> {
        match rustix::io::read(fd, &mut [0; 0]) {
            Err(Errno::INVAL) => Ok(()),
            Err(Errno::BADF) => Err(Errno::BADF),
            _ => Err(Errno::INVAL),
        }
    }

    /// The next signal, without waiting: `EAGAIN` when there is none.
    pub(crate) fn read(fd: BorrowedFd<'_>) -> Result<Signal, Errno> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut bytes = [0; SIZE];
        if rustix::io::read(fd, &mut bytes)? != SIZE {
            return Err(Errno::INVAL);
        }
        let info = MaybeUninit::new(bytes);
        // SAFETY: so many bytes were read, and any bytes are a value of integers.
        let info = unsafe { info.as_ptr().cast::<libc::signalfd_siginfo>().read_unaligned() };
        // Of another kind of fd.
        if !(1..crate::sys::signals::END).contains(&(info.ssi_signo as c_int)) {
            return Err(Errno::INVAL);
        }
        Ok(Signal {
            number: info.ssi_signo as c_int,
            code: info.ssi_code,
            pid: info.ssi_pid as i32,
            uid: info.ssi_uid,
            status: info.ssi_status,
            value: info.ssi_int,
        })
    }
}

/// kqueue(2) records a signal whether it is blocked or not.
#[cfg(not(target_os = "linux"))]
mod native {
    use super::{BorrowedFd, Errno, Fd, Signal, c_int};
    use core::ptr::{null, null_mut};
    use rustix::fd::AsRawFd;

    pub(crate) fn open(signals: &[c_int]) -> Result<Fd, Errno> {
        // SAFETY: kqueue takes nothing.
        let queue = Fd::take(crate::sys::errno::result(unsafe { libc::kqueue() })?)?;
        rustix::io::fcntl_setfd(queue.lend(), rustix::io::FdFlags::CLOEXEC)?;
        for &signal in signals {
            let mut change = nothing();
            change.ident = signal as _;
            change.filter = libc::EVFILT_SIGNAL;
            change.flags = libc::EV_ADD | libc::EV_CLEAR;
            // SAFETY: one change is read, and no event is asked for.
            let result = unsafe { libc::kevent(queue.number(), &raw const change, 1, null_mut(), 0, null()) };
            crate::sys::errno::result(result)?;
        }
        Ok(queue)
    }

    /// kevent(2) refuses another kind of fd.
    pub(crate) fn check(_fd: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(())
    }

    pub(crate) fn read(fd: BorrowedFd<'_>) -> Result<Signal, Errno> {
        let mut event = nothing();
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: room for one event.
        let result = unsafe { libc::kevent(fd.as_raw_fd(), null(), 0, &raw mut event, 1, &raw const now) };
        match crate::sys::errno::result(result)? {
            0 => Err(Errno::AGAIN),
            _ => Ok(Signal { number: event.ident as c_int, ..Signal::default() }),
        }
    }

    fn nothing() -> libc::kevent {
        // SAFETY: zero is a kevent without anything.
        unsafe { core::mem::zeroed() }
    }
}

pub(crate) use native::{check, open, read};
