//! Processes that are made without copying this one's memory, or without letting this one run on meanwhile.
//!
//! The child runs on the calling thread's own stack, below its frame, while that thread sleeps. It makes raw system
//! calls only: it has the thread's libc state, locks and errno under its feet. The parent finds in its memory what the
//! child wrote there. The system call returns twice inside the assembly, and once outside of it.

use super::fd::Fd;
use core::ffi::c_int;
use rustix::io::Errno;

/// What such a process does. Nothing in it may call libc.
pub(crate) trait Job {
    fn run(&mut self) -> !;
}

/// Whose memory the child works on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The caller's.
    Shared,
    /// A copy, which is what a change of ids needs: in shared memory that clears the parent's dumpable attribute for
    /// good.
    Copied,
}

/// How the process is made.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    allow(dead_code, reason = "where fork(2) makes all children nobody reads it")
)]
pub(crate) struct Request {
    pub(crate) memory: Memory,
    pub(crate) pidfd: bool,
    /// One fd table for both.
    pub(crate) share_fds: bool,
    /// What the parent gets when the child ends; with 0, a child that executes no program is seen only by who asks with
    /// `__WALL`. execve(2) makes it SIGCHLD.
    pub(crate) exit_signal: c_int,
}

/// A new process.
pub(crate) struct Made {
    pub(crate) pid: c_int,
    /// Above the standard streams; `None` where the system has no such thing.
    pub(crate) pidfd: Option<Fd>,
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod native {
    use super::{Errno, Job, Made, Memory, Request, c_int};
    use crate::sys::arch::clone_into;
    use crate::sys::fd::{self, Fd};
    use crate::sys::process::{exit, reap};
    use crate::sys::rseq::Registration;
    use core::ffi::c_void;
    use core::sync::atomic::{AtomicU8, Ordering};
    use rustix::fd::RawFd;

    /// struct clone_args of linux/sched.h, as its first version was.
    #[repr(C)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
    }

    /// What the child's first instruction gets.
    struct Call<'a, J> {
        job: &'a mut J,
        /// The kernel has not made the caught signals default.
        clear_handlers: bool,
    }

    unsafe extern "C" fn enter<J: Job>(call: *mut c_void) {
        // SAFETY: `make` passes a call, which the sleeping parent leaves alone, or of which this process has a copy.
        let call = unsafe { &mut *call.cast::<Call<'_, J>>() };
        if call.clear_handlers {
            crate::sys::child_signals::clear_handlers();
        }
        call.job.run()
    }

    /// Runs the job in a new process; returns when that has executed a program or has ended. All signals must be
    /// blocked. The number of the pidfd is in `slot` before the process begins, for who wakes although this did not
    /// return.
    pub(crate) fn vfork<J: Job>(request: Request, job: &mut J, slot: &mut RawFd) -> Result<Made, Errno> {
        let mut flags = libc::CLONE_VFORK;
        if request.memory == Memory::Shared {
            flags |= libc::CLONE_VM;
        }
        if request.share_fds {
            flags |= libc::CLONE_FILES;
        }
        let with_pidfd = flags | if request.pidfd { libc::CLONE_PIDFD } else { 0 };
        match clone3(with_pidfd, request.exit_signal, job, slot) {
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {}
            result => return result,
        }
        match clone(with_pidfd | request.exit_signal, job, slot) {
            // Before Linux 5.2.
            Err(Errno::INVAL) if request.pidfd => {
                let made = clone(flags | request.exit_signal, job, slot)?;
                // Not before it executed a program or ended, but it is not reaped, so the pid is still its own.
                Ok(Made { pidfd: fd::pidfd_open(made.pid).ok(), ..made })
            }
            result => result,
        }
    }

    fn clone3<J: Job>(flags: c_int, exit_signal: c_int, job: &mut J, slot: &mut RawFd) -> Result<Made, Errno> {
        const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
        let mut call = Call { job, clear_handlers: false };
        let arguments = Arguments {
            flags: flags as u64 | CLONE_CLEAR_SIGHAND,
            pidfd: &raw mut *slot as u64,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: exit_signal as u64,
            stack: 0,
            stack_size: 0,
            tls: 0,
        };
        let words = [&raw const arguments as usize, size_of::<Arguments>(), 0];
        // SAFETY: the arguments are clone3's, without a stack, and CLONE_VFORK suspends the caller.
        let pid = unsafe { clone_into(libc::SYS_clone3, words, enter::<J>, (&raw mut call).cast()) };
        made(pid, slot)
    }

    fn clone<J: Job>(flags: c_int, job: &mut J, slot: &mut RawFd) -> Result<Made, Errno> {
        let mut call = Call { job, clear_handlers: true };
        let words = [flags as usize, 0, &raw mut *slot as usize];
        // SAFETY: the arguments are clone's, without a stack, and CLONE_VFORK suspends the caller.
        let pid = unsafe { clone_into(libc::SYS_clone, words, enter::<J>, (&raw mut call).cast()) };
        made(pid, slot)
    }

    /// The kernel may have filled the slot of a clone that failed then.
    fn made(pid: Result<c_int, Errno>, slot: &mut RawFd) -> Result<Made, Errno> {
        let number = core::mem::replace(slot, -1);
        let made = Made { pid: pid?, pidfd: Fd::take(number).and_then(fd::above_stdio).ok() };
        *slot = made.pidfd.as_ref().map_or(-1, Fd::number);
        Ok(made)
    }

    /// Calls `job` in a process that shares this one's memory, while this one sleeps until that has ended, and answers its
    /// pid; and 0 where the job returns, which it may do in a process that it has forked. Its end raises no signal. This
    /// must be a process of one thread, and all signals be blocked.
    pub(crate) fn call_in_shared_memory<F: FnMut()>(job: &mut F) -> Result<c_int, Errno> {
        unsafe extern "C" fn call<F: FnMut()>(job: *mut c_void) {
            // SAFETY: the job is below, in a frame of the sleeping parent's, or in this process's copy of it.
            (unsafe { &mut *job.cast::<F>() })();
        }
        let registration = Registration::of_this_thread().ok_or(Errno::NOSYS)?;
        let words = [(libc::CLONE_VM | libc::CLONE_VFORK) as usize, 0, 0];
        // SAFETY: the arguments are clone's, without a stack, and CLONE_VFORK suspends the caller.
        let pid = unsafe { clone_into(libc::SYS_clone, words, call::<F>, (&raw mut *job).cast()) }?;
        if pid == 0 {
            registration.renew();
        }
        Ok(pid)
    }

    /// unshare(2) and setns(2) with CLONE_NEWPID leave this process in its own, and make its children in another, which
    /// has no name before it has a process.
    fn children_have_another_namespace() -> bool {
        let mut names = [[0_u8; 32]; 2];
        let [own, of_children] = &mut names;
        let read =
            |path, name: &mut [u8; 32]| rustix::fs::readlinkat_raw(rustix::fs::CWD, path, name.as_mut_slice()).is_ok();
        read(c"/proc/self/ns/pid", own) && (!read(c"/proc/self/ns/pid_for_children", of_children) || own != of_children)
    }

    /// Whether CLONE_VM and CLONE_VFORK do what they say: emulators make a plain fork of them. Asked once.
    pub(crate) fn vfork_is_real() -> bool {
        match ANSWER.load(Ordering::Relaxed) {
            UNKNOWN => ask(),
            answer => answer == YES,
        }
    }

    /// The answer, for the life of the process: with the terminate handler's slot the library's only mutable global.
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;

    struct Probe {
        was_here: bool,
    }

    impl Job for Probe {
        fn run(&mut self) -> ! {
            self.was_here = true;
            exit(0)
        }
    }

    #[cold]
    fn ask() -> bool {
        // The first process of a new pid namespace, which the probe would be there, takes the namespace with it.
        if children_have_another_namespace() {
            return true;
        }
        let mut probe = Probe { was_here: false };
        match clone(libc::CLONE_VM | libc::CLONE_VFORK, &mut probe, &mut -1) {
            Ok(made) => reap(made.pid),
            // That says nothing about the next time.
            Err(Errno::AGAIN | Errno::NOMEM) => return true,
            Err(_) => {}
        }
        ANSWER.store(if probe.was_here { YES } else { NO }, Ordering::Relaxed);
        probe.was_here
    }
}

/// There is no such thing here: fork(2) does it.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod native {
    use super::{Errno, Job, Made, Request, c_int};
    use rustix::fd::RawFd;

    pub(crate) fn call_in_shared_memory<F: FnMut()>(_job: &mut F) -> Result<c_int, Errno> {
        Err(Errno::NOSYS)
    }

    pub(crate) fn vfork<J: Job>(_request: Request, _job: &mut J, _slot: &mut RawFd) -> Result<Made, Errno> {
        Err(Errno::NOSYS)
    }

    pub(crate) fn vfork_is_real() -> bool {
        false
    }
}

pub(crate) use native::{call_in_shared_memory, vfork, vfork_is_real};
