//! The process itself: fork, exit, threads.

use core::ffi::c_int;
use rustix::io::Errno;

/// libc's fork(2): 0 in the child. A raw clone would leave libc's cached thread id stale in a child that goes on to run
/// the caller's code.
pub(crate) fn fork() -> Result<c_int, Errno> {
    // SAFETY: the callers are the double fork, whose own caller promised that the child needs no lock of another thread.
    super::errno::result(unsafe { libc::fork() })
}

/// _exit(2): no atexit handler runs, no stdio buffer is flushed.
pub(crate) fn exit(status: c_int) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(status) }
}

/// Whether the caller is the only thread. A signal mask may be filled around a fork only then: with more threads a
/// stop-the-world runtime would wait for ever for the blocked one.
#[cfg(target_os = "linux")]
pub(crate) fn is_single_threaded() -> bool {
    // The kernel refuses to unshare a thread group that has more than one member, and has nothing to do for one.
    // SAFETY: unshare(CLONE_THREAD) takes a number and changes nothing.
    unsafe { super::arch::syscall4(libc::SYS_unshare, libc::CLONE_THREAD as usize, 0, 0, 0) }.is_ok()
}

/// Unknown here, so the careful answer.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_single_threaded() -> bool {
    false
}
