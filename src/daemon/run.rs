use super::config::{Flags, Stream};
use super::original;
use super::plan::Plan;
use crate::channel::{self, Channel, Record};
use crate::deadline::Deadline;
use crate::error::{At, Error, Step};
use crate::pidfile::{self, Pidfile};
use crate::step::fork::{Half, fork_twice};
use crate::step::{self, Identity, Source};
use crate::sys::fd::{self, Act, Lend};
use crate::sys::process::exit;
use crate::sys::progress::Progress;
use crate::sys::signals::Mask;
use core::ffi::CStr;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::getpid;

/// Which process [`super::daemonize`] returned in.
#[derive(Debug)]
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

impl Plan<'_> {
    pub(super) fn run(&self) -> Result<Daemonized, Error> {
        let stdio = OpenedStdio(step::open_stdio().at(Step::OpenStdio)?);
        let mut opened = Opened::new(self)?;
        if !self.detach {
            let mask = Mask::block_all();
            let result = self.become_daemon(&mut opened, None, &|_| ());
            self.final_mask(mask, result.is_ok()).install();
            return result.map(|()| Daemonized::Daemon(self.daemon(stdio, opened, None)));
        }
        let deadline = Deadline::after(self.config.timeout);
        let (channel, progress) =
            Channel::new().and_then(|channel| Ok((channel, Progress::new()?))).at(Step::Channel)?;
        match fork_twice(channel)? {
            Half::Daemon { writer, mask } => {
                self.run_in_daemon(&mut opened, &writer, progress);
                let daemon = self.daemon(stdio, opened, Some(writer));
                self.final_mask(mask, true).install();
                Ok(Daemonized::Daemon(daemon))
            }
            Half::Original { reader, intermediate } => {
                let child = original::await_daemon(&reader, intermediate, &progress, deadline)?;
                opened.hand_over();
                let channel = self.has(Flags::NOTIFY_READY).then_some(reader);
                Ok(Daemonized::Original { pid: child.pid, pidfd: child.pidfd, channel })
            }
        }
    }

    /// Returns only if every step has succeeded, and the original process knows it or has gone.
    fn run_in_daemon(&self, opened: &mut Opened<'_>, writer: &OwnedFd, progress: Progress) {
        let record = match self.become_daemon(opened, Some(writer.lend()), &|step| progress.set(step as i32)) {
            Ok(()) => Record::success(Step::Report, getpid().as_raw_pid()),
            Err(error) => Record::failure(error),
        };
        progress.set(Step::Report as i32);
        match channel::send(writer.lend(), record, None) {
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) if record.error().is_none() => {}
            // Nothing of the caller's runs: no atexit handler, no flush. The original process cleans up.
            _ => exit(1),
        }
    }

    /// The daemon's steps, in the only place where their order is written.
    fn become_daemon(
        &self,
        opened: &mut Opened<'_>,
        writer: Option<BorrowedFd<'_>>,
        reached: &dyn Fn(Step),
    ) -> Result<(), Error> {
        let run = |step: Step, act: &mut dyn FnMut() -> Result<(), Errno>| {
            reached(step);
            act().at(step)
        };
        // Before chroot, as the sweep's fall-back needs /proc.
        run(Step::CloseFds, &mut || self.close_fds(opened, writer))?;
        run(Step::Umask, &mut || self.set_umask())?;
        run(Step::Chroot, &mut || self.config.chroot_directory.map_or(Ok(()), step::chroot))?;
        run(Step::Chdir, &mut || self.change_directory())?;
        reached(Step::PidfileWrite);
        opened.pidfile.as_mut().map_or(Ok(()), Pidfile::write)?;
        run(Step::SetLimits, &mut || step::set_limits(self.config.limits))?;
        run(Step::DropPrivileges, &mut || step::drop_privileges(&self.identity()))?;
        // After the change of ids, which sets the dumpable attribute anew.
        run(Step::PreventCore, &mut || self.prevent_core())?;
        run(Step::NoNewPrivs, &mut || if self.has(Flags::SET_NO_NEW_PRIVS) { step::no_new_privs() } else { Ok(()) })?;
        run(Step::RedirectStdio, &mut || self.redirect_stdio(opened))?;
        run(Step::SetSignals, &mut || self.set_signals(opened))
    }

    fn has(&self, flag: Flags) -> bool {
        self.config.flags.contains(flag)
    }

    fn close_fds(&self, opened: &Opened<'_>, writer: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        if self.has(Flags::KEEP_FDS) {
            return Ok(());
        }
        let own = opened.numbers(writer, self.given_fds());
        step::fds::sweep(3, [fd::numbers(self.config.files_preserve), &own], Act::Close)
    }

    fn set_umask(&self) -> Result<(), Errno> {
        if !self.has(Flags::KEEP_UMASK) {
            step::umask(self.config.umask.unwrap_or(Mode::empty()));
        }
        Ok(())
    }

    fn change_directory(&self) -> Result<(), Errno> {
        match self.config.working_directory {
            Some(path) => step::chdir(path),
            // chroot has been there.
            None if self.has(Flags::KEEP_CWD) || self.config.chroot_directory.is_some() => Ok(()),
            None => step::chdir(c"/"),
        }
    }

    fn identity(&self) -> Identity<'_> {
        let relinquish = self.config.identity.relinquish || !self.has(Flags::KEEP_PRIVILEGES);
        Identity { relinquish, ..self.config.identity }
    }

    fn prevent_core(&self) -> Result<(), Errno> {
        if self.has(Flags::KEEP_CORE) { Ok(()) } else { step::prevent_core(self.has(Flags::UNDUMPABLE)) }
    }

    fn redirect_stdio(&self, opened: &mut Opened<'_>) -> Result<(), Errno> {
        step::redirect_stdio(opened.sources(self)?)?;
        opened.null = None;
        opened.files = [const { None }; 3];
        self.close_given_fds();
        Ok(())
    }

    /// The fds that the streams were given, -1 where none.
    fn given_fds(&self) -> [RawFd; 3] {
        self.config.streams.map(|stream| if let Stream::Fd(fd) = stream { fd.as_raw_fd() } else { -1 })
    }

    /// Now that the streams are duplicates of them.
    fn close_given_fds(&self) {
        let kept = fd::numbers(self.config.files_preserve);
        let [first, second, third] = self.given_fds();
        let second = if second == first { -1 } else { second };
        let third = if third == first || third == second { -1 } else { third };
        for given in [first, second, third] {
            if given > 2 && !kept.contains(&given) && !self.has(Flags::KEEP_FDS) {
                Act::Close.on(given);
            }
        }
    }

    fn set_signals(&self, opened: &Opened<'_>) -> Result<(), Errno> {
        if self.has(Flags::RESET_SIGNALS) {
            step::signals::set_all_to_default()?;
        }
        step::signals::install(self.signal_map(), opened.pidfile.as_ref())
    }

    fn final_mask(&self, before: Mask, succeeded: bool) -> Mask {
        if succeeded && self.has(Flags::RESET_SIGNALS) { Mask::empty() } else { before }
    }

    fn daemon(&self, stdio: OpenedStdio, mut opened: Opened<'_>, writer: Option<OwnedFd>) -> Daemon {
        stdio.keep();
        let detached = writer.is_some();
        let channel = writer.filter(|_| self.has(Flags::NOTIFY_READY));
        Daemon { detached, channel, pidfile: opened.pidfile.take() }
    }
}

/// The standard streams that were closed, and are open for as long as this lives.
struct OpenedStdio([bool; 3]);

impl OpenedStdio {
    fn keep(mut self) {
        self.0 = [false; 3];
    }
}

impl Drop for OpenedStdio {
    fn drop(&mut self) {
        for (target, opened) in (0..).zip(self.0) {
            if opened {
                Act::Close.on(target);
            }
        }
    }
}

/// What the original process opened for the daemon. Dropping it undoes the opening.
struct Opened<'a> {
    null: Option<OwnedFd>,
    files: [Option<StreamFile<'a>>; 3],
    pidfile: Option<Pidfile>,
}

/// An open file, and its path if it is new.
struct StreamFile<'a> {
    fd: OwnedFd,
    created: Option<&'a CStr>,
}

impl<'p> Opened<'p> {
    fn new(plan: &Plan<'p>) -> Result<Opened<'p>, Error> {
        let streams = plan.config.streams.map(|stream| plan.stream(stream));
        let mut opened = Opened { null: None, files: [const { None }; 3], pidfile: None };
        if streams.iter().any(|stream| matches!(stream, Stream::Null)) {
            opened.null = Some(step::stdio::open_null().at(Step::OpenStreams)?);
        }
        if let Some(path) = plan.config.pidfile {
            opened.pidfile = Some(pidfile::open(path, &plan.config.pidfile_options)?);
        }
        // After the pidfile: a start that is refused because a daemon runs truncates no log of its.
        for ((target, stream), file) in (0..).zip(&streams).zip(&mut opened.files) {
            *file = open_file(target, stream).at(Step::OpenStreams)?;
        }
        Ok(opened)
    }

    /// The fds that a sweep must spare, in ascending order; -1 where there is none.
    fn numbers(&self, writer: Option<BorrowedFd<'_>>, given: [RawFd; 3]) -> [RawFd; 10] {
        let null = self.null.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let [a, b, c] = self.files.each_ref().map(|file| file.as_ref().map_or(-1, |file| file.fd.as_raw_fd()));
        let [d, e, f] = given;
        let (pidfile, directory) = self.pidfile.as_ref().map_or((-1, -1), |pidfile| (pidfile.fd, pidfile.directory));
        let writer = writer.map_or(-1, |writer| writer.as_raw_fd());
        let mut all = [writer, null, a, b, c, d, e, f, pidfile, directory];
        for end in (1..all.len()).rev() {
            for i in 0..end {
                if all[i] > all[i + 1] {
                    all.swap(i, i + 1);
                }
            }
        }
        all
    }

    fn sources<'a>(&'a self, plan: &Plan<'a>) -> Result<[Source<'a>; 3], Errno> {
        let mut sources = [Source::Inherit; 3];
        for ((source, file), &stream) in sources.iter_mut().zip(&self.files).zip(&plan.config.streams) {
            let opened = file.as_ref().map(|file| &file.fd).or(self.null.as_ref()).map(Lend::lend);
            *source = match plan.stream(stream) {
                Stream::Fd(fd) => Source::Fd(fd),
                Stream::Null | Stream::File { .. } => Source::Fd(opened.ok_or(Errno::BADF)?),
                Stream::Default | Stream::Inherit | Stream::SameAsStdout => Source::Inherit,
            };
        }
        if let Stream::SameAsStdout = plan.config.streams[2] {
            sources[2] = match sources[1] {
                Source::Inherit => Source::Fd(fd::borrow(1)?),
                source => source,
            };
        }
        Ok(sources)
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
    let flags = *flags | OFlags::NONBLOCK;
    if target == 0 {
        let fd = fd::open(CWD, path, flags | OFlags::RDONLY, Mode::empty())?;
        blocking(&fd)?;
        return Ok(Some(StreamFile { fd, created: None }));
    }
    let flags = flags | OFlags::WRONLY | OFlags::APPEND;
    let flags = flags | OFlags::CREATE;
    let mode = mode.unwrap_or(Mode::from_raw_mode(0o640));
    let file = match fd::open(CWD, path, flags | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => StreamFile { fd, created: Some(path) },
        // Also a symlink whose target is yet to be made.
        Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {
            StreamFile { fd: fd::open(CWD, path, flags, mode)?, created: None }
        }
        Err(errno) => return Err(errno),
    };
    let set_mode = file.created.map_or(Ok(()), |_| rustix::fs::fchmod(file.fd.lend(), mode));
    set_mode.and_then(|()| blocking(&file.fd)).inspect_err(|_| file.abandon())?;
    Ok(Some(file))
}

fn blocking(file: &OwnedFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(file.lend())?;
    rustix::fs::fcntl_setfl(file.lend(), flags - OFlags::NONBLOCK)
}
