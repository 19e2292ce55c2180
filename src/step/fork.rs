//! The double fork: a child that leads no session, so that it can never acquire a controlling terminal, and that is
//! nobody's child but init's.

use crate::channel::{self, Channel, Record};
use crate::deadline::{Deadline, pause};
use crate::error::{At, Error, Step};
use crate::grandchild;
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
        Half::Daemon { writer, mask } => {
            report(&writer, &progress, Ok(()));
            mask.install();
            Ok(DoubleFork::Daemon)
        }
        Half::Original { reader, intermediate } => {
            let daemon = grandchild::await_report(&reader, intermediate, &progress, Deadline::NEVER);
            let daemon = daemon.map_err(|error| error.errno)?;
            Ok(DoubleFork::Original { pid: daemon.pid, pidfd: daemon.pidfd.map(OwnedFd::from) })
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

/// The double fork itself. The first record down the channel is the daemon's [`report`], or the reason of the
/// intermediate why there is no daemon. A daemon that was given up already does not return.
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
        // The intermediate may have been killed before it could.
        progress.set_pid(getpid().as_raw_pid());
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

/// Tells the original process how the daemon's steps ended, and who it is. Returns if the daemon is to go on: all is
/// well, and the original process has gone, or knows it and has not given up.
pub(crate) fn report(writer: &Fd, progress: &Progress, result: Result<(), Error>) {
    let pidfd = sys::fd::pidfd_open(progress.pid()).ok();
    let record = result.map_or_else(Record::failure, |()| Record::success(Step::Report, progress.pid()));
    let sent = channel::send(writer.lend(), record, pidfd.as_ref().map(Fd::lend));
    // A user may have too many fds in flight.
    match sent.or_else(|_| channel::send(writer.lend(), record, None)) {
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) if result.is_ok() && !progress.is_given_up() => {}
        // Nothing of the caller's runs: no atexit handler, no flush. The original process cleans up.
        _ => exit(1),
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
    pub(crate) fn reap(&self, deadline: Deadline) -> End {
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

    /// Whether the process of that number is of the session that this one has made: then it is the daemon, and nobody
    /// whom the number was given to after its end. Where that may not be asked it is believed.
    pub(crate) fn made_session_of(&self, pid: c_int) -> bool {
        match sys::process::session_of(pid) {
            Ok(session) => session == self.0,
            Err(errno) => errno != Errno::SRCH,
        }
    }

    /// Whether anybody is left of the process group that this one has made.
    pub(crate) fn has_left_somebody(&self) -> bool {
        let group = Pid::from_raw(self.0);
        group.is_some_and(|group| rustix::process::test_kill_process_group(group) != Err(Errno::SRCH))
    }
}

impl End {
    /// The error when no record has come.
    pub(crate) fn as_error(self) -> Error {
        match self {
            End::Killed(signal) => Error::killed(Step::DoubleFork, signal),
            End::Exited | End::Unknown => Error::new(Step::DoubleFork, Errno::SRCH),
            End::TimedOut => Error::new(Step::DoubleFork, Errno::TIMEDOUT),
        }
    }
}
