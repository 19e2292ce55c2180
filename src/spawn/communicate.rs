//! Input to a started program and output from it, at once and so without a deadlock.

use super::wait::Process;
use crate::deadline::Deadline;
use crate::sys::fd::Fd;
use crate::sys::poll::{Place, poll};
use crate::sys::quiet_write::{self, Manner};
use core::fmt;
use rustix::fd::RawFd;
use rustix::io::Errno;

/// What is said to a program, and where what it says goes. It keeps the state of the conversation, so that one that was
/// interrupted by a time limit or a full buffer goes on where it was.
#[derive(Debug, Default)]
pub struct Communication<'a> {
    /// How.
    pub flags: CommunicateFlags,
    /// What is still to be sent to standard input, which is closed then; it is advanced as it is sent.
    pub input: &'a [u8],
    /// Where standard output and standard error go.
    pub outputs: [Output<'a>; 2],
    /// Kept from call to call, false at first: the last byte was a carriage return, which has become a newline.
    pub after_cr: [bool; 2],
}

bitflags::bitflags! {
    /// How to communicate.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CommunicateFlags: u32 {
        /// Until the program has ended, although somebody else may hold its pipes open; what they hold by then is read.
        const UNTIL_EXIT = 1;
        /// `\r\n` and `\r` become `\n`.
        const UNIVERSAL_NEWLINES = 1 << 1;
    }
}

bitflags::bitflags! {
    /// The outputs whose buffers are full, while more is there.
    #[must_use]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Full: u32 {
        /// Standard output.
        const STDOUT = 1;
        /// Standard error.
        const STDERR = 1 << 1;
    }
}

/// Where output goes.
#[derive(Default)]
pub enum Output<'a> {
    /// Nowhere.
    #[default]
    Discard,
    /// Into a buffer, of which `length` bytes are in use.
    Buffer {
        /// The buffer.
        bytes: &'a mut [u8],
        /// How much of it is in use.
        length: usize,
    },
    /// To a function, as it comes. What it was given counts as taken, also if it answers an error, which ends the call.
    Sink(&'a mut dyn FnMut(&[u8]) -> Result<(), Errno>),
}

impl Output<'_> {
    pub(crate) fn is_wanted(&self) -> bool {
        !matches!(self, Output::Discard)
    }
}

impl fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Output::Discard => "Discard",
            Output::Buffer { .. } => "Buffer",
            Output::Sink(_) => "Sink",
        })
    }
}

/// The caller's ends of the pipes to a program's standard streams.
pub(crate) type Pipes = [Option<Fd>; 3];

/// A conversation in progress.
pub(crate) struct Exchange<'e, 'a> {
    pub(crate) process: &'e mut Process,
    pub(crate) pipes: &'e mut Pipes,
    pub(crate) communication: &'e mut Communication<'a>,
}

impl<'a> Exchange<'_, 'a> {
    /// Goes on until all is said, a buffer is full, or the deadline has passed: `ETIMEDOUT`. At least one step is made.
    pub(crate) fn run(mut self, deadline: Deadline) -> Result<Full, Errno> {
        let until_exit = self.communication.flags.contains(CommunicateFlags::UNTIL_EXIT);
        let mut manner = Manner::Flags;
        let mut opened = None;
        let mut began = false;
        loop {
            if self.communication.input.is_empty() {
                self.pipes[0] = None;
            }
            if until_exit && self.process.end()?.is_some() {
                return self.take_the_rest();
            }
            if !until_exit && self.pipes.iter().all(Option::is_none) {
                return Ok(Full::empty());
            }
            if began && deadline.has_passed() {
                return Err(Errno::TIMEDOUT);
            }
            began = true;
            let pidfd = if until_exit { self.process.pidfd(&mut opened) } else { None };
            // Without a pidfd the end is asked for now and then.
            let blind = until_exit && pidfd.is_none();
            let patience = if blind { Deadline::milliseconds(10).earlier(deadline) } else { deadline };
            let full = self.step(&mut manner, pidfd, patience)?;
            if !full.is_empty() {
                return Ok(full);
            }
        }
    }

    fn step(&mut self, manner: &mut Manner, pidfd: Option<RawFd>, deadline: Deadline) -> Result<Full, Errno> {
        let [input, output, error] = self.pipes.each_ref().map(|pipe| pipe.as_ref().map(Fd::number));
        let mut places =
            [Place::writable(input), Place::readable(output), Place::readable(error), Place::readable(pidfd)];
        poll(&mut places, deadline)?;
        if places.iter().any(Place::is_bad) {
            return Err(Errno::BADF);
        }
        let [input, outputs @ .., _] = &places;
        if input.is_ready() {
            self.send(manner)?;
        }
        let mut full = Full::empty();
        for (place, (bit, mut listener)) in outputs.iter().zip(self.listeners()) {
            if place.has_input() && listener.room() == 0 && listener.waiting()? > 0 {
                full |= bit;
            } else if place.is_ready() {
                listener.take(usize::MAX)?;
            }
        }
        Ok(full)
    }

    fn send(&mut self, manner: &mut Manner) -> Result<(), Errno> {
        let Some(pipe) = &self.pipes[0] else {
            return Ok(());
        };
        match quiet_write::write(pipe, self.communication.input, manner) {
            Ok(sent) => self.communication.input = self.communication.input.get(sent..).unwrap_or_default(),
            // A program need not read all.
            Err(Errno::PIPE) => self.pipes[0] = None,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// The program has ended. Who else holds the pipes may write for ever: what is in them now is all.
    fn take_the_rest(&mut self) -> Result<Full, Errno> {
        let mut full = Full::empty();
        for (bit, mut listener) in self.listeners() {
            let mut left = listener.waiting()?;
            while left > 0 {
                if listener.room() == 0 {
                    full |= bit;
                    break;
                }
                match listener.take(left)? {
                    0 => break,
                    taken => left = left.saturating_sub(taken),
                }
            }
        }
        if full.is_empty() {
            *self.pipes = [const { None }; 3];
        }
        Ok(full)
    }

    fn listeners(&mut self) -> impl Iterator<Item = (Full, Listener<'_, 'a>)> {
        let Communication { flags, outputs, after_cr, .. } = &mut *self.communication;
        let newlines = flags.contains(CommunicateFlags::UNIVERSAL_NEWLINES);
        let [_, pipes @ ..] = &mut *self.pipes;
        let places = pipes.iter_mut().zip(outputs).zip(after_cr);
        let listeners = places.map(move |((pipe, output), after_cr)| {
            let after_cr = if newlines { Some(after_cr) } else { None };
            Listener { pipe, output, after_cr }
        });
        [Full::STDOUT, Full::STDERR].into_iter().zip(listeners)
    }
}

/// One output, and where it goes.
struct Listener<'l, 'a> {
    pipe: &'l mut Option<Fd>,
    output: &'l mut Output<'a>,
    /// `None`: newlines are left alone.
    after_cr: Option<&'l mut bool>,
}

impl Listener<'_, '_> {
    /// How much the output takes.
    fn room(&self) -> usize {
        match &*self.output {
            Output::Buffer { bytes, length } => bytes.len().saturating_sub(*length),
            Output::Sink(_) | Output::Discard => usize::MAX,
        }
    }

    /// How much is in the pipe.
    fn waiting(&self) -> Result<usize, Errno> {
        self.pipe.as_ref().map_or(Ok(0), |pipe| rustix::io::ioctl_fionread(pipe.lend()).map(|count| count as usize))
    }

    /// Takes what is there, as far as there is room and up to `most` bytes; answers how much. At the end the pipe is
    /// closed.
    fn take(&mut self, most: usize) -> Result<usize, Errno> {
        let Some(pipe) = &*self.pipe else {
            return Ok(0);
        };
        let taken = match self.output {
            Output::Buffer { bytes, length } => {
                let room = bytes.get_mut(*length..).unwrap_or_default();
                let most = most.min(room.len());
                let taken = read(pipe, room.get_mut(..most).unwrap_or_default())?;
                let taken_bytes = room.get_mut(..taken.unwrap_or(0)).unwrap_or_default();
                *length += convert(taken_bytes, &mut self.after_cr);
                taken
            }
            Output::Sink(sink) => through_scratch(pipe, most, &mut self.after_cr, *sink)?,
            Output::Discard => through_scratch(pipe, most, &mut None, &mut |_| Ok(()))?,
        };
        if taken == Some(0) {
            *self.pipe = None;
        }
        Ok(taken.unwrap_or(0))
    }
}

#[inline(never)]
fn through_scratch(
    pipe: &Fd,
    most: usize,
    after_cr: &mut Option<&mut bool>,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), Errno>,
) -> Result<Option<usize>, Errno> {
    let mut scratch = [0; 16 * 1024];
    let most = most.min(scratch.len());
    let taken = read(pipe, scratch.get_mut(..most).unwrap_or_default())?;
    let bytes = scratch.get_mut(..taken.unwrap_or(0)).unwrap_or_default();
    let length = convert(bytes, after_cr);
    let bytes = bytes.get(..length).unwrap_or_default();
    if bytes.is_empty() { Ok(taken) } else { sink(bytes).map(|()| taken) }
}

/// `Some(0)` is the end, `None` that nothing was there after all.
fn read(pipe: &Fd, room: &mut [u8]) -> Result<Option<usize>, Errno> {
    match rustix::io::read(pipe.lend(), room) {
        Ok(length) => Ok(Some(length)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Universal newlines, in place; answers how many bytes are left.
fn convert(bytes: &mut [u8], after_cr: &mut Option<&mut bool>) -> usize {
    let Some(after_cr) = after_cr else {
        return bytes.len();
    };
    let mut length = 0;
    for index in 0..bytes.len() {
        let byte = bytes.get(index).copied().unwrap_or_default();
        let second_half = byte == b'\n' && **after_cr;
        **after_cr = byte == b'\r';
        if let Some(place) = bytes.get_mut(length).filter(|_| !second_half) {
            *place = if byte == b'\r' { b'\n' } else { byte };
            length += 1;
        }
    }
    length
}
