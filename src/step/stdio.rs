use crate::sys::fd::{self, Fd};
use core::ffi::CStr;
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

const NULL: &CStr = c"/dev/null";

/// What one of the standard streams becomes.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// It stays what it is.
    Inherit,
    /// `/dev/null`.
    Null,
    /// A duplicate of this fd, which may itself be a standard stream.
    Fd(BorrowedFd<'a>),
}

/// `open()`—Opens `/dev/null` on each of fds 0, 1 and 2 that is closed, so that no file opened later becomes a standard
/// stream by accident. Answers which ones it opened.
///
/// `ENODEV` when `/dev/null` is not the null device. Async-signal-safe.
pub fn open_stdio() -> Result<[bool; 3], Errno> {
    OpenedStdio::new().map(OpenedStdio::keep)
}

/// The standard streams that were closed, and are open for as long as this lives.
pub(crate) struct OpenedStdio([bool; 3]);

impl OpenedStdio {
    pub(crate) fn new() -> Result<OpenedStdio, Errno> {
        let mut opened = OpenedStdio([false; 3]);
        for (target, opened) in (0..).zip(&mut opened.0) {
            *opened = !fd::is_open(target) && fill(target)?;
        }
        Ok(opened)
    }

    pub(crate) fn keep(mut self) -> [bool; 3] {
        core::mem::take(&mut self.0)
    }
}

impl Drop for OpenedStdio {
    fn drop(&mut self) {
        for (target, opened) in (0..).zip(self.0) {
            if opened {
                fd::Act::Close.on(target);
            }
        }
    }
}

/// The lowest free fd is the target, unless another thread was quicker to open something there.
fn fill(target: RawFd) -> Result<bool, Errno> {
    let null = null_device(fd::open_lowest(CWD, NULL, OFlags::RDWR, Mode::empty())?)?;
    let is_filled = null.number() == target;
    if is_filled {
        fd::put(null.lend(), target)?;
        null.into_number();
    }
    Ok(is_filled)
}

/// `/dev/null`, above the standard streams.
pub(crate) fn open_null() -> Result<Fd, Errno> {
    null_device(fd::open(CWD, NULL, OFlags::RDWR, Mode::empty())?)
}

/// A regular file in its place would fill up, or be read, unnoticed.
fn null_device(file: Fd) -> Result<Fd, Errno> {
    let stat = rustix::fs::fstat(file.lend())?;
    let is_device = FileType::from_raw_mode(stat.st_mode as _) == FileType::CharacterDevice;
    #[cfg(target_os = "linux")]
    let is_device = is_device && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_device { Ok(file) } else { Err(Errno::NODEV) }
}

fn is_replaced(fd: RawFd, sources: &[Source<'_>; 3]) -> bool {
    (0..).zip(sources).any(|(target, source)| target == fd && !matches!(source, Source::Inherit))
}

/// `dup2()`—Makes fds 0, 1 and 2 what `sources` says, all at once: a source may be a standard stream that is itself
/// replaced.
///
/// Whatever can fail is done before the first stream changes. Async-signal-safe.
pub fn redirect_stdio(sources: [Source<'_>; 3]) -> Result<(), Errno> {
    let null = if sources.iter().any(|source| matches!(source, Source::Null)) { Some(open_null()?) } else { None };
    let mut copies = [const { None }; 3];
    for ((target, source), copy) in (0..).zip(&sources).zip(&mut copies) {
        match source {
            Source::Fd(source) if source.as_raw_fd() != target && is_replaced(source.as_raw_fd(), &sources) => {
                *copy = Some(fd::duplicate(*source)?);
            }
            _ => {}
        }
    }
    for ((target, source), copy) in (0..).zip(&sources).zip(&copies) {
        let source = match source {
            Source::Inherit => None,
            Source::Null => null.as_ref().map(Fd::lend),
            Source::Fd(source) => Some(copy.as_ref().map_or(*source, Fd::lend)),
        };
        source.map_or(Ok(()), |source| fd::put(source, target))?;
    }
    Ok(())
}
