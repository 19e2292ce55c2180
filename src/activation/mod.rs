//! Sockets that a service manager hands over: launchd, systemd, or inetd. One visitor sees them all.
//!
//! They are collected once, before any fork: from then on they are close-on-exec, and what told of them is gone from the
//! environment, so that no child takes them for its own. Nothing is ever closed or unlinked that the manager made.

mod inetd;
#[cfg(any(target_vendor = "apple", rdaemon_fake_launchd))]
mod launchd;
mod systemd;

pub(crate) use systemd::uncollected;

use crate::sys::fd;
use crate::sys::socket;
use core::ffi::{CStr, c_int};
use core::sync::atomic::{AtomicI32, Ordering};
use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::getpid;

bitflags::bitflags! {
    /// What the environment does not tell.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// inetd started this process: fd 0 is the socket.
        const INETD = 1;
    }
}

/// Who has handed over a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// launchd.
    Launchd = 1,
    /// systemd, or what speaks as it does.
    Systemd = 2,
    /// inetd.
    Inetd = 3,
}

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connections are accepted.
    Listener = 1,
    /// It is one.
    Connection = 2,
    /// Datagrams are received.
    Datagram = 3,
    /// It is no socket: a FIFO, a file.
    Other = 4,
}

/// What was handed over.
#[derive(Clone, Copy, Debug)]
pub struct Socket<'a> {
    /// Close-on-exec, above the standard streams, and the visitor's to keep.
    pub fd: RawFd,
    /// By whom.
    pub source: Source,
    /// What for.
    pub kind: Kind,
    /// `AF_UNIX` and the like; 0 of what is no socket.
    pub family: c_int,
    /// `SOCK_STREAM` and the like; 0 of what is no socket.
    pub socket_type: c_int,
    /// As the manager's configuration has it.
    pub name: &'a CStr,
}

/// What the visitor says: 0 to go on.
type Visitor<'v> = &'v mut dyn FnMut(&Socket<'_>) -> c_int;

/// How the visits went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visits {
    /// So many.
    All(usize),
    /// The visitor has ended them with this.
    Ended(c_int),
}

/// The process that has collected: no child of it was handed anything.
static COLLECTOR: AtomicI32 = AtomicI32::new(0);

/// Whether this process was handed sockets, and has them.
pub(crate) fn is_collected() -> bool {
    let collector = COLLECTOR.load(Ordering::Relaxed);
    collector != 0 && collector == getpid().as_raw_pid()
}

fn set_collected() {
    COLLECTOR.store(getpid().as_raw_pid(), Ordering::Relaxed);
}

/// Visits each socket of that name, or of any.
///
/// `ESRCH` when no manager has handed over anything, `EALREADY` the second time, `ENOENT` when none has that name; `EINVAL`,
/// `EBADF`, `EBADMSG` for a `LISTEN_PID` or `LISTEN_FDS` that is no number, fds that are not open, names that are more or
/// fewer than fds; `ENOTSOCK` for [`Flags::INETD`] when standard input is no socket. launchd is asked for a name only, once for each.
/// On these nothing has changed. A visitor that answers other than 0 ends the visits; all fds are collected then.
///
/// # Safety
///
/// No other thread reads or changes the environment meanwhile; the fds that the manager has named are nobody else's.
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn listen(name: Option<&CStr>, flags: Flags, visitor: Visitor<'_>) -> Result<Visits, Errno> {
    listen_promised(name, flags, visitor)
}

/// [`listen`], for callers whose own caller has promised.
pub(crate) fn listen_promised(name: Option<&CStr>, flags: Flags, visitor: Visitor<'_>) -> Result<Visits, Errno> {
    let mut number = 0;
    let mut ended = 0;
    let mut visit = |socket: &Socket<'_>| {
        number += 1;
        ended = visitor(socket);
        ended == 0
    };
    collect(name, flags, &mut visit)?;
    match (number, ended) {
        (0, _) => Err(Errno::NOENT),
        (_, 0) => Ok(Visits::All(number)),
        (_, ended) => Ok(Visits::Ended(ended)),
    }
}

/// The one socket of that name, or of any: `E2BIG` when there are more, and then all are collected, and `ENOTSOCK` when
/// it is none.
///
/// # Safety
///
/// As of [`listen`].
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn listen_fd(name: Option<&CStr>, flags: Flags) -> Result<rustix::fd::OwnedFd, Errno> {
    listen_fd_promised(name, flags).map(rustix::fd::OwnedFd::from)
}

/// [`listen_fd`], for callers whose own caller has promised.
pub(crate) fn listen_fd_promised(name: Option<&CStr>, flags: Flags) -> Result<fd::Fd, Errno> {
    let mut found = Err(Errno::NOENT);
    let visits = listen_promised(name, flags, &mut |socket| {
        found = if socket.kind == Kind::Other { Err(Errno::NOTSOCK) } else { Ok(socket.fd) };
        0
    })?;
    match visits {
        Visits::All(1) => fd::Fd::take(found?),
        _ => Err(Errno::TOOBIG),
    }
}

fn collect(name: Option<&CStr>, flags: Flags, visit: Visit<'_>) -> Result<(), Errno> {
    #[cfg(any(target_vendor = "apple", rdaemon_fake_launchd))]
    if let Some(name) = name {
        match launchd::collect(name, visit) {
            Err(Errno::SRCH) => {}
            result => return result,
        }
    }
    if is_collected() {
        return Err(Errno::ALREADY);
    }
    match systemd::offered()? {
        Some(number) => systemd::collect(number, name, visit),
        None if flags.contains(Flags::INETD) => inetd::collect(name, visit),
        None => Err(Errno::SRCH),
    }
}

/// Answers whether to go on.
type Visit<'v> = &'v mut dyn FnMut(&Socket<'_>) -> bool;

impl<'a> Socket<'a> {
    /// Asks the kernel what it is.
    fn new(fd: BorrowedFd<'_>, source: Source, name: &'a CStr) -> Result<Socket<'a>, Errno> {
        use rustix::fd::AsRawFd;
        let stat = rustix::fs::fstat(fd)?;
        let mut socket = Socket { fd: fd.as_raw_fd(), source, kind: Kind::Other, family: 0, socket_type: 0, name };
        if FileType::from_raw_mode(stat.st_mode as _) == FileType::Socket {
            let nature = socket::nature(fd)?;
            (socket.family, socket.socket_type) = (nature.family, nature.socket_type);
            socket.kind = match nature.socket_type {
                libc::SOCK_STREAM | libc::SOCK_SEQPACKET if nature.listens => Kind::Listener,
                libc::SOCK_STREAM | libc::SOCK_SEQPACKET => Kind::Connection,
                _ => Kind::Datagram,
            };
        }
        Ok(socket)
    }
}
