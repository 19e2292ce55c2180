//! The process at the end of a double fork, as the original process sees it.

use crate::channel::{self, Event};
use crate::deadline::{Deadline, pause};
use crate::error::{At, Error, Step};
use crate::step::fork::{End, Intermediate};
use crate::sys;
use crate::sys::fd::Fd;
use crate::sys::progress::Progress;
use core::ffi::c_int;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

/// What the original process knows it by.
pub(crate) struct Grandchild {
    pub(crate) pid: c_int,
    pub(crate) pidfd: Option<Fd>,
}

/// Waits until it has reported; if it has failed nothing of it is left.
pub(crate) fn await_report(
    reader: &Fd,
    intermediate: Intermediate,
    progress: &Progress,
    deadline: Deadline,
) -> Result<Grandchild, Error> {
    let end = intermediate.reap(deadline);
    // A foreign copy of the writer's end of the channel may hide its end.
    let watch = known_pid(progress).and_then(|pid| sys::fd::watch_exit(pid).ok());
    let patience = match end {
        End::Exited => deadline,
        _ if watch.is_some() => deadline,
        // There may be nobody to report.
        _ => Deadline::milliseconds(1000).earlier(deadline),
    };
    let failure = match channel::next(reader.lend(), watch.as_ref().map(Fd::lend), patience).at(Step::Report) {
        Ok(Event::Record(record, pidfd)) => match record.error() {
            None => return Ok(Grandchild { pid: record.pid, pidfd }),
            Some(error) => error,
        },
        Ok(Event::TimedOut) if deadline.has_passed() => lost(progress, end, Errno::TIMEDOUT),
        Ok(Event::Ended | Event::TimedOut) => lost(progress, end, Errno::SRCH),
        Err(error) => error,
    };
    let signal = abandon(progress, &intermediate, watch, reader);
    Err(match (failure.errno, signal) {
        (Errno::SRCH, Some(signal)) => Error::killed(failure.step, signal),
        _ => failure,
    })
}

/// The number that the intermediate has left.
fn known_pid(progress: &Progress) -> Option<c_int> {
    Some(progress.pid()).filter(|&pid| pid > 0)
}

/// No word from it, or not in time: the step it had reached is in the memory it shares.
#[inline(never)]
fn lost(progress: &Progress, end: End, errno: Errno) -> Error {
    match Step::from_number(progress.step()) {
        Some(Step::None) | None if errno == Errno::SRCH => end.as_error(),
        Some(Step::None) | None => Error::new(Step::DoubleFork, errno),
        Some(step) => Error::new(step, errno),
    }
}

/// Makes sure that nothing of it goes on; answers the signal that ended it, where that is known.
fn abandon(progress: &Progress, intermediate: &Intermediate, watch: Option<Fd>, reader: &Fd) -> Option<i32> {
    // One that nobody knows ends by itself when it sees this; one that goes on has reported.
    progress.give_up();
    let reported = match channel::receive(reader.lend()) {
        Ok(Event::Record(record, pidfd)) if record.error().is_none() => Some(Grandchild { pid: record.pid, pidfd }),
        _ => None,
    };
    let known = || known_pid(progress).filter(|&pid| intermediate.has_in_its_session(pid));
    reported.or_else(|| known().map(|pid| Grandchild { pid, pidfd: watch }))?.bury(reader)
}

impl Grandchild {
    /// Makes sure that one that failed, or took too long, ends, and that its locks go with it. Answers the signal that
    /// ended it, if it is this process's to wait for (a subreaper's).
    pub(crate) fn bury(self, reader: &Fd) -> Option<i32> {
        let pid = Pid::from_raw(self.pid)?;
        // Only one in an uninterruptible sleep takes longer.
        let patience = Deadline::milliseconds(1000);
        let killed = self.pidfd.as_ref().map(|pidfd| sys::process::kill_by_pidfd(pidfd.lend(), libc::SIGKILL));
        if matches!(killed, None | Some(Err(Errno::NOSYS))) && has_channel(reader) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        if let Some(pidfd) = &self.pidfd {
            let _ = channel::wait_readable([pidfd.lend(); 2], patience);
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

/// Whether the grandchild has its end of the channel, and so its number, still.
fn has_channel(reader: &Fd) -> bool {
    loop {
        match channel::receive(reader.lend()) {
            Ok(Event::Record(..)) => {}
            result => return matches!(result, Err(Errno::AGAIN)),
        }
    }
}
