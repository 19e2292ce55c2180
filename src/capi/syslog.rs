use super::intake::{Sized_, answer, array, handle, optional_path, sized, sized_in, sized_out};
use super::steps::rdaemon_identity;
use crate::sys::fd::Fd;
use crate::syslog::{self, Flags, IDENT_SIZE, Options, PATH_SIZE, Syslog};
use core::ffi::{c_char, c_int};
use rustix::io::Errno;

/// Flags of struct rdaemon_syslog_options.
#[repr(C)]
pub enum rdaemon_syslog_flags {
    /// The process's pid is in the tag: ident[pid]. With RDAEMON_STREAM_SYSLOG it is the daemon's, with
    /// rdaemon_log_pump() that of the caller.
    RDAEMON_SYSLOG_PID = 1,
    /// Opening succeeds although nobody listens yet. fd is -1 then, until there is a connection.
    RDAEMON_SYSLOG_LATER = 2,
}

const _: () = {
    assert!(rdaemon_syslog_flags::RDAEMON_SYSLOG_PID as u32 == Flags::PID.bits());
    assert!(rdaemon_syslog_flags::RDAEMON_SYSLOG_LATER as u32 == Flags::LATER.bits());
};

/// Where messages go, and what they are tagged with.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_syslog_options {
    /// enum rdaemon_syslog_flags.
    pub flags: u32,
    /// LOG_USER and the like, from <syslog.h>; 0: LOG_DAEMON.
    pub facility: i32,
    /// The tag: 1 to 63 printable ASCII characters, no blank, ':' or '[' among them.
    pub ident: *const c_char,
    /// The socket, of at most 107 bytes. NULL: the system's, /dev/log.
    pub path: *const c_char,
}

/// A connection to the log: plain data, for one thread at a time. Of zeros it is a closed one.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_syslog {
    /// The socket; -1 or 0: none. A new connection keeps the number, unless it was closed elsewhere.
    pub fd: i32,
    /// enum rdaemon_syslog_flags.
    pub flags: u32,
    /// The facility of messages that name none.
    pub facility: i32,
    /// Lines lost since the last one that arrived.
    pub lost: u32,
    /// The library's.
    pub state: u32,
    /// Zero.
    pub reserved: u32,
    /// The socket's inode: one that was closed elsewhere, and whose number is another file's, is made anew.
    pub inode: u64,
    /// The tag.
    pub ident: [c_char; 64],
    /// The socket's path; empty: the system's.
    pub path: [c_char; 112],
}

sized! { rdaemon_syslog_options = 8 + 2 * size_of::<*const c_char>(), rdaemon_syslog = 208, }

impl rdaemon_syslog_options {
    /// The options as the floor below takes, and checks, them.
    pub(super) fn options<'a>(&self) -> Result<Options<'a>, Errno> {
        let flags = Flags::from_bits(self.flags).ok_or(Errno::INVAL)?;
        let (ident, path) = (optional_path(self.ident)?, optional_path(self.path)?);
        Ok(Options { flags, facility: self.facility, ident, path })
    }
}

impl From<Syslog> for rdaemon_syslog {
    fn from(log: Syslog) -> rdaemon_syslog {
        let mut c = rdaemon_syslog::zeroed();
        (c.fd, c.flags, c.facility, c.lost) = (log.fd, log.flags, log.facility, log.lost);
        (c.state, c.inode) = (log.is_stuck.into(), log.inode);
        for (place, byte) in c.ident.iter_mut().zip(log.ident) {
            *place = byte as c_char;
        }
        for (place, byte) in c.path.iter_mut().zip(log.path) {
            *place = byte as c_char;
        }
        c
    }
}

impl rdaemon_syslog {
    fn log(&self) -> Result<Syslog, Errno> {
        let is_one = Flags::from_bits(self.flags).is_some() && syslog::is_facility(self.facility) && self.ident[0] != 0;
        if self.reserved != 0 || self.state > 1 || !is_one {
            return Err(Errno::INVAL);
        }
        let mut log = Syslog {
            // The library makes none below 3.
            fd: if self.fd > 2 { self.fd } else { -1 },
            inode: self.inode,
            flags: self.flags,
            facility: self.facility,
            lost: self.lost,
            is_stuck: self.state != 0,
            pid: 0,
            ident: [0; IDENT_SIZE],
            path: [0; PATH_SIZE],
        };
        // The last byte of either stays, as a NUL.
        for (place, &byte) in log.ident.iter_mut().zip(&self.ident).take(IDENT_SIZE - 1) {
            [*place] = byte.to_ne_bytes();
        }
        for (place, &byte) in log.path.iter_mut().zip(&self.path).take(PATH_SIZE - 1) {
            [*place] = byte.to_ne_bytes();
        }
        Ok(log)
    }
}

/// Connects to the system's log. Call it before chroot(2), after which the connection goes on; it can be made anew then
/// only if the socket is in the new root directory. A later rdaemon_daemonize() closes the fd unless it is in
/// files_preserve, where the -1 of RDAEMON_SYSLOG_LATER is refused (-EBADF): leave it out, and the next message
/// connects.
///
/// Returns 0; -EINVAL for NULL, a short handle, unknown flags, a bad ident or facility; -ENOENT for an empty path;
/// -ENAMETOOLONG for a path that no socket has; or, without RDAEMON_SYSLOG_LATER, any error of socket(2) and
/// connect(2): -ENOENT, -ECONNREFUSED when nobody listens.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_syslog_open(
    options: *const rdaemon_syslog_options,
    options_size: usize,
    ret_log: *mut rdaemon_syslog,
    ret_log_size: usize,
) -> c_int {
    answer(|| {
        if ret_log.is_null() || ret_log_size < rdaemon_syslog::FIRST {
            return Err(Errno::INVAL);
        }
        let log = Syslog::open(&sized_in(options, options_size)?.options()?)?;
        sized_out(ret_log, ret_log_size, &log.into());
        Ok(0)
    })
}

/// Logs each line of the len bytes at text, which need no NUL, and no newline at their end; empty lines are left out.
///
/// priority is a level, LOG_ERR and the like, which may be combined with a facility. A message is a datagram of at most
/// 1024 bytes, "<priority>ident: text", or "<priority>ident[pid]: text" with RDAEMON_SYSLOG_PID, as RFC 3164 has it,
/// but without a timestamp, which the receiver knows. A longer line becomes several, cut between UTF-8 characters.
/// Control bytes but for tab become a backslash, x and two hexadecimal digits.
///
/// When the server was restarted the connection is made anew. A server that does not read is waited for, a second long;
/// after that no more, until it reads. Lines that are lost are counted in log->lost; as soon as one arrives again, the
/// number is logged before it, with level LOG_WARNING.
///
/// Returns 0; the error that lost the last line that was lost, as -EAGAIN for a server that does not read, -ENOENT or
/// -ECONNREFUSED for none; -EINVAL for NULL, a handle that was not opened, or a priority that does not exist.
/// Async-signal-safe, but not with the handle that the interrupted code is using; thread-safe with other handles. Needs
/// about 5 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_syslog(
    log: *mut rdaemon_syslog,
    log_size: usize,
    priority: c_int,
    text: *const c_char,
    len: usize,
) -> c_int {
    answer(|| {
        let text = array(text.cast::<u8>(), len)?;
        let mut own = handle(log, log_size)?.log()?;
        let result = own.log(priority, text);
        sized_out(log, log_size, &own.into());
        result.map(|()| 0)
    })
}

/// Closes the connection, and makes the handle one of nothing. One that is closed already is fine.
///
/// Returns 0, or -EINVAL for NULL or a short handle.
/// Async-signal-safe, thread-safe with other handles. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_syslog_close(log: *mut rdaemon_syslog, log_size: usize) -> c_int {
    answer(|| {
        let given = handle(log, log_size)?;
        // One of nothing has nothing to close.
        let _ = given.log().map(Syslog::close);
        sized_out(log, log_size, &rdaemon_syslog { fd: -1, ..rdaemon_syslog::zeroed() });
        Ok(0)
    })
}

/// Starts a process that logs what is written to the fd that is returned, line by line as rdaemon_syslog() does, until
/// its last writer has closed it: for the streams of a program, or for fds 1 and 2 of this process.
///
/// A line that starts with "<n>", n from 0 to 7, has that level, and is logged without it; the others have that of
/// priority. identity is whose rights the process has; NULL, 0: the caller's. It is the child of init, or of the
/// nearest subreaper, in a session of its own, with no fds but the pipe and a copy of the log's; it blocks all signals,
/// so that what ends the daemon leaves its last words to be logged; but with the first process of a pid namespace it
/// ends too. Writing to the fd when the process has gone raises SIGPIPE. The end of the process between raises a
/// SIGCHLD in the caller.
///
/// Returns the fd, yours to close; -EINVAL for NULL, a handle that was not opened, a priority that does not exist or a
/// bad identity; any error of pipe(2), socketpair(2), mmap(2), fork(2), setgroups(2), setresgid(2), setresuid(2); -ESRCH
/// when the process was killed.
/// Not async-signal-safe; threads as with rdaemon_double_fork(). Needs about 12 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_log_pump(
    log: *const rdaemon_syslog,
    log_size: usize,
    priority: c_int,
    identity: *const rdaemon_identity,
    identity_size: usize,
) -> c_int {
    answer(|| {
        let identity = sized_in(identity, identity_size)?;
        let identity = identity.identity()?;
        identity.check()?;
        let log = handle(log, log_size)?.log()?;
        syslog::pump_promised(&log, priority, &identity).map(Fd::into_number).map_err(|error| error.errno)
    })
}
