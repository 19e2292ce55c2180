//! The process that logs what is written to a pipe, line by line, until its last writer has gone.
//!
//! It is nobody's child but init's, leads a session of its own, and blocks all signals: what ends the daemon, or its
//! group, leaves the daemon's last words to be logged. It keeps its pipes and the syslog socket, and no other fd: a pump
//! that held the pidfile would refuse the next start.

use super::line::Line;
use super::{LEVELS, Syslog, check_priority};
use crate::channel::Channel;
use crate::deadline::Deadline;
use crate::error::{At, Error, Step, refuse};
use crate::grandchild;
use crate::step::fork::{Copies, Half, fork_twice, report};
use crate::step::{self, Identity};
use crate::sys::fd::{self, Act, Fd};
use crate::sys::poll::{Place, poll};
use crate::sys::process::exit;
use crate::sys::progress::Progress;
use core::ffi::c_int;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// A pipe to read from, and the level of what comes.
pub(crate) struct Input {
    pub(crate) reader: Fd,
    pub(crate) level: u8,
}

/// Starts a process that logs what is written to the fd that is the result, until the last writer has closed it. A line
/// that starts with `<n>`, 0 to 7, has that level; the others have that of `priority`.
///
/// The tag's pid is the caller's. Once the process has the identity and nothing but its own fds, this returns.
///
/// # Safety
///
/// In a process with more threads no handler of pthread_atfork(3) waits for one of them.
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn pump(log: &Syslog, priority: c_int, identity: &Identity<'_>) -> Result<OwnedFd, Error> {
    pump_promised(log, priority, identity).map(OwnedFd::from)
}

/// [`pump`], for the C floor, whose own caller has promised.
pub(crate) fn pump_promised(log: &Syslog, priority: c_int, identity: &Identity<'_>) -> Result<Fd, Error> {
    refuse(check_priority(priority), Step::LogPump)?;
    let level = (priority & LEVELS) as u8;
    let mut log = *log;
    if priority & !LEVELS != 0 {
        log.facility = priority & !LEVELS;
    }
    let (reader, writer) = fd::pipe().at(Step::LogPump)?;
    let settle = || step::drop_privileges(identity).at(Step::DropPrivileges);
    start_pump(log, &mut [Some(Input { reader, level }), None], settle)?;
    Ok(writer)
}

/// Starts the process; it takes the inputs. `settle` is what it does before it is alone with them.
pub(crate) fn start_pump(
    mut log: Syslog,
    inputs: &mut [Option<Input>; 2],
    settle: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    // A number that is another file's by now is not to be taken along.
    if !log.is_open() {
        log.fd = -1;
    }
    // The caller's to tell of.
    log.lost = 0;
    if log.pid == 0 {
        log.pid = rustix::process::getpid().as_raw_pid();
    }
    let (channel, progress) = Channel::new().and_then(|channel| Ok((channel, Progress::new()?))).at(Step::LogPump)?;
    match fork_twice(channel, &progress, Copies::Twice).map_err(|error| error.of(Step::LogPump))? {
        Half::Daemon { writer, .. } => {
            let settled = let_go(&log, inputs, &writer).at(Step::LogPump).and_then(|()| settle());
            report(&writer, &progress, settled);
            drop(writer);
            run(&mut log, inputs)
        }
        Half::Original { reader, intermediate } => {
            *inputs = [None, None];
            grandchild::await_report(&reader, intermediate, &progress, Deadline::NEVER)
                .map(drop)
                .map_err(|error| error.of(Step::LogPump))
        }
    }
}

/// Closes every fd but the pump's own, the standard streams too; and leaves the working directory, lest it keep a file
/// system busy.
fn let_go(log: &Syslog, inputs: &[Option<Input>; 2], writer: &Fd) -> Result<(), Errno> {
    let [a, b] = inputs.each_ref().map(|input| input.as_ref().map_or(-1, |input| input.reader.number()));
    step::fds::sweep(0, [&[a, b, log.fd, writer.number()], &[]], Act::Close)?;
    step::chdir(c"/")
}

fn run(log: &mut Syslog, inputs: &mut [Option<Input>; 2]) -> ! {
    let room = log.room();
    let mut lines = inputs.each_ref().map(|input| Line::new(room, input.as_ref().map_or(0, |input| input.level), true));
    while inputs.iter().any(Option::is_some) {
        let mut places =
            inputs.each_ref().map(|input| Place::readable(input.as_ref().map(|input| input.reader.number())));
        if poll(&mut places, Deadline::NEVER).is_err() {
            crate::deadline::pause();
        }
        for ((place, input), line) in places.iter().zip(inputs.iter_mut()).zip(&mut lines) {
            if place.is_ready() && !take(log, input, line) {
                *input = None;
            }
        }
    }
    exit(0)
}

/// Logs what is there; answers whether more may come.
fn take(log: &mut Syslog, input: &Option<Input>, line: &mut Line) -> bool {
    let mut bytes = [0; 4096];
    let Some(input) = input else { return false };
    let facility = log.facility;
    // What is lost is counted, and nobody is there to be told.
    let mut send = |level: u8, text: &[u8], counts: bool| log.send(facility, level, text, counts).is_ok();
    match rustix::io::read(input.reader.lend(), &mut bytes) {
        Err(Errno::INTR | Errno::AGAIN) => true,
        Ok(0) | Err(_) => {
            line.end(&mut send);
            false
        }
        Ok(length) => {
            line.feed(bytes.get(..length).unwrap_or_default(), &mut send);
            true
        }
    }
}
