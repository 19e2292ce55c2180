//! What the original process opens for the daemon, where an error still reaches the terminal.

use super::config::Stream;
use super::plan::Plan;
use crate::error::{At, Error, Step};
use crate::file::FileId;
use crate::pidfile::{self, Pidfile};
use crate::step::{self, Source};
use crate::sys::fd::{self, Fd};
use core::ffi::CStr;
use rustix::fd::RawFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// What the original process opened for the daemon. Dropping it undoes the opening.
pub(super) struct Opened<'a> {
    null: Option<Fd>,
    files: [Option<StreamFile<'a>>; 3],
    pub(super) pidfile: Option<Pidfile>,
    /// The daemon's end of the channel, or -1; not this struct's to close.
    pub(super) writer: RawFd,
}

/// An open file, and its path if it is new.
struct StreamFile<'a> {
    fd: Fd,
    created: Option<&'a CStr>,
}

impl<'p> Opened<'p> {
    pub(super) fn new(plan: &Plan<'p>) -> Result<Opened<'p>, Error> {
        let mut opened = Opened { null: None, files: [const { None }; 3], pidfile: None, writer: -1 };
        // Before the streams: a start that is refused because a daemon runs truncates no log of its.
        if let Some(path) = plan.config.pidfile {
            opened.pidfile = Some(pidfile::open(path, &plan.config.pidfile_options)?);
        }
        if plan.streams.iter().any(|stream| matches!(stream, Stream::Null)) {
            opened.null = Some(step::stdio::open_null().at(Step::OpenStreams)?);
        }
        for ((target, stream), file) in (0..).zip(&plan.streams).zip(&mut opened.files) {
            *file = open_file(target, stream).at(Step::OpenStreams)?;
        }
        Ok(opened)
    }

    /// The fds that a sweep must spare, -1 where there is none: in the order in which they were opened, which is
    /// mostly the ascending one that a sweep likes best.
    pub(super) fn numbers(&self, given: [RawFd; 3]) -> [RawFd; 10] {
        let [input, output, error] = given;
        let null = self.null.as_ref().map_or(-1, Fd::number);
        let (pidfile, directory) = self.pidfile.as_ref().map_or((-1, -1), |pidfile| (pidfile.fd, pidfile.directory));
        let [a, b, c] = self.files.each_ref().map(|file| file.as_ref().map_or(-1, |file| file.fd.number()));
        [input, output, error, directory, pidfile, null, a, b, c, self.writer]
    }

    pub(super) fn sources<'a>(&'a self, streams: &[Stream<'a>; 3]) -> Result<[Source<'a>; 3], Errno> {
        let mut sources = [Source::Inherit; 3];
        for ((source, file), stream) in sources.iter_mut().zip(&self.files).zip(streams) {
            *source = match (stream, file, &self.null) {
                (Stream::Fd(fd), ..) => Source::Fd(*fd),
                (Stream::File { .. }, Some(file), _) => Source::Fd(file.fd.lend()),
                (Stream::Null, _, Some(null)) => Source::Fd(null.lend()),
                _ => Source::Inherit,
            };
        }
        if let Stream::SameAsStdout = streams[2] {
            sources[2] = if let Source::Inherit = sources[1] { Source::Fd(fd::borrow(1)?) } else { sources[1] };
        }
        Ok(sources)
    }

    /// Who holds the pidfile, if that is what stopped a step.
    pub(super) fn explain(&self, step: Step, errno: Errno) -> Error {
        match &self.pidfile {
            Some(pidfile) if step == Step::PidfileWrite && errno == Errno::EXIST => {
                Error::held(step, pidfile.holder().unwrap_or(0))
            }
            _ => Error::new(step, errno),
        }
    }

    /// In the daemon, once the streams are duplicates of what was opened for them.
    pub(super) fn close_streams(&mut self) {
        self.null = None;
        self.files = [const { None }; 3];
    }

    /// In the original process, once the daemon has it all: closing is not undoing then.
    pub(super) fn hand_over(&mut self) {
        let _ = self.pidfile.take().map(Pidfile::close);
        self.close_streams();
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        for file in self.files.iter().flatten() {
            file.abandon();
        }
        if let Some(pidfile) = self.pidfile.take() {
            pidfile.abandon();
        }
    }
}

impl StreamFile<'_> {
    /// Removes the file if this start made it, and it is still the one at its path.
    fn abandon(&self) {
        let is_ours = |path: &&CStr| {
            let ours = rustix::fs::fstat(self.fd.lend());
            ours.and_then(|ours| FileId::of(&ours).is_at(CWD, path)) == Ok(true)
        };
        let _ = self.created.filter(is_ours).map(rustix::fs::unlink);
    }
}

fn open_file<'a>(target: RawFd, stream: &Stream<'a>) -> Result<Option<StreamFile<'a>>, Errno> {
    let Stream::File { path, flags, mode } = stream else {
        return Ok(None);
    };
    // O_NONBLOCK while opening: a FIFO that nobody reads is an error, not a hang.
    let open = |flags, mode| fd::open(CWD, path, flags | OFlags::NONBLOCK, mode);
    let (file, flags) = if target == 0 {
        (StreamFile { fd: open(*flags, Mode::empty())?, created: None }, *flags)
    } else {
        let flags = *flags | OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        let mode = mode.unwrap_or(Mode::from_raw_mode(0o640));
        (open_output(path, flags, mode, &open)?, flags)
    };
    rustix::fs::fcntl_setfl(file.fd.lend(), flags).inspect_err(|_| file.abandon())?;
    Ok(Some(file))
}

fn open_output<'a>(
    path: &'a CStr,
    flags: OFlags,
    mode: Mode,
    open: &dyn Fn(OFlags, Mode) -> Result<Fd, Errno>,
) -> Result<StreamFile<'a>, Errno> {
    match open(flags | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => {
            let file = StreamFile { fd, created: Some(path) };
            rustix::fs::fchmod(file.fd.lend(), mode).inspect_err(|_| file.abandon())?;
            Ok(file)
        }
        Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {
            let fd = open(flags - OFlags::CREATE, Mode::empty())?;
            Ok(StreamFile { fd, created: None })
        }
        Err(errno) => Err(errno),
    }
}
