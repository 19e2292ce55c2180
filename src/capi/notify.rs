use super::intake::{answer, array, limit, optional_path, out, sized, sized_in};
use crate::notify::{self, Flags, Notification};
use crate::sys::errno::from_number;
use crate::sys::fd::{Fd, borrow_all};
use core::ffi::{c_char, c_int};
use core::time::Duration;
use rustix::io::Errno;

/// Flags of struct rdaemon_notification.
#[repr(C)]
pub enum rdaemon_state_flags {
    /// The daemon serves, for the first time, or after a reload.
    RDAEMON_STATE_READY = 1,
    /// It reads its configuration anew. MONOTONIC_USEC, which goes with it, is the moment of the call.
    RDAEMON_STATE_RELOADING = 2,
    /// It is about to end.
    RDAEMON_STATE_STOPPING = 4,
    /// It is alive: see rdaemon_watchdog().
    RDAEMON_STATE_WATCHDOG = 8,
    /// It is not well: as if the watchdog's time were over.
    RDAEMON_STATE_WATCHDOG_TRIGGER = 16,
}

const _: () = {
    assert!(rdaemon_state_flags::RDAEMON_STATE_READY as u32 == Flags::READY.bits());
    assert!(rdaemon_state_flags::RDAEMON_STATE_RELOADING as u32 == Flags::RELOADING.bits());
    assert!(rdaemon_state_flags::RDAEMON_STATE_STOPPING as u32 == Flags::STOPPING.bits());
    assert!(rdaemon_state_flags::RDAEMON_STATE_WATCHDOG as u32 == Flags::WATCHDOG.bits());
    assert!(rdaemon_state_flags::RDAEMON_STATE_WATCHDOG_TRIGGER as u32 == Flags::WATCHDOG_TRIGGER.bits());
};

/// What a service manager is told. Every field is left out if it is zero.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_notification {
    /// enum rdaemon_state_flags.
    pub flags: u32,
    /// The process to watch from now on, after a fork.
    pub main_pid: i32,
    /// Why the daemon fails, a negative errno.
    pub error: i32,
    /// Zero.
    pub reserved: u32,
    /// So many microseconds longer the start, the reload or the stop takes, from now on.
    pub extend_timeout_usec: u64,
    /// A line for a person, without control characters.
    pub status: *const c_char,
}

sized! { rdaemon_notification = 24 + size_of::<*const c_char>(), }

impl rdaemon_notification {
    fn notification(&self) -> Result<Notification<'_>, Errno> {
        if self.reserved != 0 || !matches!(self.error, -4095..=0) {
            return Err(Errno::INVAL);
        }
        Ok(Notification {
            flags: Flags::from_bits(self.flags).ok_or(Errno::INVAL)?,
            status: optional_path(self.status).map_err(|_| Errno::MSGSIZE)?,
            main_pid: (self.main_pid != 0).then_some(self.main_pid),
            errno: (self.error != 0).then(|| from_number(self.error.wrapping_neg())),
            extend_timeout: (self.extend_timeout_usec != 0).then(|| Duration::from_micros(self.extend_timeout_usec)),
        })
    }
}

/// Tells the service manager, if there is one, by the socket that NOTIFY_SOCKET names: sd_notify(3).
///
/// The variable is inherited by children; whether the manager listens to them is its configuration. A set-user-id or
/// set-group-id program does not believe it.
///
/// Returns 1; 0 when NOTIFY_SOCKET is not set: there is nobody to tell; -EINVAL for nothing to tell, unknown flags, a
/// status with control characters, a bad number, or a NOTIFY_SOCKET that is neither an absolute path nor an abstract
/// address ("@name"); -ENAMETOOLONG for one that no socket has; -EMSGSIZE for more than 4096 bytes; -EAGAIN when the
/// manager does not read for 5 seconds; or any error of socket(2), connect(2) and send(2).
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Needs about
/// 10 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_notify(notification: *const rdaemon_notification, notification_size: usize) -> c_int {
    answer(|| notify::notify(&sized_in(notification, notification_size)?.notification()?).map(c_int::from))
}

/// Has the service manager keep these fds for the next start of the daemon, which then finds them among those of
/// rdaemon_listen(), under this name: FDSTORE. With no fds, fds_len 0, those of that name are forgotten.
///
/// name: 1 to 255 printable ASCII characters without ':'; NULL: the manager's default, not when fds are to be
/// forgotten.
///
/// Returns as rdaemon_notify() does; -EINVAL also for more than 253 fds; -EBADF for one that is not open.
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Needs about
/// 10 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_notify_fds(name: *const c_char, fds: *const i32, fds_len: usize) -> c_int {
    answer(|| {
        let name = optional_path(name).map_err(|_| Errno::INVAL)?;
        let told = match array(fds, fds_len)? {
            [] => notify::forget_fds(name.ok_or(Errno::INVAL)?),
            fds => notify::store_fds(name, borrow_all(fds)?),
        };
        told.map(c_int::from)
    })
}

/// Waits until the service manager has read all that it was told before: a barrier, as before an exec, or an end.
///
/// timeout_ms is a time limit (see the conventions).
///
/// Returns as rdaemon_notify() does, but -ETIMEDOUT also when the manager does not read; or any error of pipe(2).
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Needs about
/// 10 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_notify_barrier(timeout_ms: c_int) -> c_int {
    answer(|| notify::barrier(limit(timeout_ms)?).map(c_int::from))
}

/// Tells how often the service manager wants RDAEMON_STATE_WATCHDOG, at the least: WATCHDOG_USEC. Twice as often is
/// wise.
///
/// ret_usec, which may be NULL, gets microseconds.
///
/// Returns 1; 0 when it wants none, or, as WATCHDOG_PID tells, from another process; -EINVAL for a WATCHDOG_USEC of 0,
/// and for one, or a WATCHDOG_PID, that is no number.
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_watchdog(ret_usec: *mut u64) -> c_int {
    answer(|| {
        let Some(interval) = notify::watchdog()? else { return Ok(0) };
        out(ret_usec, interval.as_secs() * 1_000_000 + u64::from(interval.subsec_micros()));
        Ok(1)
    })
}

/// Says that the daemon serves to whoever reads the other end of a pipe for that, as s6 does: writes a newline, and
/// closes fd, whatever it returns.
///
/// Returns 0; -EPIPE when nobody reads it, -EAGAIN when it is full; -EBADF; or any error of write(2).
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_ready_fd(fd: c_int) -> c_int {
    answer(|| notify::say_ready(Fd::take(fd)?).map(|()| 0))
}
