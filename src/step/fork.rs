//! The double fork: a child that leads no session, so that it can never acquire a controlling terminal, and that is
//! nobody's child but init's.

use crate::channel::{self, Channel, Event, Record};
use crate::deadline::{Deadline, pause};
use crate::error::{At, Error, Step};
use crate::sys;
use crate::sys::clone::call_in_shared_memory;
use crate::sys::errno;
use crate::sys::fd::Fd;
use crate::sys::process::{exit, fork, is_single_threaded, libc_is_single_threaded, wait_options};
use crate::sys::progress::Progress;
use crate::sys::signals::Mask;
use core::ffi::c_int;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, waitpid};

/// Which process a double fork returned in.
#[derive(Debug)]
pub enum DoubleFork {
    /// The one that called it.
    Original {
        /// The grandchild.
        pid: i32,
        /// A pidfd of the grandchild, where the system has such and an fd was free for it.
        pidfd: Option<OwnedFd>,
    },
    /// The grandchild, alone in a new session that it does not lead.
    Daemon,
}

/// `fork()`, `setsid()`, `fork()`—Continues in a grandchild as well, which belongs to a new session that it does not
/// lead.
///
/// The process between the two has gone, and is reaped, when the original returns. On Linux (x86-64, AArch64), in a
/// process that has never had more than one thread, it shares the original's memory, which is copied once then. Not
/// async-signal-safe: fork(2) runs the handlers of pthread_atfork(3), once for each copy.
///
/// # Safety
///
/// In a process with more threads only the calling one continues in the grandchild: nothing that it goes on to do
/// there needs a lock that another thread holds.
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn double_fork() -> Result<DoubleFork, Errno> {
    let (channel, progress) = (Channel::new()?, Progress::new()?);
    match fork_twice(channel, &progress, Copies::Once).map_err(|error| error.errno)? {
        Half::Daemon { mask, .. } => {
            mask.install();
            Ok(DoubleFork::Daemon)
        }
        Half::Original { reader, intermediate } => {
            let end = intermediate.reap(Deadline::NEVER);
            let (watch, patience) = end.watch(&progress, Deadline::NEVER);
            match channel::next(reader.lend(), watch.as_ref().map(Fd::lend), patience) {
                Ok(Event::Record(record, pidfd)) => match record.error() {
                    None => Ok(DoubleFork::Original { pid: record.pid, pidfd: pidfd.map(OwnedFd::from) }),
                    Some(error) => Err(error.errno),
                },
                _ => {
                    abandon(&progress, None, &reader);
                    Err(Errno::SRCH)
                }
            }
        }
    }
}

/// Which process `fork_twice` returned in, and what it has of the channel.
pub(crate) enum Half {
    Original {
        reader: Fd,
        intermediate: Intermediate,
    },
    /// All signals are blocked; `mask` is what they were before.
    Daemon {
        writer: Fd,
        mask: Mask,
    },
}

/// How often a double fork copies the process's memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Where that is possible: the intermediate shares the memory of the original process, which sleeps meanwhile, and
    /// only the daemon gets a copy of it. Not with more threads, nor after them, as libc's fork(2) takes locks then,
    /// which an intermediate that is killed would leave locked in the original process.
    Once,
    /// As is classic.
    Twice,
}

/// The double fork itself. The first record down the channel is the daemon's, with its pid and a pidfd, or the reason
/// of the intermediate why there is no daemon. Neither of the two returns but the daemon that was not given up.
pub(crate) fn fork_twice(channel: Channel, progress: &Progress, copies: Copies) -> Result<Half, Error> {
    // Blocked in the original already, no signal can run a handler in, or kill, the half-made child. A process with
    // more threads cannot have that; there the child's first act must do.
    let mut mask = is_single_threaded().then(Mask::block_all);
    let may_share = mask.is_some() && copies == Copies::Once && libc_is_single_threaded();
    let mut run_intermediate = || {
        mask.get_or_insert_with(Mask::block_all);
        make_daemon(&channel, progress);
    };
    let shared = if may_share { call_in_shared_memory(&mut run_intermediate) } else { Err(Errno::NOSYS) };
    let forked = match shared {
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => call_in_copy(&mut run_intermediate),
        result => result,
    };
    let Channel { reader, writer } = channel;
    if forked == Ok(0) {
        drop(reader);
        introduce(&writer);
        if progress.is_given_up() {
            exit(1);
        }
        return Ok(Half::Daemon { writer, mask: mask.unwrap_or_else(Mask::block_all) });
    }
    mask.map(Mask::install);
    let intermediate = Intermediate(forked.at(Step::DoubleFork)?);
    Ok(Half::Original { reader, intermediate })
}

/// As [`call_in_shared_memory`], in a process like any other.
fn call_in_copy(job: &mut impl FnMut()) -> Result<c_int, Errno> {
    let pid = fork()?;
    if pid == 0 {
        job();
    }
    Ok(pid)
}

/// What the intermediate does. Returns in the daemon only.
fn make_daemon(channel: &Channel, progress: &Progress) {
    // The errno may be the original's.
    let forked = super::setsid().at(Step::Setsid).and_then(|_| errno::preserved(fork).at(Step::DoubleFork));
    match forked {
        Ok(0) => {}
        Ok(pid) => {
            progress.set_pid(pid);
            exit(0)
        }
        Err(error) => {
            let _ = channel::send(channel.writer.lend(), Record::failure(error), None);
            exit(1)
        }
    }
}

/// Tells the original process who the daemon is. One that cannot be told, but lives, could not be told of a failure.
fn introduce(writer: &Fd) {
    let pid = getpid().as_raw_pid();
    let pidfd = sys::fd::pidfd_open(pid).ok();
    let introduction = Record::success(Step::DoubleFork, pid);
    match channel::send(writer.lend(), introduction, pidfd.as_ref().map(Fd::lend)) {
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
        Err(_) => exit(1),
    }
}

/// The process between the two forks, as the original sees it.
pub(crate) struct Intermediate(c_int);

/// How the intermediate ended.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// The daemon exists, or there is a record that says why not.
    Exited,
    /// There may be neither.
    Killed(c_int),
    /// Somebody else has reaped it.
    Unknown,
    /// It has not ended in time.
    TimedOut,
}

impl Intermediate {
    /// Waits for its end, which is near: it does nothing that can block. One that somebody stopped is killed when the
    /// time is up.
    pub(crate) fn reap(self, deadline: Deadline) -> End {
        let pid = Pid::from_raw(self.0);
        let mut end = End::Unknown;
        let mut options = if deadline.is_never() { wait_options() } else { wait_options() | WaitOptions::NOHANG };
        loop {
            match waitpid(pid, options) {
                Ok(None) if deadline.has_passed() => {
                    let _ = pid.map(|pid| rustix::process::kill_process(pid, Signal::KILL));
                    options = wait_options();
                    end = End::TimedOut;
                }
                Ok(None) => pause(),
                Err(Errno::INTR) => {}
                Ok(Some((_, status))) if matches!(end, End::Unknown) => {
                    return status.terminating_signal().map_or(End::Exited, End::Killed);
                }
                Ok(Some(_)) | Err(_) => return end,
            }
        }
    }
}

impl End {
    /// Whose end, and how long, to watch for a first record. One that was killed may have left no daemon to send it, while
    /// a foreign copy of the writer's end may hide that.
    #[inline(never)]
    pub(crate) fn watch(self, progress: &Progress, deadline: Deadline) -> (Option<Fd>, Deadline) {
        let daemon = match (self, progress.pid()) {
            (End::Exited, _) => return (None, deadline),
            (_, pid @ 1..) => sys::fd::watch_exit(pid).ok(),
            _ => None,
        };
        let patience = if daemon.is_some() { deadline } else { Deadline::milliseconds(1000).earlier(deadline) };
        (daemon, patience)
    }

    /// The error when no record has come.
    pub(crate) fn as_error(self) -> Error {
        match self {
            End::Killed(signal) => Error::killed(Step::DoubleFork, signal),
            End::Exited | End::Unknown => Error::new(Step::DoubleFork, Errno::SRCH),
            End::TimedOut => Error::new(Step::DoubleFork, Errno::TIMEDOUT),
        }
    }
}

/// The process at the end of the double fork, as the original knows it.
pub(crate) struct Grandchild {
    pub(crate) pid: c_int,
    pub(crate) pidfd: Option<Fd>,
}

impl Grandchild {
    /// Makes sure that a grandchild that failed, or took too long, ends, and that its locks go with it. Answers the
    /// signal that ended it, if it is this process's to wait for (a subreaper's).
    pub(crate) fn bury(self, reader: &Fd) -> Option<i32> {
        let pid = Pid::from_raw(self.pid)?;
        // Only one in an uninterruptible sleep takes longer.
        let patience = Deadline::milliseconds(1000);
        if let Some(pidfd) = &self.pidfd {
            let _ = sys::process::kill_by_pidfd(pidfd.lend(), libc::SIGKILL);
            let _ = channel::wait_readable([pidfd.lend(); 2], patience);
        } else if has_channel(reader) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        loop {
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(None) if !patience.has_passed() => pause(),
                Ok(Some((_, status))) => return status.terminating_signal(),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

/// Makes sure that nothing of it goes on; answers the signal that ended it, where that is known.
pub(crate) fn abandon(progress: &Progress, child: Option<Grandchild>, reader: &Fd) -> Option<i32> {
    // One that has not started yet ends by itself when it sees this; one that has, has introduced itself.
    progress.give_up();
    child.or_else(|| introduced(reader)).unwrap_or_else(|| unseen(progress.pid(), reader)).bury(reader)
}

/// The daemon whose record nobody has waited for.
fn introduced(reader: &Fd) -> Option<Grandchild> {
    match channel::receive(reader.lend()) {
        Ok(Event::Record(record, pidfd)) if record.error().is_none() => Some(Grandchild { pid: record.pid, pidfd }),
        _ => None,
    }
}

/// The daemon that has said nothing, as the intermediate knew it.
fn unseen(pid: i32, reader: &Fd) -> Grandchild {
    let pidfd = sys::fd::pidfd_open(pid).ok();
    Grandchild { pid, pidfd: pidfd.filter(|_| has_channel(reader)) }
}

/// Whether the grandchild has its end of the channel, and so its number, still.
pub(crate) fn has_channel(reader: &Fd) -> bool {
    loop {
        match channel::receive(reader.lend()) {
            Ok(Event::Record(..)) => {}
            result => return matches!(result, Err(Errno::AGAIN)),
        }
    }
}
