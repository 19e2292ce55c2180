//! What a service manager wants to hear: readiness, state, watchdog, and fds to keep, in the wire format of
//! [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/sd_notify.html); and readiness as
//! [s6](https://skarnet.org/software/s6/notifywhenup.html) wants it.
//!
//! Every function answers whether there was a manager to tell, which is no error if there was none.

use crate::deadline::Deadline;
use crate::decimal;
use crate::sys::clock::monotonic_nanoseconds;
use crate::sys::fd::{self, Fd};
use crate::sys::poll::{Place, poll};
use crate::sys::{env, quiet_write, socket};
use crate::variables::{is_own_pid, is_set, number};
use core::ffi::CStr;
use core::time::Duration;
use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

bitflags::bitflags! {
    /// What has happened.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// The daemon serves, for the first time or after it has read its configuration anew.
        const READY = 1;
        /// It reads its configuration anew. The moment, which the manager wants, is that of the call.
        const RELOADING = 1 << 1;
        /// It is about to end.
        const STOPPING = 1 << 2;
        /// It is alive: see [`watchdog`].
        const WATCHDOG = 1 << 3;
        /// It has found out that it is not well, as if the watchdog's time were over.
        const WATCHDOG_TRIGGER = 1 << 4;
    }
}

/// What is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notification<'a> {
    /// What has happened.
    pub flags: Flags,
    /// A line for a person.
    pub status: Option<&'a CStr>,
    /// The process to watch, after a fork.
    pub main_pid: Option<i32>,
    /// Why it fails.
    pub errno: Option<Errno>,
    /// So much longer the start, the reload or the stop takes, from now on.
    pub extend_timeout: Option<Duration>,
}

/// The longest message that a manager takes.
const MESSAGE: usize = 4096;

/// The most fds that one message carries: SCM_MAX_FD.
const MOST_FDS: usize = 253;

/// Tells the manager.
///
/// `EINVAL` when there is nothing to tell, or a status of several lines, which could say anything; `EMSGSIZE` for one that is
/// too long; `ENAMETOOLONG` or `EINVAL` for a `NOTIFY_SOCKET` that is no address.
pub fn notify(notification: &Notification<'_>) -> Result<bool, Errno> {
    let mut message = Message::new();
    message.write(notification)?;
    send(&message, &[], patience())
}

/// Has the manager keep these fds for the next start, under this name if there is one: at most 253.
pub fn store_fds(name: Option<&CStr>, fds: &[BorrowedFd<'_>]) -> Result<bool, Errno> {
    let mut message = Message::new();
    message.line("FDSTORE=1", b"")?;
    message.name(name)?;
    if !(1..=MOST_FDS).contains(&fds.len()) {
        return Err(Errno::INVAL);
    }
    send(&message, fd::numbers(fds), patience())
}

/// Has the manager forget the fds of this name.
pub fn forget_fds(name: &CStr) -> Result<bool, Errno> {
    let mut message = Message::new();
    message.line("FDSTOREREMOVE=1", b"")?;
    message.name(Some(name))?;
    send(&message, &[], patience())
}

/// Waits until the manager has read all that was sent before: `ETIMEDOUT`.
pub fn barrier(limit: Option<Duration>) -> Result<bool, Errno> {
    let deadline = Deadline::after(limit);
    let mut message = Message::new();
    // It comes alone in its message.
    message.line("BARRIER=1", b"")?;
    let (reader, writer) = fd::pipe()?;
    match send(&message, &[writer.number()], deadline) {
        Ok(true) => {}
        Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT),
        result => return result,
    }
    drop(writer);
    // The manager closes its copy.
    let ended = poll(&mut [Place::readable(Some(reader.number()))], deadline)?;
    if ended { Ok(true) } else { Err(Errno::TIMEDOUT) }
}

/// How often the manager wants [`Flags::WATCHDOG`], at the least; twice as often is wise. `None`: not at all.
pub fn watchdog() -> Result<Option<Duration>, Errno> {
    const PID: &CStr = c"WATCHDOG_PID";
    if is_set(PID) && !is_own_pid(PID)? {
        return Ok(None);
    }
    match number(c"WATCHDOG_USEC")? {
        Some(0) => Err(Errno::INVAL),
        interval => Ok(interval.map(Duration::from_micros)),
    }
}

/// Says that the daemon serves, to whoever reads a pipe for that, as s6 does: a newline, then the end.
pub fn ready_fd(fd: rustix::fd::OwnedFd) -> Result<(), Errno> {
    say_ready(Fd::from(fd))
}

pub(crate) fn say_ready(fd: Fd) -> Result<(), Errno> {
    let access = rustix::fs::fcntl_getfl(fd.lend())? & OFlags::RWMODE;
    if access == OFlags::RDONLY {
        return Err(Errno::BADF);
    }
    // A pipe that is full is not waited for: nobody reads it.
    if !poll(&mut [Place::writable(Some(fd.number()))], Deadline::milliseconds(0))? {
        return Err(Errno::AGAIN);
    }
    match quiet_write::write(&fd, b"\n", &mut quiet_write::Manner::Flags) {
        Ok(0) => Err(Errno::IO),
        result => result.map(drop),
    }
}

/// Lines that are put together.
struct Message {
    text: [u8; MESSAGE],
    length: usize,
}

impl Message {
    fn new() -> Message {
        Message { text: [0; MESSAGE], length: 0 }
    }

    fn write(&mut self, notification: &Notification<'_>) -> Result<(), Errno> {
        let Notification { flags, status, main_pid, errno, extend_timeout } = *notification;
        let mut digits = [0; 20];
        if flags.contains(Flags::READY) {
            self.line("READY=1", b"")?;
        }
        if flags.contains(Flags::RELOADING) {
            self.line("RELOADING=1", b"")?;
            self.line("MONOTONIC_USEC=", decimal::digits(monotonic_nanoseconds() / 1000, &mut digits))?;
        }
        if flags.contains(Flags::STOPPING) {
            self.line("STOPPING=1", b"")?;
        }
        if flags.contains(Flags::WATCHDOG) {
            self.line("WATCHDOG=1", b"")?;
        }
        if flags.contains(Flags::WATCHDOG_TRIGGER) {
            self.line("WATCHDOG=trigger", b"")?;
        }
        if let Some(status) = status {
            self.line("STATUS=", one_line(status)?)?;
        }
        if let Some(pid) = main_pid {
            let pid = u64::try_from(pid).ok().filter(|&pid| pid > 0).ok_or(Errno::INVAL)?;
            self.line("MAINPID=", decimal::digits(pid, &mut digits))?;
        }
        if let Some(errno) = errno {
            self.line("ERRNO=", decimal::digits(u64::from(errno.raw_os_error().unsigned_abs()), &mut digits))?;
        }
        if let Some(longer) = extend_timeout {
            let microseconds = u64::try_from(longer.as_micros()).map_err(|_| Errno::INVAL)?;
            self.line("EXTEND_TIMEOUT_USEC=", decimal::digits(microseconds, &mut digits))?;
        }
        if self.length == 0 { Err(Errno::INVAL) } else { Ok(()) }
    }

    fn name(&mut self, name: Option<&CStr>) -> Result<(), Errno> {
        name.map_or(Ok(()), |name| {
            let name = name.to_bytes();
            let fits = |byte: &u8| byte.is_ascii() && !byte.is_ascii_control() && *byte != b':';
            let is_one = (1..=255).contains(&name.len()) && name.iter().all(fits);
            if is_one { self.line("FDNAME=", name) } else { Err(Errno::INVAL) }
        })
    }

    fn line(&mut self, front: &str, back: &[u8]) -> Result<(), Errno> {
        let length = front.len() + back.len() + 1;
        let place = self.text.get_mut(self.length..).and_then(|free| free.get_mut(..length)).ok_or(Errno::MSGSIZE)?;
        for (place, &byte) in place.iter_mut().zip(front.as_bytes().iter().chain(back).chain(b"\n")) {
            *place = byte;
        }
        self.length += length;
        Ok(())
    }
}

/// A second line would be another assignment.
fn one_line(text: &CStr) -> Result<&[u8], Errno> {
    let text = text.to_bytes();
    if text.iter().any(u8::is_ascii_control) { Err(Errno::INVAL) } else { Ok(text) }
}

/// How long a manager that does not read is waited for.
fn patience() -> Deadline {
    Deadline::milliseconds(5000)
}

fn send(message: &Message, fds: &[RawFd], deadline: Deadline) -> Result<bool, Errno> {
    let text = message.text.get(..message.length).unwrap_or_default();
    env::with(c"NOTIFY_SOCKET", |address| socket::send_datagram(address.to_bytes(), text, fds, deadline))
        .map_or(Ok(false), |sent| sent.map(|()| true))
}
