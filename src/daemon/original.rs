//! What the original process does while the daemon goes through its steps.

use crate::channel::{self, Event};
use crate::deadline::{Deadline, pause};
use crate::error::{At, Error, Step};
use crate::step::fork::{End, Intermediate};
use crate::sys;
use crate::sys::fd::Fd;
use crate::sys::progress::Progress;
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
            Ok(Event::Record(record, pidfd)) => match (record.error(), child) {
                (Some(error), known) => {
                    child = known;
                    break error;
                }
                (None, None) => child = Some(Child { pid: record.pid, pidfd }),
                (None, Some(daemon)) => return Ok(daemon),
            },
            Ok(Event::Ended) => break lost(progress, end, Errno::SRCH),
            Ok(Event::TimedOut) if deadline.has_passed() => break lost(progress, end, Errno::TIMEDOUT),
            Ok(Event::TimedOut) => break lost(progress, end, Errno::SRCH),
            Err(error) => break error,
        }
        patience = deadline;
    };
    // A daemon that has not started yet ends by itself when it sees this; one that has, has introduced itself.
    progress.give_up();
    let child = child.or_else(|| introduced(reader)).unwrap_or_else(|| unseen(progress.pid(), reader));
    let signal = bury(child, reader);
    Err(match (failure.errno, signal) {
        (Errno::SRCH, Some(signal)) => Error::killed(failure.step, signal),
        _ => failure,
    })
}

/// The daemon whose record nobody has waited for.
fn introduced(reader: &Fd) -> Option<Child> {
    match channel::receive(reader.lend()) {
        Ok(Event::Record(record, pidfd)) if record.error().is_none() => Some(Child { pid: record.pid, pidfd }),
        _ => None,
    }
}

/// The daemon that has said nothing, as the intermediate knew it.
fn unseen(pid: i32, reader: &Fd) -> Child {
    let pidfd = sys::fd::pidfd_open(pid).ok();
    Child { pid, pidfd: pidfd.filter(|_| is_open(reader)) }
}

/// Whether the daemon has its end of the channel, and so its number, still.
fn is_open(reader: &Fd) -> bool {
    loop {
        match channel::receive(reader.lend()) {
            Ok(Event::Record(..)) => {}
            result => return matches!(result, Err(Errno::AGAIN)),
        }
    }
}

/// No word from the daemon, or not in time: the step it had reached is in the memory it shares.
#[inline(never)]
fn lost(progress: &Progress, end: End, errno: Errno) -> Error {
    match Step::from_number(progress.step()) {
        Some(Step::None) | None if errno == Errno::SRCH => end.as_error(),
        Some(Step::None) | None => Error::new(Step::DoubleFork, errno),
        Some(step) => Error::new(step, errno),
    }
}

/// Makes sure that a daemon that failed, or took too long, ends, and that its locks go with it. Answers the signal that
/// ended it, if the daemon is this process's to wait for (a subreaper's).
fn bury(child: Child, reader: &Fd) -> Option<i32> {
    let pid = Pid::from_raw(child.pid)?;
    // Only a daemon in an uninterruptible sleep takes longer.
    let patience = Deadline::milliseconds(1000);
    if let Some(pidfd) = &child.pidfd {
        let _ = kill_by_pidfd(pidfd);
        let _ = channel::wait_readable([pidfd.lend(); 2], patience);
    } else if is_open(reader) {
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

#[cfg(target_os = "linux")]
fn kill_by_pidfd(pidfd: &Fd) -> Result<(), Errno> {
    rustix::process::pidfd_send_signal(pidfd.lend(), Signal::KILL)
}

#[cfg(not(target_os = "linux"))]
fn kill_by_pidfd(_pidfd: &Fd) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}
