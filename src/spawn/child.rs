//! The child half: from the clone to the program.

use super::config::{Flags, Group, WorkingDirectory};
use super::plan::Plan;
use super::prepared::Prepared;
use crate::channel::{self, Record};
use crate::error::{Error, Step};
use crate::step::map::{Move, map_fds};
use crate::step::{self, SignalAction};
use crate::sys::child_signals::{self, Set};
use crate::sys::clone::Job;
use crate::sys::env;
use crate::sys::fd::{self, Fd};
use crate::sys::identity::Thread;
use crate::sys::process::{execute, exit, set_death_signal};
use crate::sys::signals::END;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::process::{Pid, getppid, setpgid};

/// A process that is to become the program.
pub(super) struct Child<'a> {
    plan: &'a Plan<'a>,
    moves: &'a mut [Move],
    directory: Option<BorrowedFd<'a>>,
    /// The signal mask of the program.
    mask: Set,
    /// Who made this process, where that is known.
    pub(super) parent: Option<Pid>,
    /// Where a failure is reported, besides in `failure`, which a parent of other memory cannot see.
    report: Option<BorrowedFd<'a>>,
    pub(super) failure: Option<Error>,
}

/// A step of the child.
type Act<'a> = fn(&mut Child<'a>) -> Result<(), Errno>;

impl<'a> Child<'a> {
    /// The child's steps, in the only place where their order is written. They serve a child that shares its parent's
    /// memory, so raw system calls are all that is made here.
    const STEPS: [(Step, Act<'a>); 16] = [
        // From now on exec closes what is not marked otherwise: nothing internal needs an exception.
        (Step::CloseFds, Self::mark_fds),
        (Step::MapFds, Self::place_fds),
        (Step::Setsid, Self::start_session),
        (Step::Setpgid, Self::join_group),
        (Step::ControllingTerminal, Self::acquire_terminal),
        (Step::Chroot, Self::change_root),
        (Step::Chdir, Self::change_directory),
        (Step::Umask, Self::set_umask),
        (Step::SetLimits, Self::set_limits),
        (Step::SetSignals, Self::set_signals),
        (Step::DropPrivileges, Self::drop_privileges),
        (Step::NoNewPrivs, Self::no_new_privs),
        // A change of ids has cleared it.
        (Step::DeathSignal, Self::set_death_signal),
        (Step::Hook, Self::run_hook),
        (Step::CloseFds, Self::mark_fds_of_hook),
        (Step::SignalMask, Self::set_mask),
    ];

    pub(super) fn new(
        plan: &'a Plan<'a>,
        prepared: &'a mut Prepared<'_>,
        mask: Set,
        report: Option<BorrowedFd<'a>>,
    ) -> Child<'a> {
        let (moves, directory) = prepared.for_child();
        let directory = match plan.config.working_directory {
            WorkingDirectory::Fd(fd) => Some(directory.map_or(fd, Fd::lend)),
            WorkingDirectory::Inherit | WorkingDirectory::Path(_) => None,
        };
        Child { plan, directory, moves, mask, parent: None, report, failure: None }
    }

    /// Returns only if it fails.
    #[inline(never)]
    pub(super) fn become_program(&mut self) -> Error {
        for (step, act) in Self::STEPS {
            if let Err(errno) = act(self) {
                return Error::new(step, errno);
            }
        }
        Error::new(Step::Exec, self.execute())
    }

    /// The first error that says more than "not there".
    fn execute(&self) -> Errno {
        let mut answer = Errno::NOENT;
        let is_not_there = |errno| matches!(errno, Errno::NOENT | Errno::NOTDIR);
        let arguments = self.plan.config.arguments;
        let environment = self.plan.config.environment.or_else(env::environment);
        let (paths, candidates) = self.plan.config.paths.map_or((arguments, 1), |paths| (paths, usize::MAX));
        for path in paths.take(candidates) {
            let errno = execute(path, arguments, environment);
            if is_not_there(answer) {
                answer = errno;
            }
        }
        answer
    }

    fn has(&self, flag: Flags) -> bool {
        self.plan.config.has(flag)
    }

    fn mark_fds(&mut self) -> Result<(), Errno> {
        if self.has(Flags::KEEP_FDS) { Ok(()) } else { step::fds::mark_cloexec(3) }
    }

    fn place_fds(&mut self) -> Result<(), Errno> {
        map_fds(self.moves)?;
        self.pass_fds()
    }

    fn pass_fds(&self) -> Result<(), Errno> {
        self.plan.config.pass_fds.iter().try_for_each(|&fd| make_inheritable(fd))
    }

    fn start_session(&mut self) -> Result<(), Errno> {
        match self.plan.config.group {
            Group::Session { .. } => step::setsid().map(drop),
            Group::Process(_) | Group::Inherit => Ok(()),
        }
    }

    fn join_group(&mut self) -> Result<(), Errno> {
        match self.plan.config.group {
            Group::Process(group) => setpgid(None, Pid::from_raw(group)),
            Group::Session { .. } | Group::Inherit => Ok(()),
        }
    }

    fn acquire_terminal(&mut self) -> Result<(), Errno> {
        match self.plan.config.group {
            Group::Session { terminal: Some(fd) } => rustix::process::ioctl_tiocsctty(fd::borrow(fd)?),
            Group::Session { terminal: None } | Group::Process(_) | Group::Inherit => Ok(()),
        }
    }

    fn change_root(&mut self) -> Result<(), Errno> {
        self.plan.config.chroot_directory.map_or(Ok(()), step::chroot)
    }

    fn change_directory(&mut self) -> Result<(), Errno> {
        match (self.plan.config.working_directory, self.directory) {
            (WorkingDirectory::Path(path), _) => step::chdir(path),
            (_, Some(directory)) => rustix::process::fchdir(directory),
            (_, None) => Ok(()),
        }
    }

    fn set_umask(&mut self) -> Result<(), Errno> {
        self.plan.config.umask.map(step::umask);
        Ok(())
    }

    fn set_limits(&mut self) -> Result<(), Errno> {
        step::limits::set_checked(self.plan.config.limits)
    }

    fn set_signals(&mut self) -> Result<(), Errno> {
        if self.has(Flags::RESET_SIGNALS) {
            for signal in 1..END {
                match child_signals::set_ignored(signal, false) {
                    // Two have no other, and libc keeps some.
                    Err(_) if !step::signals::is_catchable(signal) => {}
                    result => result?,
                }
            }
        }
        for entry in self.plan.config.signal_map {
            child_signals::set_ignored(entry.signal, matches!(entry.action, SignalAction::Ignore))?;
        }
        Ok(())
    }

    fn drop_privileges(&mut self) -> Result<(), Errno> {
        let identity = &self.plan.config.identity;
        let changes = identity.changes_ids() || identity.groups.is_some();
        if changes { step::identity::change::<Thread>(identity) } else { Ok(()) }
    }

    fn no_new_privs(&mut self) -> Result<(), Errno> {
        if self.has(Flags::NO_NEW_PRIVS) { step::no_new_privs() } else { Ok(()) }
    }

    fn set_death_signal(&mut self) -> Result<(), Errno> {
        let Some(signal) = self.plan.config.death_signal else {
            return Ok(());
        };
        set_death_signal(signal)?;
        // A parent that has gone already sends no signal. One outside of the child's pid namespace has no number in it.
        match (getppid(), self.parent) {
            (Some(parent), Some(expected)) if parent != expected => Err(Errno::SRCH),
            _ => Ok(()),
        }
    }

    fn run_hook(&mut self) -> Result<(), Errno> {
        match self.plan.config.hook.map(|hook| hook.run()) {
            None | Some(0) => Ok(()),
            Some(number @ -4095..=4095) => Err(crate::sys::errno::from_number(number.abs())),
            Some(_) => Err(Errno::CANCELED),
        }
    }

    /// The hook may have opened some, and closed some.
    fn mark_fds_of_hook(&mut self) -> Result<(), Errno> {
        if self.plan.config.hook.is_none() || self.has(Flags::KEEP_FDS) {
            return Ok(());
        }
        step::fds::mark_cloexec(3)?;
        let mapped = self.plan.mappings().map(|mapping| mapping.child_fd).filter(|&fd| fd > 2);
        let passed = fd::numbers(self.plan.config.pass_fds).iter().copied();
        for fd in mapped.chain(passed) {
            match make_inheritable(fd::borrow(fd)?) {
                Ok(()) | Err(Errno::BADF) => {}
                result => return result,
            }
        }
        Ok(())
    }

    fn set_mask(&mut self) -> Result<(), Errno> {
        self.mask.install();
        Ok(())
    }

    /// For a process that libc's fork made: nobody has cleared its handlers.
    pub(super) fn run_forked(&mut self) -> ! {
        child_signals::clear_handlers();
        self.run()
    }
}

fn make_inheritable(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())
}

impl Job for Child<'_> {
    fn run(&mut self) -> ! {
        let error = self.become_program();
        self.failure = Some(error);
        if let Some(report) = self.report {
            let _ = channel::send(report, Record::failure(error), None);
        }
        exit(127)
    }
}
