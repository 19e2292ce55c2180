//! The report channel: records of fixed size from the processes that the library makes to the one that asked for them.
//!
//! A stream socket pair rather than a pipe, so that a reader who has gone raises no SIGPIPE in the writer, and so that
//! a pidfd can travel along. A record is one send, and every record has the same size, so none is ever read in part.

use crate::deadline::Deadline;
use crate::error::{Detail, Error, Step};
use crate::sys;
use crate::sys::fd::Fd;
use crate::sys::poll::{Place, poll};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// What a process tells its creator. An errno of 0 is success.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) step: Step,
    pub(crate) errno: i32,
    /// The daemon's pid; with `EEXIST` the pid of the pidfile's holder.
    pub(crate) pid: i32,
}

const SIZE: usize = 12;

impl Record {
    pub(crate) fn success(step: Step, pid: i32) -> Record {
        Record { step, errno: 0, pid }
    }

    pub(crate) fn failure(error: Error) -> Record {
        let pid = if let Detail::Holder(pid) = error.detail() { pid } else { 0 };
        Record { step: error.step, errno: error.errno.raw_os_error(), pid }
    }

    /// The error that this record reports, if it does.
    pub(crate) fn error(self) -> Option<Error> {
        match crate::sys::errno::from_number(self.errno) {
            _ if self.errno == 0 => None,
            Errno::EXIST if self.step == Step::PidfileWrite => Some(Error::held(self.step, self.pid)),
            errno => Some(Error::new(self.step, errno)),
        }
    }

    fn to_bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let fields = [self.step as i32, self.errno, self.pid];
        for (place, field) in bytes.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: [u8; SIZE]) -> Option<Record> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let [step, errno, pid] = [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(i32::from_ne_bytes);
        let possible = (0..4096).contains(&errno);
        Step::from_number(step).filter(|_| possible).map(|step| Record { step, errno, pid })
    }
}

/// Both ends: the reader's, which stays with the original process, and the writer's.
pub(crate) struct Channel {
    pub(crate) reader: Fd,
    pub(crate) writer: Fd,
}

impl Channel {
    pub(crate) fn new() -> Result<Channel, Errno> {
        // The lower number is the daemon's, beside the other fds that its sweep spares.
        let (writer, reader) = sys::socket::pair()?;
        Ok(Channel { reader, writer })
    }
}

/// Sends a record, with a pidfd if there is one. A reader who has gone is not the writer's business: `EPIPE`.
pub(crate) fn send(writer: BorrowedFd<'_>, record: Record, pidfd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    sys::socket::send(writer, &record.to_bytes(), pidfd)
}

/// What the reader learns.
pub(crate) enum Event {
    Record(Record, Option<Fd>),
    /// All writers have gone, or the process behind the pidfd has, and nothing is left to read.
    Ended,
    TimedOut,
}

/// Waits for the next record. The pidfd ends the wait although another process has inherited the writer's end.
pub(crate) fn next(reader: BorrowedFd<'_>, pidfd: Option<BorrowedFd<'_>>, deadline: Deadline) -> Result<Event, Errno> {
    loop {
        if !wait_readable([reader, pidfd.unwrap_or(reader)], deadline)? {
            return Ok(Event::TimedOut);
        }
        match receive(reader) {
            // It was the pidfd then; what the process had sent before would be here.
            Err(Errno::AGAIN) if pidfd.is_some() => return Ok(Event::Ended),
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The next record, without waiting: `EAGAIN` when there is none yet.
pub(crate) fn receive(reader: BorrowedFd<'_>) -> Result<Event, Errno> {
    let mut bytes = [0; SIZE];
    let (length, pidfd) = sys::socket::receive(reader, &mut bytes)?;
    match length {
        0 => Ok(Event::Ended),
        SIZE => Record::from_bytes(bytes).map(|record| Event::Record(record, pidfd)).ok_or(Errno::BADMSG),
        _ => Err(Errno::BADMSG),
    }
}

/// Whether one of the fds became readable, or ended, before the deadline.
pub(crate) fn wait_readable([a, b]: [BorrowedFd<'_>; 2], deadline: Deadline) -> Result<bool, Errno> {
    poll(&mut [a, b].map(|fd| Place::readable(Some(fd.as_raw_fd()))), deadline)
}
