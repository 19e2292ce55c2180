use super::config::Flags;
use super::opened::Opened;
use super::plan::Plan;
use crate::channel::Channel;
use crate::deadline::Deadline;
use crate::error::{At, Error, Step};
use crate::grandchild;
use crate::pidfile::Pidfile;
use crate::step::fork::{Copies, Half, fork_twice, report};
use crate::step::stdio::OpenedStdio;
use crate::step::{self, Identity};
use crate::stream::Stream;
use crate::sys::fd::{self, Fd};
use crate::sys::progress::Progress;
use crate::sys::signals::{Disposition, Mask, set};
use crate::terminate::{self, Hooks};
use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use rustix::fs::Mode;
use rustix::io::Errno;

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
    const STEPS: [(Step, Act<'p>); 12] = [
        // Before chroot, as the sweep's fall-back needs /proc.
        (Step::CloseFds, Self::close_fds),
        (Step::Umask, Self::set_umask),
        // Before chroot, so that it reaches the log's socket for ever.
        (Step::LogPump, Self::start_pump),
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
        let stdio = OpenedStdio::new().at(Step::OpenStdio)?;
        let mut opened = Opened::new(self)?;
        if !self.detach {
            let mask = Mask::block_all();
            let result = self.become_daemon(&mut opened, None);
            let mask = self.final_mask(mask, result.is_ok());
            let result = result.map(|()| Daemonized::Daemon(self.daemon(stdio, opened, None)));
            // Last, so that no signal comes before a failed start is undone.
            mask.install();
            return result;
        }
        let deadline = Deadline::after(self.config.timeout);
        let (channel, progress) =
            Channel::new().and_then(|channel| Ok((channel, Progress::new()?))).at(Step::Channel)?;
        match fork_twice(channel, &progress, self.copies())? {
            Half::Daemon { writer, mask } => {
                opened.writer = writer.number();
                let result = self.become_daemon(&mut opened, Some(&progress));
                progress.reach(Step::Report as i32);
                report(&writer, &progress, result);
                let daemon = self.daemon(stdio, opened, Some(writer));
                self.final_mask(mask, true).install();
                Ok(Daemonized::Daemon(daemon))
            }
            Half::Original { reader, intermediate } => {
                let child = grandchild::await_report(&reader, intermediate, &progress, deadline)?;
                opened.hand_over();
                let channel = self.has(Flags::NOTIFY_READY).then(|| reader.into());
                Ok(Daemonized::Original { pid: child.pid, pidfd: child.pidfd.map(OwnedFd::from), channel })
            }
        }
    }

    /// While the intermediate shares its memory the original process sleeps, and sees no time limit pass.
    fn copies(&self) -> Copies {
        if self.has(Flags::CLASSIC_FORK) || self.config.timeout.is_some() { Copies::Twice } else { Copies::Once }
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
        step::fds::sweep(self.lowest, [fd::numbers(self.config.files_preserve), &own], fd::Act::Close)
    }

    fn set_umask(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        if !self.has(Flags::KEEP_UMASK) {
            step::umask(self.config.umask.unwrap_or(Mode::empty()));
        }
        Ok(())
    }

    /// Which has the daemon's rights, but not its root directory.
    fn start_pump(&self, opened: &mut Opened<'_>) -> Result<(), Errno> {
        let Some(mut log) = opened.log.take() else { return Ok(()) };
        let acts: [Act<'p>; 3] = [Self::drop_privileges, Self::prevent_core, Self::no_new_privs];
        let started = log.start_pump(|| acts.iter().try_for_each(|act| act(self, opened)).at(Step::LogPump));
        opened.log = Some(log);
        started.map_err(|error| error.errno)
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
        step::limits::set_checked(self.config.limits)
    }

    fn drop_privileges(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        step::drop_privileges(&self.identity())
    }

    fn identity(&self) -> Identity<'p> {
        let relinquish = self.config.identity.relinquish || !self.has(Flags::KEEP_PRIVILEGES);
        Identity { relinquish, ..self.config.identity }
    }

    fn prevent_core(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        if self.has(Flags::KEEP_CORE) { Ok(()) } else { step::prevent_core(self.has(Flags::UNDUMPABLE)) }
    }

    fn no_new_privs(&self, _: &mut Opened<'_>) -> Result<(), Errno> {
        if self.has(Flags::SET_NO_NEW_PRIVS) { step::no_new_privs() } else { Ok(()) }
    }

    fn redirect_stdio(&self, opened: &mut Opened<'_>) -> Result<(), Errno> {
        step::redirect_stdio(opened.sources(&self.streams)?)?;
        opened.close_streams();
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
            step::signals::set_all_to_default(self.signal_map())?;
        }
        step::signals::install(self.signal_map(), opened.pidfile.as_ref())?;
        self.hooks.map_or(Ok(()), |hooks| self.set_hooks(hooks, opened.pidfile.as_ref()))
    }

    fn set_hooks(&self, hooks: &Hooks, pidfile: Option<&Pidfile>) -> Result<(), Errno> {
        terminate::install(hooks, pidfile)?;
        if self.signal_map().iter().any(|entry| entry.signal == libc::SIGTERM) {
            return Ok(());
        }
        set(libc::SIGTERM, Disposition::Alone(terminate::terminate))
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
