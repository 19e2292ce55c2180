//! Readiness: what the daemon tells the original process once its own set-up is done, or has failed.

use crate::channel::{self, Event, Record};
use crate::deadline::Deadline;
use crate::error::{At, Error, Step};
use crate::sys::fd::Fd;
use core::time::Duration;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// Tells the original process that the daemon serves, and closes the channel.
///
/// `EPIPE` when the original process has gone, which is no reason to end.
pub fn ready(channel: OwnedFd) -> Result<(), Errno> {
    channel::send(Fd::from(channel).lend(), Record::success(Step::Ready, 0), None)
}

/// Tells the original process why the daemon cannot serve, and closes the channel. Ending is left to the daemon.
pub fn fail(channel: OwnedFd, errno: Errno) -> Result<(), Errno> {
    channel::send(Fd::from(channel).lend(), Record::failure(Error::new(Step::Ready, errno)), None)
}

/// Waits in the original process until the daemon has said [`ready`] or [`fail`]; no limit is for ever.
///
/// A daemon that ends without a word is seen at once, by its pidfd, even if a worker that it forked holds the channel:
/// `ESRCH`. After `ETIMEDOUT` the daemon is left alone and the wait may be repeated.
pub fn wait_ready(
    channel: BorrowedFd<'_>,
    pidfd: Option<BorrowedFd<'_>>,
    limit: Option<Duration>,
) -> Result<(), Error> {
    await_ready(channel, pidfd, Deadline::after(limit))
}

pub(crate) fn await_ready(
    channel: BorrowedFd<'_>,
    pidfd: Option<BorrowedFd<'_>>,
    deadline: Deadline,
) -> Result<(), Error> {
    let failed = |errno| Err(errno).at(Step::Ready);
    match channel::next(channel, pidfd, deadline).at(Step::Ready)? {
        Event::Record(record, _) => record.error().map_or(Ok(()), Err),
        Event::Ended => {
            // The channel closes an instant before the process has ended, and what it holds with it.
            let _ = pidfd.map(|pidfd| channel::wait_readable([pidfd; 2], Deadline::milliseconds(100)));
            failed(Errno::SRCH)
        }
        Event::TimedOut => failed(Errno::TIMEDOUT),
    }
}
