//! The process itself: fork, exit, threads.

use super::strings::{Strings, Thin};
use core::ffi::c_int;
use core::ptr::null;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

/// libc's fork(2): 0 in the child. A raw clone would leave libc's cached thread id stale in a child that goes on to run
/// the caller's code.
pub(crate) fn fork() -> Result<c_int, Errno> {
    // SAFETY: the callers are the double fork, whose own caller promised that the child needs no lock of another thread.
    super::errno::result(unsafe { libc::fork() })
}

/// _exit(2): no atexit handler runs, no stdio buffer is flushed. Raw on Linux, where a process that shares its memory
/// calls it too.
#[cfg(target_os = "linux")]
pub(crate) fn exit(status: c_int) -> ! {
    loop {
        // SAFETY: exit_group takes a number.
        let _ = unsafe { super::arch::syscall4(libc::SYS_exit_group, status as usize, 0, 0, 0) };
    }
}

/// _exit(2): no atexit handler runs, no stdio buffer is flushed.
#[cfg(not(target_os = "linux"))]
pub(crate) fn exit(status: c_int) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(status) }
}

/// exit(3), with the handlers of atexit(3) and the buffers of stdio, for a daemon that has run the caller's code.
pub(crate) fn exit_with_handlers(status: c_int) -> ! {
    // SAFETY: called once, as the end of a process, by a function that says so.
    unsafe { libc::exit(status) }
}

/// Whether the caller is the only thread. A signal mask may be filled around a fork only then: with more threads a
/// stop-the-world runtime would wait for ever for the blocked one.
#[cfg(target_os = "linux")]
pub(crate) fn is_single_threaded() -> bool {
    // The kernel refuses to unshare a thread group that has more than one member, and has nothing to do for one.
    // SAFETY: unshare(CLONE_THREAD) takes a number and changes nothing.
    unsafe { super::arch::syscall4(libc::SYS_unshare, libc::CLONE_THREAD as usize, 0, 0, 0) }.is_ok()
        // A container's filter may refuse every unshare(2). The directory has a link for each thread, and two more.
        || rustix::fs::stat(c"/proc/self/task").is_ok_and(|threads| threads.st_nlink == 3)
}

/// Unknown here, so the careful answer.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_single_threaded() -> bool {
    false
}

/// Whether libc itself does without locks, as glibc does until the first thread is made, and not again after the last.
pub(crate) fn libc_is_single_threaded() -> bool {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let flag = super::arch::single_threaded_flag();
        // SAFETY: libc's own variable, there because its address is; only a process of one thread asks.
        flag.is_null() || unsafe { flag.read_volatile() } != 0
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    false
}

/// Also for children whose end raises no SIGCHLD.
pub(crate) fn wait_options() -> WaitOptions {
    #[cfg(target_os = "linux")]
    return WaitOptions::from_bits_retain(libc::__WALL as _);
    #[cfg(not(target_os = "linux"))]
    return WaitOptions::empty();
}

/// Whether getsid(2) names the caller.
pub(crate) fn leads_session() -> bool {
    session_of(0) == Ok(rustix::process::getpid().as_raw_pid())
}

/// getsid(2). It is 0 where the leader is outside of the pid namespace, for which rustix has no value.
pub(crate) fn session_of(pid: c_int) -> Result<c_int, Errno> {
    // SAFETY: getsid takes a number.
    super::errno::result(unsafe { libc::getsid(pid) })
}

/// Waits for a child whose end is near, and forgets it. Somebody else may have done so: then that is that.
pub(crate) fn reap(pid: c_int) {
    while matches!(waitpid(Pid::from_raw(pid), wait_options()), Err(Errno::INTR)) {}
}

/// execve(2): answers why it failed.
pub(crate) fn execute(path: Thin<'_>, arguments: Strings<'_>, environment: Option<Strings<'_>>) -> Errno {
    let none = [null()];
    let environment = environment.map_or(none.as_ptr(), Strings::as_ptr);
    // Raw on Linux, where a process that shares its memory calls it.
    #[cfg(target_os = "linux")]
    {
        let (path, arguments) = (path.as_ptr() as usize, arguments.as_ptr() as usize);
        // SAFETY: the path and the lists end with NUL and NULL, and are only read.
        let answer = unsafe { super::arch::syscall4(libc::SYS_execve, path, arguments, environment as usize, 0) };
        answer.err().unwrap_or(Errno::NOEXEC)
    }
    #[cfg(not(target_os = "linux"))]
    {
        // SAFETY: the path and the lists end with NUL and NULL, and are only read.
        unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment) };
        super::errno::last()
    }
}

/// kill(2). The pid is a child's that has not been reaped, so that it is nobody else's.
pub(crate) fn kill(pid: c_int, signal: c_int) -> Result<(), Errno> {
    // SAFETY: kill takes numbers.
    super::errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// pidfd_send_signal(2).
#[cfg(target_os = "linux")]
pub(crate) fn kill_by_pidfd(pidfd: rustix::fd::BorrowedFd<'_>, signal: c_int) -> Result<(), Errno> {
    use rustix::fd::AsRawFd;
    let pidfd = pidfd.as_raw_fd() as usize;
    // SAFETY: pidfd_send_signal takes numbers, and NULL for the siginfo of kill(2).
    unsafe { super::arch::syscall4(libc::SYS_pidfd_send_signal, pidfd, signal as usize, 0, 0) }.map(drop)
}

/// There are no pidfds here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn kill_by_pidfd(_pidfd: rustix::fd::BorrowedFd<'_>, _signal: c_int) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// prctl(PR_SET_PDEATHSIG): the signal that this process gets when the thread that made it ends.
#[cfg(target_os = "linux")]
pub(crate) fn set_death_signal(signal: c_int) -> Result<(), Errno> {
    // SAFETY: this option of prctl takes a number.
    unsafe { super::arch::syscall4(libc::SYS_prctl, libc::PR_SET_PDEATHSIG as usize, signal as usize, 0, 0) }.map(drop)
}

/// There is no such signal here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn set_death_signal(_signal: c_int) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Whether all of a process's user ids are this one, as far as can be seen.
#[cfg(target_os = "linux")]
pub(crate) fn runs_as(pid: c_int, uid: u32) -> bool {
    use rustix::fs::{CWD, Mode, OFlags};
    // Not the owner of its folder in /proc, which is root's for one that is not dumpable.
    const FRONT: &[u8] = b"/proc/";
    const BACK: &[u8] = b"/status\0";
    let mut path = [0; 32];
    let mut digits = [0; 20];
    let digits = crate::decimal::digits(pid.unsigned_abs().into(), &mut digits);
    for (place, &byte) in path.iter_mut().zip(FRONT.iter().chain(digits).chain(BACK)) {
        *place = byte as core::ffi::c_char;
    }
    let mut status = [0; 1024];
    let length = super::cstr::at_start_of(&path)
        .ok_or(Errno::INVAL)
        .and_then(|path| super::fd::open(CWD, path, OFlags::RDONLY, Mode::empty()))
        .and_then(|file| rustix::io::read(file.lend(), &mut status));
    let status = status.get(..length.unwrap_or(0)).unwrap_or_default();
    // The name in the first line cannot pretend to be another one: newlines are escaped there.
    let ids = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:\t"));
    let is_uid = |id| crate::decimal::parse(id) == Some(u64::from(uid));
    ids.is_some_and(|ids| ids.split(|&byte| byte == b'\t').take(3).all(is_uid))
}

/// Nobody can tell here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn runs_as(_pid: c_int, _uid: u32) -> bool {
    false
}
