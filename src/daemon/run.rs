use super::config::{Flags, Stream};
use super::original;
use super::plan::Plan;
use crate::channel::{self, Channel, Record};
use crate::deadline::Deadline;
use crate::error::{At, Error, Step};
use crate::pidfile::{self, Pidfile};
use crate::step::fork::{Half, fork_twice};
use crate::step::stdio::OpenedStdio;
use crate::step::{self, Identity, Source};
use crate::sys::fd::{self, Fd};
use crate::sys::process::exit;
use crate::sys::progress::{Progress, Verdict};
use crate::sys::signals::Mask;
use core::ffi::CStr;
use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::getpid;

/// Which process [`super::daemonize`] returned in.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is no heap to put the larger one on")]
pub enum Daemonized {
    /// The one that called it; the daemon runs.
    Original {
        /// The daemon.
        pid: i32,
        /// A pidfd of the daemon, where the system has such.
        pidfd: Option<OwnedFd>,
        /// With [`Flags::NOTIFY_READY`]: what [`super::wait_ready`] reads.
        channel: Option<OwnedFd>,
    },
    /// The daemon.
    Daemon(Daemon),
}

/// What the daemon has.
#[derive(Debug)]
pub struct Daemon {
    /// Whether a new process was made.
    pub detached: bool,
    /// With [`Flags::NOTIFY_READY`], if detached: what [`super::ready`] and [`super::fail`] write.
    pub channel: Option<OwnedFd>,
    /// The pidfile, locked and written.
    pub pidfile: Option<Pidfile>,
}

/// A step of the daemon.
type Act<'p> = fn(&Plan<'p>, &mut Opened<'_>) -> Result<(), Errno>;

impl<'p> Plan<'p> {
    /// The daemon's steps, in the only place where their order is written.
    const STEPS: [(Step, Act<'p>); 11] = [
        // Before chroot, as the sweep's fall-back needs /proc.
        (Step::CloseFds, Self::close_fds),
        (Step::Umask, Self::set_umask),
        (Step::Chroot, Self::change_root),
        (Step::Chdir, Self::change_directory),
        (Step::PidfileWrite, Self::write_pidfile),
        (Step::SetLimits, Self::set_limits),
        (Step::DropPrivileges, Self::drop_privileges),
        // After the change of ids, which sets the dumpable attribute anew.
        (Step::PreventCore, Self::prevent_core),
        (Step::NoNewPrivs, Self::no_new_privs),
        (Step::RedirectStdio, Self::redirect_stdio),
        (Step::SetSignals, Self::set_signals),
    ];

    pub(super) fn run(&self) -> Result<Daemonized, Error> {
        let stdio = OpenedStdio(step::open_stdio().at(Step::OpenStdio)?);
        let mut opened = Opened::new(self)?;
        if !self.detach {
            let mask = Mask::block_all();
            let result = self.become_daemon(&mut opened, None);
            self.final_mask(mask, result.is_ok()).install();
            return result.map(|()| Daemonized::Daemon(self.daemon(stdio, opened, None)));
        }
        let deadline = Deadline::after(self.config.timeout);
        let (channel, progress) =
            Channel::new().and_then(|channel| Ok((channel, Progress::new()?))).at(Step::Channel)?;
        match fork_twice(channel)? {
            Half::Daemon { writer, mask } => {
                opened.writer = writer.number();
                self.run_in_daemon(&mut opened, &writer, progress);
                let daemon = self.daemon(stdio, opened, Some(writer));
                self.final_mask(mask, true).install();
                Ok(Daemonized::Daemon(daemon))
            }
            Half::Original { reader, intermediate } => {
                let child = original::await_daemon(&reader, intermediate, &progress, deadline)?;
                opened.hand_over();
                let channel = self.has(Flags::NOTIFY_READY).then(|| reader.into());
                Ok(Daemonized::Original { pid: child.pid, pidfd: child.pidfd.map(OwnedFd::from), channel })
            }
        }
    }

    /// Returns only if every step has succeeded, and the original process knows it or has gone.
    fn run_in_daemon(&self, opened: &mut Opened<'_>, writer: &Fd, progress: Progress) {
        let pid = getpid().as_raw_pid();
        progress.set_pid(pid);
        let record = match self.become_daemon(opened, Some(&progress)) {
            Ok(()) => Record::success(Step::Report, pid),
            Err(error) => Record::failure(error),
        };
        progress.reach(Step::Report as i32);
        let lives = record.error().is_none() && progress.decide(Verdict::Lives);
        match channel::send(writer.lend(), record, None) {
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) if lives => {}
            // Nothing of the caller's runs: no atexit handler, no flush. The original process cleans up.
            _ => exit(1),
        }
    }

    #[inline(never)]
    fn become_daemon(&self, opened: &mut Opened<'_>, progress: Option<&Progress>) -> Result<(), Error> {
        for (step, act) in Self::STEPS {
            if let Some(progress) = progress {
                progress.reach(step as i32);
            }
            act(self, opened).map_err(|errno| opened.explain(step, errno))?;
        }
        Ok(())
    }

    fn has(&self, flag: Flags) -> bool {
        self.config.flags.contains(flag)
    }

    fn close_fds(&self, opened: &mut Opened<'_>) -> Result<(), Errno> {
        if self.has(Flags::KEEP_FDS) {
            return Ok(());
        }
        let own = opened.numbers(self.given_fds());
        step::fds::sweep(3, [fd::numbers(self.config.files_preserve), &own], fd::Act::Close)
    }

    fn set_umask(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        if !self.has(Flags::KEEP_UMASK) {
            step::umask(self.config.umask.unwrap_or(Mode::empty()));
        }
        Ok(())
    }

    fn change_root(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        self.config.chroot_directory.map_or(Ok(()), step::chroot)
    }

    fn change_directory(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        match self.config.working_directory {
            Some(path) => step::chdir(path),
            // chroot has been there.
            None if self.has(Flags::KEEP_CWD) || self.config.chroot_directory.is_some() => Ok(()),
            None => step::chdir(c"/"),
        }
    }

    fn write_pidfile(&self, opened: &mut Opened<'_>) -> Result<(), Errno> {
        opened.pidfile.as_mut().map_or(Ok(()), Pidfile::write)
    }

    fn set_limits(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        step::set_limits(self.config.limits)
    }

    fn drop_privileges(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        let relinquish = self.config.identity.relinquish || !self.has(Flags::KEEP_PRIVILEGES);
        step::drop_privileges(&Identity { relinquish, ..self.config.identity })
    }

    fn prevent_core(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        if self.has(Flags::KEEP_CORE) { Ok(()) } else { step::prevent_core(self.has(Flags::UNDUMPABLE)) }
    }

    fn no_new_privs(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        if self.has(Flags::SET_NO_NEW_PRIVS) { step::no_new_privs() } else { Ok(()) }
    }

    fn redirect_stdio(&self, opened: &mut Opened<'_>) -> Result<(), Errno> {
        step::redirect_stdio(opened.sources(&self.streams)?)?;
        opened.null = None;
        opened.files = [const { None }; 3];
        self.close_given_fds();
        Ok(())
    }

    /// The fds that the streams were given, -1 where none.
    fn given_fds(&self) -> [RawFd; 3] {
        self.streams.map(|stream| if let Stream::Fd(fd) = stream { fd.as_raw_fd() } else { -1 })
    }

    /// Now that the streams are duplicates of them.
    fn close_given_fds(&self) {
        let kept = fd::numbers(self.config.files_preserve);
        let [first, second, third] = self.given_fds();
        let second = if second == first { -1 } else { second };
        let third = if third == first || third == second { -1 } else { third };
        for given in [first, second, third] {
            if given > 2 && !kept.contains(&given) && !self.has(Flags::KEEP_FDS) {
                fd::Act::Close.on(given);
            }
        }
    }

    fn set_signals(&self, opened: &mut Opened<'_>) -> Result<(), Errno> {
        if self.has(Flags::RESET_SIGNALS) {
            step::signals::set_all_to_default()?;
        }
        step::signals::install(self.signal_map(), opened.pidfile.as_ref())
    }

    fn final_mask(&self, before: Mask, succeeded: bool) -> Mask {
        if succeeded && self.has(Flags::RESET_SIGNALS) { Mask::empty() } else { before }
    }

    fn daemon(&self, stdio: OpenedStdio, mut opened: Opened<'_>, writer: Option<Fd>) -> Daemon {
        stdio.keep();
        let detached = writer.is_some();
        let channel = writer.filter(|_| self.has(Flags::NOTIFY_READY)).map(OwnedFd::from);
        Daemon { detached, channel, pidfile: opened.pidfile.take() }
    }
}

/// What the original process opened for the daemon. Dropping it undoes the opening.
struct Opened<'a> {
    null: Option<Fd>,
    files: [Option<StreamFile<'a>>; 3],
    pidfile: Option<Pidfile>,
    /// The daemon's end of the channel, or -1; not this struct's to close.
    writer: RawFd,
}

/// An open file, and its path if it is new.
struct StreamFile<'a> {
    fd: Fd,
    created: Option<&'a CStr>,
}

impl<'p> Opened<'p> {
    fn new(plan: &Plan<'p>) -> Result<Opened<'p>, Error> {
        let mut opened = Opened { null: None, files: [const { None }; 3], pidfile: None, writer: -1 };
        if plan.streams.iter().any(|stream| matches!(stream, Stream::Null)) {
            opened.null = Some(step::stdio::open_null().at(Step::OpenStreams)?);
        }
        if let Some(path) = plan.config.pidfile {
            opened.pidfile = Some(pidfile::open(path, &plan.config.pidfile_options)?);
        }
        // After the pidfile: a start that is refused because a daemon runs truncates no log of its.
        for ((target, stream), file) in (0..).zip(&plan.streams).zip(&mut opened.files) {
            *file = open_file(target, stream).at(Step::OpenStreams)?;
        }
        Ok(opened)
    }

    /// The fds that a sweep must spare, -1 where there is none: in the order in which they were opened, which is
    /// mostly the ascending one that a sweep likes best.
    fn numbers(&self, given: [RawFd; 3]) -> [RawFd; 10] {
        let [input, output, error] = given;
        let null = self.null.as_ref().map_or(-1, Fd::number);
        let (pidfile, directory) = self.pidfile.as_ref().map_or((-1, -1), |pidfile| (pidfile.fd, pidfile.directory));
        let [a, b, c] = self.files.each_ref().map(|file| file.as_ref().map_or(-1, |file| file.fd.number()));
        [input, output, error, null, directory, pidfile, a, b, c, self.writer]
    }

    fn sources<'a>(&'a self, streams: &[Stream<'a>; 3]) -> Result<[Source<'a>; 3], Errno> {
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
    fn explain(&self, step: Step, errno: Errno) -> Error {
        match &self.pidfile {
            Some(pidfile) if step == Step::PidfileWrite && errno == Errno::EXIST => {
                Error::held(step, pidfile.holder().unwrap_or(0))
            }
            _ => Error::new(step, errno),
        }
    }

    /// In the original process, once the daemon has it all: closing is not undoing then.
    fn hand_over(&mut self) {
        let _ = self.pidfile.take().map(Pidfile::close);
        self.files = [const { None }; 3];
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
        let is_ours = |there: rustix::fs::Stat| {
            let ours = rustix::fs::fstat(self.fd.lend());
            ours.is_ok_and(|ours| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino))
        };
        let created = self.created.filter(|path| rustix::fs::lstat(*path).is_ok_and(is_ours));
        let _ = created.map(rustix::fs::unlink);
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
        // Also a symlink whose target is yet to be made.
        Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => Ok(StreamFile { fd: open(flags, mode)?, created: None }),
        Err(errno) => Err(errno),
    }
}
