//! What a standard stream of a daemon or of a started program is, and the files that are opened for it in the process
//! that asked.

use crate::file::FileId;
use crate::sys::fd::{self, Fd};
use core::ffi::CStr;
use rustix::fd::BorrowedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// What a standard stream is.
#[derive(Clone, Copy, Debug, Default)]
pub enum Stream<'a> {
    /// `/dev/null` in a daemon, or for a program, that detaches; else as it is.
    #[default]
    Default,
    /// `/dev/null`.
    Null,
    /// As it is; of a program also if it is close-on-exec in the caller.
    Inherit,
    /// This fd. The caller of a spawn keeps it open; daemonize closes it.
    Fd(BorrowedFd<'a>),
    /// This file, opened in the process that asks: read from its start, or appended to and created if need be.
    File {
        /// Where it is.
        path: &'a CStr,
        /// More flags: any of `O_TRUNC`, `O_EXCL`, `O_SYNC`, `O_DSYNC`, `O_NOFOLLOW`, and `O_RDWR`, with which it is
        /// written from its start, and not appended to.
        flags: OFlags,
        /// The permission bits of a new file, whatever the umask. `None`: 0640.
        mode: Option<Mode>,
    },
    /// For standard error, and for mapped fds above 1: what standard output is.
    SameAsStdout,
    /// For a started program: a new pipe, whose other end the starter gets.
    Pipe,
    /// For standard output and error of a daemon: the system's log, line by line.
    Syslog,
}

/// Whether a file is read, or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Input,
    Output,
}

impl Direction {
    /// That of a standard stream.
    pub(crate) fn of(stream: usize) -> Direction {
        if stream == 0 { Direction::Input } else { Direction::Output }
    }
}

impl Stream<'_> {
    /// Refuses the file that could never be opened, with what the kernel would say of its path.
    pub(crate) fn check_file(&self, direction: Direction) -> Result<(), Errno> {
        let Stream::File { path, flags, mode } = self else {
            return Ok(());
        };
        let mut possible = OFlags::SYNC | OFlags::DSYNC | OFlags::NOFOLLOW | OFlags::RDWR;
        if direction == Direction::Output {
            possible |= OFlags::TRUNC | OFlags::EXCL;
        }
        let mode_fits = mode.is_none_or(|mode| Mode::from_bits_retain(0o777).contains(mode));
        if !possible.contains(*flags) || flags.contains(OFlags::WRONLY) || !mode_fits {
            return Err(Errno::INVAL);
        }
        check_path(path)
    }
}

/// What the kernel says of such a path, said before anything has changed.
pub(crate) fn check_path(path: &CStr) -> Result<(), Errno> {
    match path.count_bytes() {
        0 => Err(Errno::NOENT),
        1..4096 => Ok(()),
        _ => Err(Errno::NAMETOOLONG),
    }
}

/// An open file, and its path if it is new.
pub(crate) struct StreamFile<'a> {
    pub(crate) fd: Fd,
    created: Option<&'a CStr>,
}

impl<'a> StreamFile<'a> {
    /// Opens the file of a stream that has one.
    pub(crate) fn open(stream: &Stream<'a>, direction: Direction) -> Result<Option<StreamFile<'a>>, Errno> {
        let Stream::File { path, flags, mode } = stream else {
            return Ok(None);
        };
        let (mut file, flags) = if direction == Direction::Input {
            (StreamFile { fd: open(path, *flags, Mode::empty())?, created: None }, *flags)
        } else {
            let access = if flags.contains(OFlags::RDWR) { OFlags::RDWR } else { OFlags::WRONLY | OFlags::APPEND };
            let flags = *flags | access | OFlags::CREATE;
            (open_output(path, flags, mode.unwrap_or(Mode::from_raw_mode(0o640)))?, flags)
        };
        rustix::fs::fcntl_setfl(file.fd.lend(), flags).inspect_err(|_| file.abandon())?;
        if file.fd.number() < 3 {
            file.fd = fd::duplicate(file.fd.lend()).inspect_err(|_| file.abandon())?;
        }
        Ok(Some(file))
    }

    /// Removes the file if this start made it, and it is still the one at its path.
    pub(crate) fn abandon(&self) {
        let is_ours = |path: &&CStr| {
            let ours = rustix::fs::fstat(self.fd.lend());
            ours.and_then(|ours| FileId::of(&ours).is_at(CWD, path)) == Ok(true)
        };
        let _ = self.created.filter(is_ours).map(rustix::fs::unlink);
    }
}

/// O_NONBLOCK while opening: a FIFO that nobody reads is an error, not a hang.
fn open(path: &CStr, flags: OFlags, mode: Mode) -> Result<Fd, Errno> {
    fd::open_lowest(CWD, path, flags | OFlags::NONBLOCK, mode)
}

fn open_output(path: &CStr, flags: OFlags, mode: Mode) -> Result<StreamFile<'_>, Errno> {
    match open(path, flags | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => {
            let file = StreamFile { fd, created: Some(path) };
            rustix::fs::fchmod(file.fd.lend(), mode).inspect_err(|_| file.abandon())?;
            Ok(file)
        }
        Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {
            let fd = open(path, flags - OFlags::CREATE, Mode::empty())?;
            Ok(StreamFile { fd, created: None })
        }
        Err(errno) => Err(errno),
    }
}
