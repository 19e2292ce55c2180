//! What the original process does while the process that it forked twice goes through its steps.

use crate::channel::{self, Event};
use crate::deadline::Deadline;
use crate::error::{At, Error, Step};
use crate::step::fork::{End, Grandchild, Intermediate, abandon};
use crate::sys::fd::Fd;
use crate::sys::progress::Progress;
use rustix::io::Errno;

/// Waits until the daemon, or a pump, has done every step, or has failed; then nothing of it is left.
pub(crate) fn await_steps(
    reader: &Fd,
    intermediate: Intermediate,
    progress: &Progress,
    deadline: Deadline,
) -> Result<Grandchild, Error> {
    let end = intermediate.reap(deadline);
    let (watch, mut patience) = end.watch(progress, deadline);
    let mut child: Option<Grandchild> = None;
    let failure = loop {
        let pidfd = child.as_ref().and_then(|child| child.pidfd.as_ref()).or(watch.as_ref());
        match channel::next(reader.lend(), pidfd.map(Fd::lend), patience).at(Step::Report) {
            Ok(Event::Record(record, pidfd)) => match (record.error(), child) {
                (Some(error), known) => {
                    child = known;
                    break error;
                }
                (None, None) => child = Some(Grandchild { pid: record.pid, pidfd }),
                (None, Some(daemon)) => return Ok(daemon),
            },
            Ok(Event::Ended) => break lost(progress, end, Errno::SRCH),
            Ok(Event::TimedOut) if deadline.has_passed() => break lost(progress, end, Errno::TIMEDOUT),
            Ok(Event::TimedOut) => break lost(progress, end, Errno::SRCH),
            Err(error) => break error,
        }
        patience = deadline;
    };
    let signal = abandon(progress, child, reader);
    Err(match (failure.errno, signal) {
        (Errno::SRCH, Some(signal)) => Error::killed(failure.step, signal),
        _ => failure,
    })
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
