//! The parent half: which kind of process is made, and what becomes of a failure in it.

use super::child::Child;
use super::config::Flags;
use super::plan::Plan;
use super::prepared::Prepared;
use crate::channel::{self, Channel, Event};
use crate::deadline::Deadline;
use crate::error::{At, Error, Step};
use crate::grandchild::await_report;
use crate::step;
use crate::step::fork::{Copies, Half, fork_twice, report};
use crate::sys::child_signals::Set;
use crate::sys::clone::{Job, Made, Memory, Request, vfork, vfork_is_real};
use crate::sys::fd::{self, Fd};
use crate::sys::poll::{Place, poll};
use crate::sys::process::{self, exit, fork, is_single_threaded, reap};
use crate::sys::progress::Progress;
use core::hint::black_box;
use core::mem::MaybeUninit;
use rustix::fd::{BorrowedFd, RawFd};
use rustix::io::Errno;
use rustix::process::getpid;

impl Plan<'_> {
    /// Starts the program; returns when it has been executed.
    pub(super) fn start(&self, prepared: &mut Prepared<'_>) -> Result<Made, Error> {
        let made = match self.start_by_vfork(prepared)? {
            Some(made) => made,
            None if self.config.has(Flags::DETACHED) => self.start_by_double_fork(prepared)?,
            None => self.start_by_fork(prepared)?,
        };
        prepared.hand_over();
        Ok(made)
    }

    /// The program's signal mask, in a caller with this one.
    pub(super) fn mask(&self, callers: Set) -> Set {
        match self.config.blocked_signals {
            None if self.config.has(Flags::RESET_SIGNALS) => Set::EMPTY,
            None => callers,
            Some(signals) => {
                let mut mask = Set::EMPTY;
                signals.iter().for_each(|&signal| mask.add(signal));
                mask
            }
        }
    }

    /// The child half, of a caller that has this signal mask.
    fn child<'a>(&'a self, prepared: &'a mut Prepared<'_>, callers: Set, report: Option<BorrowedFd<'a>>) -> Child<'a> {
        let mut child = Child::new(self, prepared, self.mask(callers), report);
        child.parent = self.config.death_signal.map(|_| getpid());
        child
    }

    /// `None` where that cannot be had, and for a hook, which may call libc.
    fn start_by_vfork(&self, prepared: &mut Prepared<'_>) -> Result<Option<Made>, Error> {
        let wants_copy = self.config.identity.changes_ids() || self.config.has(Flags::FORCE_FORK);
        let memories: &[Memory] = if wants_copy { &[Memory::Copied] } else { &[Memory::Shared, Memory::Copied] };
        if self.config.hook.is_some() {
            return Ok(None);
        }
        // No handler may run in the child, on this thread's stack.
        let callers = Set::FULL.install();
        let mut made = Ok(None);
        if vfork_is_real() {
            for &memory in memories {
                made = self.vfork(memory, prepared, callers);
                if !matches!(made, Ok(None)) {
                    break;
                }
            }
        }
        callers.install();
        made
    }

    fn vfork(&self, memory: Memory, prepared: &mut Prepared<'_>, callers: Set) -> Result<Option<Made>, Error> {
        let channel = if memory == Memory::Copied { Some(prepared.channel()?) } else { None };
        let (reader, writer) = match &channel {
            Some(channel) => (Some(channel.reader.lend()), Some(channel.writer.lend())),
            None => (None, None),
        };
        let detached = self.config.has(Flags::DETACHED);
        let request = Request {
            memory,
            pidfd: detached || self.config.has(Flags::PIDFD),
            share_fds: false,
            exit_signal: if self.config.has(Flags::NO_REAP) { libc::SIGCHLD } else { 0 },
        };
        let child = self.child(prepared, callers, writer);
        let mut launch = Launch { request, child, reader, pidfd: -1, outcome: None };
        let made = if detached { launch.through_intermediate() } else { launch.go() };
        match made {
            Err(Error { step: Step::Fork, errno, .. }) if !is_shortage(errno) => Ok(None),
            made => made.map(Some),
        }
    }

    fn start_by_fork(&self, prepared: &mut Prepared<'_>) -> Result<Made, Error> {
        let Channel { reader, writer } = prepared.channel()?;
        let callers = Set::current();
        let mut child = self.child(prepared, callers, Some(writer.lend()));
        // As for the double fork, which says why.
        let blocked = is_single_threaded().then(|| Set::FULL.install());
        let forked = fork();
        if forked == Ok(0) {
            Set::FULL.install();
            child.run_forked();
        }
        blocked.map(Set::install);
        let pid = forked.at(Step::Fork)?;
        drop(writer);
        let made = Made { pid, pidfd: fd::watch_exit(pid).ok() };
        // Ended without a record: the program has been executed, or the child was killed, as its end will tell.
        let failure = match channel::next(reader.lend(), made.pidfd.as_ref().map(Fd::lend), Deadline::NEVER) {
            Ok(Event::Record(record, _)) => record.error(),
            Ok(Event::Ended | Event::TimedOut) => None,
            Err(errno) => {
                let _ = process::kill(pid, libc::SIGKILL);
                Some(Error::new(Step::Channel, errno))
            }
        };
        settle(made, failure, self.config.has(Flags::NO_REAP))
    }

    fn start_by_double_fork(&self, prepared: &mut Prepared<'_>) -> Result<Made, Error> {
        let callers = Set::current();
        let progress = Progress::new().at(Step::Channel)?;
        let (reader, intermediate) =
            match fork_twice(prepared.channel()?, &progress, Copies::Twice).map_err(of_spawn)? {
                Half::Original { reader, intermediate } => (reader, intermediate),
                Half::Daemon { writer, .. } => {
                    report(&writer, &progress, Ok(()));
                    self.child(prepared, callers, Some(writer.lend())).run_forked()
                }
            };
        let grandchild = await_report(&reader, intermediate, &progress, Deadline::NEVER).map_err(of_spawn)?;
        // The end without another record is that of the channel: the program has been executed, or it was killed.
        let pidfd = grandchild.pidfd.as_ref().map(Fd::lend);
        let failure = match channel::next(reader.lend(), pidfd, Deadline::NEVER) {
            Ok(Event::Record(record, _)) => record.error(),
            Ok(Event::Ended | Event::TimedOut) => None,
            Err(errno) => Some(Error::new(Step::Channel, errno)),
        };
        match failure {
            None => Ok(Made { pid: grandchild.pid, pidfd: grandchild.pidfd }),
            Some(error) => {
                grandchild.bury(&reader);
                Err(error)
            }
        }
    }
}

/// Nothing that another kind of fork would not meet as well.
fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::SRCH)
}

/// The double fork's own failures, in the words of a spawn.
fn of_spawn(error: Error) -> Error {
    match error.step {
        Step::DoubleFork => error.of(Step::Fork),
        Step::Report => error.of(Step::Channel),
        _ => error,
    }
}

/// A failed child is nobody's business but the caller's of spawn.
fn settle(made: Made, failure: Option<Error>, leave: bool) -> Result<Made, Error> {
    match failure {
        None => Ok(made),
        Some(error) if leave => Err(error.left(made.pid)),
        Some(error) => {
            reap(made.pid);
            Err(error)
        }
    }
}

/// A child about to be made by vfork, and how its failure will be known: by the memory it shares, or by a record.
struct Launch<'a> {
    request: Request,
    child: Child<'a>,
    reader: Option<BorrowedFd<'a>>,
    /// The number of the child's pidfd once there is a child.
    pidfd: RawFd,
    /// What the intermediate of a detached program learnt.
    outcome: Option<Result<Made, Error>>,
}

impl Launch<'_> {
    /// Returns when the child has executed the program or has ended, so that the record, if any, is there.
    fn go(&mut self) -> Result<Made, Error> {
        let made = vfork(self.request, &mut self.child, &mut self.pidfd).at(Step::Fork)?;
        let failure = match self.reader.map(channel::receive) {
            None => self.child.failure,
            Some(Ok(Event::Record(record, _))) => record.error(),
            Some(_) => None,
        };
        if failure.is_some() {
            self.pidfd = -1;
        }
        settle(made, failure, self.request.exit_signal != 0)
    }

    /// An intermediate process on this one's memory and fds makes the child, which so is nobody's but init's when the
    /// intermediate has ended, while its pidfd lands in the caller's own table.
    fn through_intermediate(&mut self) -> Result<Made, Error> {
        let request = Request { memory: Memory::Shared, pidfd: false, share_fds: true, exit_signal: 0 };
        let intermediate = vfork(request, self, &mut -1).at(Step::Fork)?;
        if self.outcome.is_none() {
            self.bury_orphan();
        }
        reap(intermediate.pid);
        self.outcome.take().unwrap_or(Err(Error::new(Step::Fork, Errno::SRCH)))
    }

    /// Somebody has killed the intermediate, so that this process woke while the child may be on its stack: that ends
    /// before anything else happens.
    #[cold]
    fn bury_orphan(&mut self) {
        let Ok(pidfd) = Fd::take(self.pidfd) else {
            return;
        };
        match process::kill_by_pidfd(pidfd.lend(), libc::SIGKILL) {
            // Not, or no longer, the number of a pidfd.
            Err(Errno::BADF | Errno::INVAL) => drop(pidfd.into_number()),
            // One with other rights has memory of its own, too.
            Err(Errno::PERM) => {}
            _ => drop(poll(&mut [Place::readable(Some(pidfd.number()))], Deadline::NEVER)),
        }
    }

    /// What the caller's thread calls should it wake too early is so far from the child on the same stack.
    #[inline(never)]
    fn go_further_down(&mut self) -> Result<Made, Error> {
        let mut between = [const { MaybeUninit::<u8>::uninit() }; 1024];
        black_box(&mut between);
        let made = self.go();
        black_box(&mut between);
        made
    }
}

/// What the intermediate does.
impl Job for Launch<'_> {
    fn run(&mut self) -> ! {
        let outcome = step::setsid().at(Step::Setsid).and_then(|_| self.go_further_down());
        self.outcome = Some(outcome);
        exit(0)
    }
}
