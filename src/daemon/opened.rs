//! What the original process opens for the daemon, where an error still reaches the terminal.

use super::plan::Plan;
use crate::error::{At, Error, Step};
use crate::pidfile::{self, Pidfile};
use crate::step::{self, Source};
use crate::stream::{Direction, Stream, StreamFile};
use crate::sys::fd::{self, Fd};
use crate::syslog::{Input, Syslog, start_pump};
use rustix::fd::RawFd;
use rustix::io::Errno;

/// What the original process opened for the daemon. Dropping it undoes the opening.
pub(super) struct Opened<'a> {
    null: Option<Fd>,
    files: [Option<StreamFile<'a>>; 3],
    pub(super) pidfile: Option<Pidfile>,
    pub(super) log: Option<OpenedLog>,
    /// The daemon's end of the channel, or -1; not this struct's to close.
    pub(super) writer: RawFd,
}

/// The connection to the log, and the pipes to the process that uses it, which for standard output and error are the
/// first and the second.
pub(super) struct OpenedLog {
    syslog: Syslog,
    readers: [Option<Input>; 2],
    writers: [Option<Fd>; 2],
}

impl OpenedLog {
    fn new(plan: &Plan<'_>) -> Result<Option<OpenedLog>, Errno> {
        let [_, output, error] = plan.streams.map(|stream| matches!(stream, Stream::Syslog));
        if !(output || error) {
            return Ok(None);
        }
        let mut log =
            OpenedLog { syslog: Syslog::open(&plan.config.syslog)?, readers: [None, None], writers: [None, None] };
        let wanted = [(output, libc::LOG_INFO), (error, libc::LOG_ERR)];
        for (((is_wanted, level), input), end) in wanted.into_iter().zip(&mut log.readers).zip(&mut log.writers) {
            if is_wanted {
                let (reader, writer) = fd::pipe()?;
                *input = Some(Input { reader, level: level as u8 });
                *end = Some(writer);
            }
        }
        Ok(Some(log))
    }

    /// Starts the process that logs the streams.
    pub(super) fn start_pump(&mut self, settle: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        start_pump(self.syslog, &mut self.readers, settle)
    }

    fn numbers(&self) -> [RawFd; 5] {
        let number = |fd: Option<&Fd>| fd.map_or(-1, Fd::number);
        let [a, b] = self.readers.each_ref().map(|input| number(input.as_ref().map(|input| &input.reader)));
        let [c, d] = self.writers.each_ref().map(|end| number(end.as_ref()));
        [self.syslog.fd, a, c, b, d]
    }
}

impl Drop for OpenedLog {
    fn drop(&mut self) {
        // Nobody else has closed it, which Syslog::close asks the kernel about.
        let _ = Fd::take(self.syslog.fd).map(drop);
    }
}

impl<'p> Opened<'p> {
    pub(super) fn new(plan: &Plan<'p>) -> Result<Opened<'p>, Error> {
        let mut opened = Opened { null: None, files: [const { None }; 3], pidfile: None, log: None, writer: -1 };
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
        opened.log = OpenedLog::new(plan).at(Step::OpenStreams)?;
        Ok(opened)
    }

    /// The fds that a sweep must spare, -1 where there is none: in the order in which they were opened, which is
    /// mostly the ascending one that a sweep likes best.
    pub(super) fn numbers(&self, given: [RawFd; 3]) -> [RawFd; 15] {
        let [input, output, error] = given;
        let null = self.null.as_ref().map_or(-1, Fd::number);
        let (pidfile, directory) = self.pidfile.as_ref().map_or((-1, -1), |pidfile| (pidfile.fd, pidfile.directory));
        let [a, b, c] = self.files.each_ref().map(|file| file.as_ref().map_or(-1, |file| file.fd.number()));
        let [log, d, e, f, g] = self.log.as_ref().map_or([-1; 5], OpenedLog::numbers);
        [input, output, error, directory, pidfile, null, a, b, c, log, d, e, f, g, self.writer]
    }

    pub(super) fn sources<'a>(&'a self, streams: &[Stream<'a>; 3]) -> Result<[Source<'a>; 3], Errno> {
        let mut sources = [Source::Inherit; 3];
        let [output, error] = self.log.as_ref().map_or([None, None], |log| log.writers.each_ref().map(Option::as_ref));
        let logs = [None, output, error];
        for (((source, file), stream), log) in sources.iter_mut().zip(&self.files).zip(streams).zip(logs) {
            *source = match (stream, file.as_ref().map(|file| &file.fd).or(log), &self.null) {
                (Stream::Fd(fd), ..) => Source::Fd(*fd),
                (Stream::File { .. } | Stream::Syslog, Some(fd), _) => Source::Fd(fd.lend()),
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
        self.log = None;
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
