use super::intake::path;
use super::steps::step_mode;
use crate::error::{Error, Step, refuse};
use crate::stream::Stream;
use crate::sys::fd;
use core::ffi::c_char;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// What a standard stream becomes: struct rdaemon_stream.
#[repr(C)]
pub enum rdaemon_stream_action {
    /// Of a daemon: /dev/null when the process detaches; else as it is, as a service manager has set it up. Of a
    /// spawned program: as it is, but /dev/null with RDAEMON_SPAWN_DETACHED.
    RDAEMON_STREAM_DEFAULT = 0,
    /// /dev/null.
    RDAEMON_STREAM_NULL = 1,
    /// As it is; of a spawned program also if it is CLOEXEC in the caller.
    RDAEMON_STREAM_INHERIT = 2,
    /// The fd. In a daemon it is closed afterwards (in a process that does not detach: in this process) unless it is in
    /// files_preserve or RDAEMON_KEEP_FDS is set. The caller of a spawn keeps it open.
    RDAEMON_STREAM_FD = 3,
    /// The file at path, opened in the calling process, with its working directory and its privileges. Standard input
    /// reads it; standard output and error append to it, and create it if need be. A FIFO that nobody reads is -ENXIO.
    RDAEMON_STREAM_FILE = 4,
    /// For standard error, and for entries of an fd map above 1: what standard output becomes.
    RDAEMON_STREAM_SAME_AS_STDOUT = 5,
    /// A spawned program only: a new pipe, whose other end the caller gets.
    RDAEMON_STREAM_PIPE = 6,
    /// Standard output and error of a daemon only: the system's log, as rdaemon_config.syslog says, line by line,
    /// through a process as of rdaemon_log_pump(). Lines of standard output have level info, of standard error err,
    /// unless they start with "<n>".
    RDAEMON_STREAM_SYSLOG = 7,
}

/// What a standard stream becomes. A field that its action does not use is zero.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_stream {
    /// enum rdaemon_stream_action.
    pub action: u32,
    /// For RDAEMON_STREAM_FD.
    pub fd: i32,
    /// For RDAEMON_STREAM_FILE.
    pub path: *const c_char,
    /// For RDAEMON_STREAM_FILE: any of O_TRUNC, O_EXCL (both for output only), O_SYNC, O_DSYNC and O_NOFOLLOW, in
    /// addition; and O_RDWR, with which an output is written from its start instead of appended to: O_RDWR | O_TRUNC is
    /// the shell's >.
    pub open_flags: i32,
    /// For RDAEMON_STREAM_FILE: the permission bits of a new file, whatever the umask. 0: 0640.
    pub mode: u32,
}

impl rdaemon_stream {
    /// The stream as the floor below takes, and checks, it. A refusal is of the step that puts it into place.
    pub(super) fn stream<'a>(&self, placing: Step) -> Result<Stream<'a>, Error> {
        let is_unused = self.path.is_null() && self.open_flags == 0 && self.mode == 0;
        let stream = match (self.action, self.fd) {
            (0, 0) if is_unused => Ok(Stream::Default),
            (1, 0) if is_unused => Ok(Stream::Null),
            (2, 0) if is_unused => Ok(Stream::Inherit),
            (3, fd) if is_unused => fd::borrow_open(fd).map(Stream::Fd),
            (4, 0) => return refuse(self.file(), Step::OpenStreams),
            (5, 0) if is_unused => Ok(Stream::SameAsStdout),
            (6, 0) if is_unused => Ok(Stream::Pipe),
            (7, 0) if is_unused => Ok(Stream::Syslog),
            _ => Err(Errno::INVAL),
        };
        refuse(stream, placing)
    }

    fn file<'a>(&self) -> Result<Stream<'a>, Errno> {
        Ok(Stream::File {
            path: path(self.path)?,
            flags: OFlags::from_bits_retain(self.open_flags as _),
            mode: if self.mode == 0 { None } else { Some(step_mode(self.mode)?) },
        })
    }
}
