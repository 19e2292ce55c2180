//! What the original process does while the daemon goes through its steps.

use crate::channel::{self, Event};
use crate::deadline::Deadline;
use crate::error::{At, Error, Step};
use crate::step::fork::{End, Intermediate};
use crate::sys;
use crate::sys::fd::Fd;
use crate::sys::progress::{Progress, Verdict};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

/// The daemon, as the original process knows it.
pub(super) struct Child {
    pub(super) pid: i32,
    pub(super) pidfd: Option<Fd>,
}

/// Waits until the daemon has done every step, or has failed; then nothing of it is left.
pub(super) fn await_daemon(
    reader: &Fd,
    intermediate: Intermediate,
    progress: &Progress,
    deadline: Deadline,
) -> Result<Child, Error> {
    let end = intermediate.reap(deadline);
    let mut patience = end.patience(deadline);
    let mut child: Option<Child> = None;
    let failure = loop {
        let pidfd = child.as_ref().and_then(|child| child.pidfd.as_ref()).map(Fd::lend);
        match channel::next(reader.lend(), pidfd, patience).at(Step::Report) {
            Ok(Event::Record(record, pidfd)) => match record.error() {
                Some(error) => break error,
                None if record.step == Step::DoubleFork => child = Some(Child { pid: record.pid, pidfd }),
                None => return Ok(child.or_else(|| late_child(reader)).unwrap_or_else(|| found(record.pid))),
            },
            Ok(Event::Ended) => break lost(progress, end, Errno::SRCH),
            Ok(Event::TimedOut) => break lost(progress, end, Errno::TIMEDOUT),
            Err(error) => break error,
        }
        patience = deadline;
    };
    // A daemon that is not known yet, as the intermediate was killed too early to tell, learns it from this; one that has
    // decided to live before is known, and killed.
    progress.decide(Verdict::GivenUp);
    let child = child.or_else(|| late_child(reader)).unwrap_or_else(|| unreported(progress.pid(), reader));
    let signal = bury(child, reader, failure.errno);
    Err(match (failure.errno, signal) {
        (Errno::SRCH, Some(signal)) => Error::killed(failure.step, signal),
        _ => failure,
    })
}

/// The intermediate has ended, so what it sent is here: the daemon's first record was quicker.
fn late_child(reader: &Fd) -> Option<Child> {
    match channel::receive(reader.lend()) {
        Ok(Event::Record(record, pidfd)) if record.step == Step::DoubleFork && record.errno == 0 => {
            Some(Child { pid: record.pid, pidfd })
        }
        _ => None,
    }
}

/// The intermediate was killed before it could send a pidfd; the daemon has told its pid itself, if there is one.
fn found(pid: i32) -> Child {
    Child { pid, pidfd: sys::fd::pidfd_open(pid).ok() }
}

/// The same, of a daemon that has told nothing. The pid is surely its own only while it has its end of the channel open.
fn unreported(pid: i32, reader: &Fd) -> Child {
    let Child { pid, pidfd } = found(pid);
    let lives = channel::wait_readable([reader.lend(); 2], Deadline::milliseconds(0)) == Ok(false);
    Child { pid, pidfd: pidfd.filter(|_| lives) }
}

/// No word from the daemon, or not in time: the step it had reached is in the memory it shares.
fn lost(progress: &Progress, end: End, errno: Errno) -> Error {
    match Step::from_number(progress.step()) {
        Some(Step::None) | None if errno == Errno::SRCH => end.as_error(),
        Some(Step::None) | None => Error::new(Step::DoubleFork, errno),
        Some(step) => Error::new(step, errno),
    }
}

/// Makes sure that a daemon that failed, or took too long, ends, and that its locks go with it. Answers the signal that
/// ended it, if the daemon is this process's to wait for (a subreaper's).
fn bury(child: Child, reader: &Fd, errno: Errno) -> Option<i32> {
    let pid = Pid::from_raw(child.pid)?;
    let _ = match &child.pidfd {
        Some(pidfd) => kill_by_pidfd(pidfd),
        // Without a pidfd only one that surely lives.
        None if errno == Errno::TIMEDOUT => rustix::process::kill_process(pid, Signal::KILL),
        None => Ok(()),
    };
    // Only a daemon in an uninterruptible sleep takes longer.
    let patience = Deadline::milliseconds(1000);
    let _ = channel::wait_readable([child.pidfd.as_ref().unwrap_or(reader).lend(); 2], patience);
    waitpid(Some(pid), WaitOptions::NOHANG).ok()??.1.terminating_signal()
}

#[cfg(target_os = "linux")]
fn kill_by_pidfd(pidfd: &Fd) -> Result<(), Errno> {
    rustix::process::pidfd_send_signal(pidfd.lend(), Signal::KILL)
}

#[cfg(not(target_os = "linux"))]
fn kill_by_pidfd(_pidfd: &Fd) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}
