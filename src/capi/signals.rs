use super::intake::{answer, array, limit, sized, sized_out};
use crate::signals;
use crate::sys::fd::{self, Fd};
use core::ffi::c_int;

/// A signal that has come. Elsewhere than on Linux only its number is known.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_signal {
    /// Its number.
    pub signal: i32,
    /// si_code of sigaction(2): SI_USER, SI_QUEUE, CLD_EXITED and the like.
    pub code: i32,
    /// Who sent it, or the child that SIGCHLD tells of.
    pub pid: i32,
    /// As whom that process runs.
    pub uid: u32,
    /// Of SIGCHLD: the exit status, or the signal.
    pub status: i32,
    /// Of sigqueue(3): the integer.
    pub value: i32,
    /// Zero.
    pub reserved: [u32; 2],
}

sized! { rdaemon_signal = 32, }

/// Blocks the signals in the calling thread, and opens an fd, for an event loop, that is readable when one of them has
/// come; rdaemon_signals_next() takes it. The signal does nothing else: SIGTERM neither ends the process nor removes
/// the pidfile, whatever the signal map says. An ignored signal comes too; for that an ignored SIGCHLD gets its
/// default, and children have to be waited for. One that comes again before it is taken is one signal, unless it is a
/// real-time signal, and SIGCONT and the signals that stop a process take each other back; no other that came is lost.
///
/// Call it after rdaemon_daemonize(), which closes the fd unless it is in files_preserve, and before there are other
/// threads, which inherit the mask: a signal goes to a thread that does not block it. Programs that are started inherit
/// the mask too, but for RDAEMON_SPAWN_RESET_SIGNALS and RDAEMON_SPAWN_SIGNAL_MASK.
///
/// Returns the fd, non-blocking and yours to close, after which the signals are still blocked; -EINVAL for no signals,
/// NULL, or a signal that does not exist, cannot be caught or belongs to libc; or any error of signalfd(2). After a
/// failure nothing is blocked.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_signals_open(signals: *const i32, signals_len: usize) -> c_int {
    answer(|| array(signals, signals_len).and_then(signals::open_fd).map(Fd::into_number))
}

/// Takes the next signal that has come.
///
/// fd is that of rdaemon_signals_open(). timeout_ms is a time limit (see the conventions); 0 does not wait. ret_signal
/// may be NULL.
///
/// Returns the signal's number (> 0); -ETIMEDOUT when none has come in time; -EBADF for an fd that is not open for
/// reading, -EINVAL for a bad timeout_ms, or for a pipe, socket or file. No other kind of fd may be given.
/// Async-signal-safe, thread-safe: each signal is taken once. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_signals_next(
    fd: c_int,
    timeout_ms: c_int,
    ret_signal: *mut rdaemon_signal,
    ret_signal_size: usize,
) -> c_int {
    answer(|| {
        let signal = signals::next(fd::borrow_open(fd)?, limit(timeout_ms)?)?;
        let taken = rdaemon_signal {
            signal: signal.number,
            code: signal.code,
            pid: signal.pid,
            uid: signal.uid,
            status: signal.status,
            value: signal.value,
            reserved: [0; 2],
        };
        sized_out(ret_signal, ret_signal_size, &taken);
        Ok(signal.number)
    })
}
