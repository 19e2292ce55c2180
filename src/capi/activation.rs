use super::intake::{answer, optional_path};
use crate::activation::{self, Flags, Kind, Socket, Source, Visits};
use crate::sys::fd::Fd;
use core::ffi::{CStr, c_char, c_int, c_void};
use rustix::io::Errno;

/// Flags of rdaemon_listen() and rdaemon_listen_fd().
#[repr(C)]
pub enum rdaemon_listen_flags {
    /// inetd started this process, with "wait" or with "nowait": standard input is the socket. Nothing else could tell.
    RDAEMON_LISTEN_INETD = 1,
}

const _: () = assert!(rdaemon_listen_flags::RDAEMON_LISTEN_INETD as u32 == Flags::INETD.bits());

/// Who has handed over a socket: struct rdaemon_socket.
#[repr(C)]
pub enum rdaemon_socket_source {
    /// launchd.
    RDAEMON_SOURCE_LAUNCHD = 1,
    /// systemd, or what speaks as it does.
    RDAEMON_SOURCE_SYSTEMD = 2,
    /// inetd.
    RDAEMON_SOURCE_INETD = 3,
}

const _: () = {
    assert!(rdaemon_socket_source::RDAEMON_SOURCE_LAUNCHD as u32 == Source::Launchd as u32);
    assert!(rdaemon_socket_source::RDAEMON_SOURCE_SYSTEMD as u32 == Source::Systemd as u32);
    assert!(rdaemon_socket_source::RDAEMON_SOURCE_INETD as u32 == Source::Inetd as u32);
};

/// What a socket is for: struct rdaemon_socket.
#[repr(C)]
pub enum rdaemon_socket_kind {
    /// accept(2).
    RDAEMON_SOCKET_LISTENER = 1,
    /// It is a connection already.
    RDAEMON_SOCKET_CONNECTION = 2,
    /// recv(2).
    RDAEMON_SOCKET_DATAGRAM = 3,
    /// It is no socket: a FIFO, a file, a device.
    RDAEMON_SOCKET_OTHER = 4,
}

const _: () = {
    assert!(rdaemon_socket_kind::RDAEMON_SOCKET_LISTENER as u32 == Kind::Listener as u32);
    assert!(rdaemon_socket_kind::RDAEMON_SOCKET_CONNECTION as u32 == Kind::Connection as u32);
    assert!(rdaemon_socket_kind::RDAEMON_SOCKET_DATAGRAM as u32 == Kind::Datagram as u32);
    assert!(rdaemon_socket_kind::RDAEMON_SOCKET_OTHER as u32 == Kind::Other as u32);
};

/// What a service manager has handed over.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_socket {
    /// Yours. Closing it, or unlinking its path, is not needed: the manager has it too.
    pub fd: i32,
    /// enum rdaemon_socket_source.
    pub source: u32,
    /// enum rdaemon_socket_kind.
    pub kind: u32,
    /// AF_UNIX and the like; 0 of what is no socket.
    pub family: i32,
    /// SOCK_STREAM and the like; 0 of what is no socket.
    pub r#type: i32,
    /// Zero.
    pub reserved: u32,
    /// Its name in the manager's configuration; "unknown" where that gives none; of inetd, which has no names, the one
    /// that was asked for. It lives until the visitor returns.
    pub name: *const c_char,
}

impl From<&Socket<'_>> for rdaemon_socket {
    fn from(socket: &Socket<'_>) -> rdaemon_socket {
        rdaemon_socket {
            fd: socket.fd,
            source: socket.source as u32,
            kind: socket.kind as u32,
            family: socket.family,
            r#type: socket.socket_type,
            reserved: 0,
            name: socket.name.as_ptr(),
        }
    }
}

fn arguments<'a>(name: *const c_char, flags: u32) -> Result<(Option<&'a CStr>, Flags), Errno> {
    Ok((optional_path(name)?, Flags::from_bits(flags).ok_or(Errno::INVAL)?))
}

/// Visits the sockets that a service manager has handed over: launchd (launch_activate_socket(3)), systemd (LISTEN_FDS
/// and what belongs to it, see sd_listen_fds(3)), or inetd, with the flag.
///
/// name: those of this name; NULL: all, but none of launchd's, which is asked for each name by a call of its own.
/// flags: 0 or enum rdaemon_listen_flags. All are collected at once, before the first visit, those of other names too:
/// they become CLOEXEC, and LISTEN_FDS and the like are taken out of the environment, so that no child takes them for
/// its own. The socket of inetd gets a number above the standard streams, which become /dev/null. Call it before
/// rdaemon_daemonize(), which does not detach by itself then, and closes fds that are not in files_preserve.
///
/// A result of the visitor other than 0 ends the visits and is returned: best a negative errno. The fds that were not
/// visited stay open.
///
/// Returns how many it has visited (> 0), or the visitor's result. -ESRCH when no manager has handed over anything;
/// -EALREADY when they were collected already; -ENOENT when none has that name: they are collected all the same, but
/// for launchd's. After these nothing has changed: -EINVAL for a LISTEN_PID, LISTEN_PIDFDID or LISTEN_FDS that is no
/// number, for a LISTEN_FDS of 0, unknown flags, or NULL for a visitor; -EBADF when one of the fds is not open;
/// -EBADMSG when LISTEN_FDNAMES has more or fewer names than there are fds, or one of 256 bytes; -ENOTSOCK with
/// RDAEMON_LISTEN_INETD when standard input is no socket; -ENAMETOOLONG for a name of 4096 bytes; -EMFILE;
/// with RDAEMON_LISTEN_INETD any error of opening /dev/null; or what launchd says. An error of fstat(2) or
/// getsockname(2) comes when systemd's are collected.
/// Not async-signal-safe; no other thread may use the environment. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_listen(
    name: *const c_char,
    flags: u32,
    visitor: Option<extern "C" fn(context: *mut c_void, socket: *const rdaemon_socket) -> c_int>,
    context: *mut c_void,
) -> c_int {
    answer(|| {
        let (name, flags) = arguments(name, flags)?;
        let visitor = visitor.ok_or(Errno::INVAL)?;
        let visits = activation::listen_promised(name, flags, &mut |socket| {
            let socket = rdaemon_socket::from(socket);
            visitor(context, &raw const socket)
        });
        Ok(match visits? {
            Visits::All(number) => number as c_int,
            Visits::Ended(result) => result,
        })
    })
}

/// Collects as rdaemon_listen() does, and returns the one socket of that name, or of any.
///
/// Returns the fd, yours; -E2BIG when there are more, and -ENOTSOCK when it is none: then all are collected, and have
/// the numbers that the manager gave them; else as rdaemon_listen().
/// Not async-signal-safe; no other thread may use the environment. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_listen_fd(name: *const c_char, flags: u32) -> c_int {
    answer(|| {
        let (name, flags) = arguments(name, flags)?;
        activation::listen_fd_promised(name, flags).map(Fd::into_number)
    })
}
