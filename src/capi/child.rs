use super::intake::{answer, handle, limit, sized, sized_out};
use crate::deadline::Deadline;
use crate::spawn::{Exit, ExitStatus, Pipes, Process, State};
use crate::sys::fd::Fd;
use core::ffi::c_int;
use rustix::io::Errno;

/// A started program. It is plain data, in which the functions below keep whether the child was reaped: use one copy,
/// from one thread at a time, in the process that started the program; but while one thread waits another may signal
/// the program by a copy that has a pidfd, which never means another process. An fd that you close yourself you set to
/// -1 here. Of zeros it is a handle of nothing, which rdaemon_child_close() accepts.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_child {
    /// Its pid. Once it was waited for, the number may be another process's.
    pub pid: i32,
    /// A pidfd, or on systems without such a kqueue; either is readable for poll(2) when the program has ended. -1:
    /// none.
    pub pidfd: i32,
    /// The caller's ends of the streams that are pipes: to write its standard input to, to read its standard output and
    /// its standard error from; else -1.
    pub fds: [i32; 3],
    /// The library's.
    pub state: u32,
    /// The library's.
    pub wait_status: i32,
    /// Zero.
    pub reserved: [u32; 9],
}

sized! { rdaemon_child = 64, rdaemon_exit = 16, }

impl rdaemon_child {
    pub(super) fn new(process: Process, pipes: Pipes) -> rdaemon_child {
        let mut child = rdaemon_child {
            pid: process.pid,
            pidfd: process.pidfd,
            fds: [-1; 3],
            state: 0,
            wait_status: 0,
            reserved: [0; 9],
        };
        child.keep(process, pipes);
        child
    }

    /// The handle's two halves, as the floor below has them.
    pub(super) fn parts(&self) -> Result<(Process, Pipes), Errno> {
        let state = match self.state {
            0 => State::Child,
            1 => State::Detached,
            2 => State::Ended(ExitStatus::from_wait_status(self.wait_status)),
            3 => State::Lost,
            _ => return Err(Errno::INVAL),
        };
        if self.pid <= 0 || self.reserved != [0; 9] {
            return Err(Errno::INVAL);
        }
        // The library makes none below 3.
        let above_stdio = |fd: i32| if fd > 2 { Fd::take(fd).ok() } else { None };
        let pidfd = if self.pidfd > 2 { self.pidfd } else { -1 };
        Ok((Process { pid: self.pid, pidfd, state }, self.fds.map(above_stdio)))
    }

    /// What the floor below has made of them.
    pub(super) fn keep(&mut self, process: Process, pipes: Pipes) {
        (self.state, self.wait_status) = match process.state {
            State::Child => (0, 0),
            State::Detached => (1, 0),
            State::Ended(status) => (2, status.wait_status()),
            State::Lost => (3, 0),
        };
        self.fds = pipes.map(|pipe| pipe.map_or(-1, Fd::into_number));
    }
}

/// Lends the handle's parts, and keeps what becomes of them.
pub(super) fn with_child<T>(
    child: *mut rdaemon_child,
    size: usize,
    act: impl FnOnce(&mut Process, &mut Pipes) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let mut given = handle(child, size)?;
    let (mut process, mut pipes) = given.parts()?;
    let result = act(&mut process, &mut pipes);
    given.keep(process, pipes);
    sized_out(child, size, &given);
    result
}

/// How a program ended: struct rdaemon_exit. 0 is none of these.
#[repr(C)]
pub enum rdaemon_exit_kind {
    /// It exited; code is its exit status.
    RDAEMON_EXIT_EXITED = 1,
    /// A signal ended it; code is the signal.
    RDAEMON_EXIT_SIGNALLED = 2,
    /// A signal ended it, and it dumped core; code is the signal.
    RDAEMON_EXIT_DUMPED = 3,
}

/// How a program ended.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_exit {
    /// enum rdaemon_exit_kind.
    pub kind: u32,
    /// The exit status (0 to 255) or the signal.
    pub code: i32,
    /// The returncode of PEP 324: the exit status, or the negative signal.
    pub returncode: i32,
    /// The number that waitpid(2) gives, for WIFEXITED() and the like.
    pub wait_status: i32,
}

impl From<ExitStatus> for rdaemon_exit {
    fn from(status: ExitStatus) -> rdaemon_exit {
        use rdaemon_exit_kind::{RDAEMON_EXIT_DUMPED, RDAEMON_EXIT_EXITED, RDAEMON_EXIT_SIGNALLED};
        let (kind, code) = match status.exit() {
            Exit::Exited(code) => (RDAEMON_EXIT_EXITED, code),
            Exit::Signalled(signal) => (RDAEMON_EXIT_SIGNALLED, signal),
            Exit::Dumped(signal) => (RDAEMON_EXIT_DUMPED, signal),
        };
        rdaemon_exit { kind: kind as u32, code, returncode: status.returncode(), wait_status: status.wait_status() }
    }
}

/// Waits until the program has ended, and reaps it.
///
/// timeout_ms is a time limit (see the conventions); 0 does not wait. ret_exit may be NULL. The answer is kept in the
/// handle: later calls give the same, also after rdaemon_child_close().
///
/// Returns 0 when it has ended; -ETIMEDOUT; -ECHILD when it has ended and its status is lost: another waitpid(2) got
/// it, or nobody did as SIGCHLD is ignored, or the program was detached (a subreaper gets it with waitpid(2)); -EBADF
/// for a pidfd that is no fd, or that a detached program does not have; -EINVAL for NULL, a handle that is none, or a
/// bad timeout_ms. Async-signal-safe, thread-safe with other handles. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_child_wait(
    child: *mut rdaemon_child,
    child_size: usize,
    timeout_ms: c_int,
    ret_exit: *mut rdaemon_exit,
    ret_exit_size: usize,
) -> c_int {
    answer(|| {
        let deadline = Deadline::after(limit(timeout_ms)?);
        let status = with_child(child, child_size, |process, _| process.wait(deadline))?;
        sized_out(ret_exit, ret_exit_size, &status.into());
        Ok(0)
    })
}

/// Sends the program a signal; signal 0 only asks whether it could be sent.
///
/// Returns 0; -ESRCH once it was waited for: a process that has its number now gets no signal; -EBADF for a detached
/// program without its pidfd; -EINVAL for NULL, a handle that is none or a signal that does not exist; or any error of
/// kill(2). Async-signal-safe, thread-safe with other handles. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_child_signal(child: *const rdaemon_child, child_size: usize, signal: c_int) -> c_int {
    answer(|| {
        let (process, pipes) = handle(child, child_size)?.parts()?;
        // The handle's, not this function's to close.
        let _ = pipes.map(|pipe| pipe.map(Fd::into_number));
        process.signal(signal).map(|()| 0)
    })
}

/// Stops the program: SIGTERM, and SIGCONT in case it is stopped; when it has not ended after term_timeout_ms, SIGKILL,
/// and kill_timeout_ms for that to work.
///
/// Both are time limits (see the conventions). ret_exit tells how it ended; it may be NULL.
///
/// Returns as rdaemon_child_wait() does (a detached program has ended with -ECHILD), or any error of kill(2).
/// Async-signal-safe, thread-safe with other handles. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_child_stop(
    child: *mut rdaemon_child,
    child_size: usize,
    term_timeout_ms: c_int,
    kill_timeout_ms: c_int,
    ret_exit: *mut rdaemon_exit,
    ret_exit_size: usize,
) -> c_int {
    answer(|| {
        let (until_kill, after_kill) = (limit(term_timeout_ms)?, limit(kill_timeout_ms)?);
        let status = with_child(child, child_size, |process, _| {
            process.stop(Deadline::after(until_kill), || Deadline::after(after_kill))
        })?;
        sized_out(ret_exit, ret_exit_size, &status.into());
        Ok(0)
    })
}

/// Closes the handle's pidfd and pipes, and sets them to -1; what is -1 already is fine. The program is neither waited
/// for nor ended, and may be waited for afterwards unless it is detached.
///
/// Returns 0, or -EINVAL for NULL or a handle that is none.
/// Async-signal-safe, thread-safe with other handles. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_child_close(child: *mut rdaemon_child, child_size: usize) -> c_int {
    answer(|| {
        let mut given = handle(child, child_size)?;
        if given.pid == 0 {
            return Ok(0);
        }
        let (process, pipes) = given.parts()?;
        drop(pipes);
        drop(Fd::take(process.pidfd));
        given.keep(Process { pidfd: -1, ..process }, [const { None }; 3]);
        given.pidfd = -1;
        sized_out(child, child_size, &given);
        Ok(0)
    })
}
