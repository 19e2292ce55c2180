//! What the original process opens for the daemon, where an error still reaches the terminal.

use super::plan::Plan;
use crate::error::{At, Error, Step};
use crate::pidfile::{self, Pidfile};
use crate::step::{self, Source};
use crate::stream::{Direction, Stream, StreamFile};
use crate::sys::fd::{self, Fd};
use rustix::fd::RawFd;
use rustix::io::Errno;

/// What the original process opened for the daemon. Dropping it undoes the opening.
pub(super) struct Opened<'a> {
    null: Option<Fd>,
    files: [Option<StreamFile<'a>>; 3],
    pub(super) pidfile: Option<Pidfile>,
    /// The daemon's end of the channel, or -1; not this struct's to close.
    pub(super) writer: RawFd,
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
        for ((target, stream), file) in plan.streams.iter().enumerate().zip(&mut opened.files) {
            *file = StreamFile::open(stream, Direction::of(target)).at(Step::OpenStreams)?;
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
