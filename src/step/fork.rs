//! The double fork: a child that leads no session, so that it can never acquire a controlling terminal, and that is
//! nobody's child but init's.

use crate::channel::{self, Channel, Event, Record};
use crate::deadline::Deadline;
use crate::error::{At, Error, Step};
use crate::sys::fd::Fd;
use crate::sys::process::{exit, fork, is_single_threaded};
use crate::sys::signals::Mask;
use crate::sys::{self};
use core::ffi::c_int;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

/// Which process a double fork returned in.
#[derive(Debug)]
pub enum DoubleFork {
    /// The one that called it.
    Original {
        /// The grandchild.
        pid: i32,
        /// A pidfd of the grandchild, where the system has such.
        pidfd: Option<OwnedFd>,
    },
    /// The grandchild, alone in a new session that it does not lead.
    Daemon,
}

/// `fork()`, `setsid()`, `fork()`—Continues in a grandchild as well, which belongs to a new session that it does not
/// lead.
///
/// The process between the two has gone, and is reaped, when the original returns. Not async-signal-safe: fork(2) runs
/// the handlers of pthread_atfork(3), once for each fork.
///
/// # Safety
///
/// In a process with more threads only the calling one continues in the grandchild: nothing that it goes on to do
/// there needs a lock that another thread holds.
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn double_fork() -> Result<DoubleFork, Errno> {
    let outcome = Channel::new().at(Step::Channel).and_then(|channel| match fork_twice(channel)? {
        Half::Daemon { mask, .. } => {
            mask.install();
            Ok(DoubleFork::Daemon)
        }
        Half::Original { reader, intermediate } => {
            let end = intermediate.reap(Deadline::NEVER);
            match channel::next(reader.lend(), None, end.patience(Deadline::NEVER)).at(Step::DoubleFork)? {
                Event::Record(record, pidfd) => record
                    .error()
                    .map_or(Ok(DoubleFork::Original { pid: record.pid, pidfd: pidfd.map(OwnedFd::from) }), Err),
                Event::Ended | Event::TimedOut => Err(end.as_error()),
            }
        }
    });
    outcome.map_err(|error| error.errno)
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

/// The double fork itself. The intermediate process sends the daemon's pid and pidfd down the channel, or the reason
/// why there is none, and never returns.
pub(crate) fn fork_twice(channel: Channel) -> Result<Half, Error> {
    // Blocked in the original already, no signal can run a handler in, or kill, the half-made child. A process with
    // more threads cannot have that; there the child's first act must do.
    let blocked = is_single_threaded().then(Mask::block_all);
    let forked = fork();
    if forked == Ok(0) {
        let mask = blocked.unwrap_or_else(Mask::block_all);
        return Ok(Half::Daemon { writer: continue_as_intermediate(channel), mask });
    }
    blocked.map(Mask::install);
    let intermediate = Intermediate(forked.at(Step::DoubleFork)?);
    Ok(Half::Original { reader: channel.reader, intermediate })
}

/// Returns in the daemon only.
fn continue_as_intermediate(Channel { reader, writer }: Channel) -> Fd {
    let forked = super::setsid().at(Step::Setsid).and_then(|_| fork().at(Step::DoubleFork));
    let (record, status) = match forked {
        Ok(0) => {
            drop(reader);
            return writer;
        }
        Ok(pid) => (Record::success(Step::DoubleFork, pid), 0),
        Err(error) => (Record::failure(error), 1),
    };
    // Taken while the daemon is our child: its pid cannot have been given to another process yet.
    let pidfd = forked.ok().and_then(|pid| sys::fd::pidfd_open(pid).ok());
    let _ = channel::send(writer.lend(), record, pidfd.as_ref().map(Fd::lend));
    exit(status)
}

/// The process between the two forks, as the original sees it.
pub(crate) struct Intermediate(c_int);

/// How the intermediate ended.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// It has sent its record.
    Exited,
    /// It may not have.
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
        let Intermediate(pid) = self;
        let in_time = deadline.remaining().is_none() || self.ends_before(deadline);
        if !in_time {
            let _ = Pid::from_raw(pid).map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        let end = loop {
            match waitpid(Pid::from_raw(pid), WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                result => break result,
            }
        };
        match end {
            _ if !in_time => End::TimedOut,
            Ok(Some((_, status))) => status.terminating_signal().map_or(End::Exited, End::Killed),
            Ok(None) | Err(_) => End::Unknown,
        }
    }
}

impl Intermediate {
    fn ends_before(&self, deadline: Deadline) -> bool {
        sys::fd::pidfd_open(self.0).and_then(|pidfd| channel::wait_readable([pidfd.lend(); 2], deadline)) != Ok(false)
    }
}

impl End {
    /// How long to wait for a first record: one that was killed may have left none, while a foreign copy of the
    /// writer's end may hide that.
    pub(crate) fn patience(self, deadline: Deadline) -> Deadline {
        match self {
            End::Exited => deadline,
            End::Killed(_) | End::Unknown | End::TimedOut => Deadline::milliseconds(1000).earlier(deadline),
        }
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
