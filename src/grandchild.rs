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
    let known = progress.pid();
    let watch = sys::fd::watch_exit(known).ok().filter(|_| intermediate.made_session_of(known));
    // A foreign copy of the writer's end of the channel may hide that there is nobody to report.
    let patience = || if watch.is_some() { deadline } else { Deadline::milliseconds(1000).earlier(deadline) };
    let failure = loop {
        match channel::next(reader.lend(), watch.as_ref().map(Fd::lend), patience()).at(Step::Report) {
            Ok(Event::Record(record, pidfd)) => match record.error() {
                // It may have had no fd to spare, or no right to send it.
                None => return Ok(Grandchild { pid: record.pid, pidfd: pidfd.or(as_pidfd(watch)) }),
                Some(error) => break error,
            },
            Ok(Event::TimedOut) if deadline.has_passed() => break lost(progress, end, Errno::TIMEDOUT),
            Ok(Event::TimedOut) if intermediate.has_left_somebody() => {}
            Ok(Event::Ended | Event::TimedOut) => break lost(progress, end, Errno::SRCH),
            Err(error) => break error,
        }
    };
    let signal = abandon(progress, &intermediate, watch, reader);
    Err(match (failure.errno, signal) {
        (Errno::SRCH, Some(signal)) => Error::killed(failure.step, signal),
        _ => failure,
    })
}

/// Elsewhere it is a kqueue.
fn as_pidfd(watch: Option<Fd>) -> Option<Fd> {
    watch.filter(|_| cfg!(target_os = "linux"))
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
    // One whose number is not known yet ends by itself when it sees this.
    progress.give_up();
    let pid = progress.pid();
    match channel::receive(reader.lend()) {
        Ok(Event::Record(record, pidfd @ Some(_))) if record.error().is_none() => {
            Grandchild { pid: record.pid, pidfd }.bury(reader)
        }
        _ if intermediate.made_session_of(pid) => Grandchild { pid, pidfd: watch }.bury(reader),
        _ => reap(pid, Deadline::milliseconds(0)),
    }
}

/// The signal that ended this process, if it is this one's to wait for.
#[inline(never)]
fn reap(pid: c_int, patience: Deadline) -> Option<i32> {
    let pid = Pid::from_raw(pid)?;
    loop {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) if !patience.has_passed() => pause(),
            Ok(Some((_, status))) => return status.terminating_signal(),
            Ok(None) | Err(_) => return None,
        }
    }
}

impl Grandchild {
    /// Makes sure that one that failed, or took too long, ends, and that its locks go with it. Answers the signal that
    /// ended it, if it is this process's to wait for (a subreaper's).
    pub(crate) fn bury(self, reader: &Fd) -> Option<i32> {
        let pid = Pid::from_raw(self.pid)?;
        // Only one in an uninterruptible sleep takes longer.
        let patience = Deadline::milliseconds(1000);
        match &self.pidfd {
            Some(pidfd) if cfg!(target_os = "linux") => {
                let _ = sys::process::kill_by_pidfd(pidfd.lend(), libc::SIGKILL);
            }
            _ if has_channel(reader) => {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            _ => {}
        }
        if let Some(watch) = &self.pidfd {
            let _ = channel::wait_readable([watch.lend(); 2], patience);
        }
        reap(self.pid, patience)
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
