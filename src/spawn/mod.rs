//! Another program is started: [`Config`] -> `Plan` -> child; then waited for, and talked to.
//!
//! The caller refuses what can be refused, and opens what the child is to have. The child's steps, whose order `child`
//! writes once: mark every fd close-on-exec; streams and mapped fds into place; session, group, terminal; root and
//! working directory; umask; limits; signals; groups, gid, uid; no_new_privs; death signal; the caller's hook; and the
//! signal mask, last.
//!
//! On Linux the child takes these steps on the memory of the caller, whose thread sleeps until the program is executed:
//! nothing is copied, and a failure is left in memory. Where ids change, the child has a copy, and reports through a
//! socket; with a hook, under an emulator and on other systems, fork(2) makes it.

mod child;
mod command;
mod communicate;
mod config;
mod plan;
mod prepared;
mod start;
mod wait;

pub use crate::stream::Stream;
pub use crate::sys::strings::{StringArray, StringPlace, Strings, Thin};
pub use command::{find_command, sudo_arguments};
pub use communicate::{CommunicateFlags, Communication, Full, Output};
pub use config::{Config, FdMapping, Flags, Group, Hook, PipeEnd, WorkingDirectory};
pub use wait::{Exit, ExitStatus};

pub(crate) use communicate::Exchange;
#[cfg(feature = "capi")]
pub(crate) use communicate::Pipes;
pub(crate) use prepared::Prepared;
pub(crate) use wait::{Process, State};

use crate::deadline::Deadline;
use crate::error::{At, Error, Step, require};
use crate::sys::child_signals::Set;
use crate::sys::fd::Fd;
use child::Child as ChildHalf;
use core::mem::take;
use core::time::Duration;
use plan::Plan;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// A started program.
///
/// Dropping it closes the pipes and the pidfd; the program goes on, and unless detached is a zombie once it has ended.
#[derive(Debug)]
pub struct Child {
    process: Process,
    pidfd: Option<Fd>,
    /// The pipe to its standard input, if that was asked for.
    pub stdin: Option<OwnedFd>,
    /// The pipe from its standard output, if that was asked for.
    pub stdout: Option<OwnedFd>,
    /// The pipe from its standard error, if that was asked for.
    pub stderr: Option<OwnedFd>,
}

/// Starts a program, and returns when it has been executed.
///
/// An error names the step that failed, in the child or, as [`Step::OpenStreams`] and [`Step::Fork`], in the caller;
/// nothing is left of the child then, but for [`Flags::NO_REAP`]. No other thread may change the environment during the
/// call.
///
/// Thread-safe; async-signal-safe unless fork(2) makes the child (for a [`Hook`], and where there is no other way),
/// which runs the handlers of pthread_atfork(3).
pub fn spawn(config: &Config<'_>) -> Result<Child, Error> {
    let is_lost = |mapping: &FdMapping<'_>| mapping.end.is_some() != matches!(mapping.source, Stream::Pipe);
    require(!config.fd_map.iter().any(is_lost), Step::MapFds)?;
    let mut prepared = Prepared::EMPTY;
    let (process, pidfd) = start(config, &mut prepared)?;
    for (index, mapping) in config.fd_map.iter().enumerate() {
        if let Some(place) = mapping.end {
            place.set(prepared.take_map_end(index).map(OwnedFd::from));
        }
    }
    let [stdin, stdout, stderr] = prepared.take_pipes().map(|pipe| pipe.map(OwnedFd::from));
    Ok(Child { process, pidfd, stdin, stdout, stderr })
}

/// Starts a program; its pipes are in what was prepared for it.
pub(crate) fn start<'a>(config: &'a Config<'a>, prepared: &mut Prepared<'a>) -> Result<(Process, Option<Fd>), Error> {
    let plan = Plan::new(config)?;
    prepared.open(&plan)?;
    let made = plan.start(prepared)?;
    let detached = config.has(Flags::DETACHED);
    let pidfd = made.pidfd.filter(|_| detached || config.has(Flags::PIDFD));
    let state = if detached { State::Detached } else { State::Child };
    Ok((Process { pid: made.pid, pidfd: pidfd.as_ref().map_or(-1, Fd::number), state }, pidfd))
}

/// Makes this process the program: the child half of [`spawn`], for one that was forked by other means. It returns only
/// if that fails.
///
/// Pipes and the flags that concern a parent are refused. Handlers are left to execve(2).
///
/// Async-signal-safe.
///
/// # Safety
///
/// Nobody uses or owns the fds that the map replaces, and after a failure the process ends: the steps before the failed
/// one stay done, ids are changed in the calling thread alone, and every fd from 3 on is close-on-exec.
#[expect(unsafe_code, reason = "declares what the caller promises")]
#[must_use]
pub unsafe fn exec(config: &Config<'_>) -> Error {
    exec_promised(config)
}

/// [`exec`], for the C floor, whose own caller has promised.
pub(crate) fn exec_promised(config: &Config<'_>) -> Error {
    let mut prepared = Prepared::EMPTY;
    let plan = match Plan::for_this_process(config).and_then(|plan| prepared.open(&plan).map(|()| plan)) {
        Ok(plan) => plan,
        Err(error) => return error,
    };
    let callers = Set::FULL.install();
    let error = ChildHalf::new(&plan, &mut prepared, plan.mask(callers), None).become_program();
    callers.install();
    error
}

impl Child {
    /// Its pid, which is somebody else's once it has been waited for.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Its pidfd, if one was asked for and the system has such: readable when the program has ended.
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(Fd::lend)
    }

    /// Waits until it has ended, and reaps it; no limit is for ever. The answer is kept.
    ///
    /// `ETIMEDOUT`; `ECHILD` when it has ended and its status went to somebody else, as that of a detached program.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<ExitStatus, Errno> {
        self.process.wait(Deadline::after(limit))
    }

    /// Sends it a signal. `ESRCH` once it was waited for: no other process that has its number then is hit.
    pub fn signal(&self, signal: i32) -> Result<(), Errno> {
        self.process.signal(signal)
    }

    /// SIGTERM, with SIGCONT; after the first limit SIGKILL. Else as [`Child::wait`].
    pub fn stop(&mut self, until_kill: Option<Duration>, after_kill: Option<Duration>) -> Result<ExitStatus, Errno> {
        self.process.stop(Deadline::after(until_kill), || Deadline::after(after_kill))
    }

    /// Sends input and takes output until the program has closed all its pipes; no limit is for ever.
    ///
    /// Answers the buffers that are full while more is there: to be emptied before the next call. After `ETIMEDOUT` too
    /// the conversation goes on with the next call, and nothing is lost. A limit of zero makes one step and does not
    /// wait, as in an event loop over the pipes, and the pidfd. A program that reads no more is no error; no SIGPIPE is
    /// raised. Needs 18 KiB of stack.
    pub fn communicate(
        &mut self,
        communication: &mut Communication<'_>,
        limit: Option<Duration>,
    ) -> Result<Full, Errno> {
        self.exchange(communication, Deadline::after(limit))
    }

    fn exchange(&mut self, communication: &mut Communication<'_>, deadline: Deadline) -> Result<Full, Errno> {
        let mut pipes =
            [take(&mut self.stdin), take(&mut self.stdout), take(&mut self.stderr)].map(|pipe| pipe.map(Fd::from));
        let result = Exchange { process: &mut self.process, pipes: &mut pipes, communication }.run(deadline);
        [self.stdin, self.stdout, self.stderr] = pipes.map(|pipe| pipe.map(OwnedFd::from));
        result
    }
}

/// Starts a program, communicates with it, and waits for its end; no limit is for ever.
///
/// Streams at their default become pipes where there is input to send, or output to take. Detached programs, unreaped
/// ones and pipes in the map are refused. `ECHILD` when the status is lost, as always while SIGCHLD is ignored. When
/// the time is over, a buffer is full (`ENOBUFS`) or a sink fails, the program is killed and reaped, and the buffers
/// hold what had come. One that may not be killed, as it has another user's rights, goes on.
pub fn run(
    config: &Config<'_>,
    communication: &mut Communication<'_>,
    limit: Option<Duration>,
) -> Result<ExitStatus, Error> {
    run_until(config, communication, Deadline::after(limit))
}

pub(crate) fn run_until(
    config: &Config<'_>,
    communication: &mut Communication<'_>,
    deadline: Deadline,
) -> Result<ExitStatus, Error> {
    require(!config.flags.intersects(Flags::DETACHED | Flags::NO_REAP), Step::Wait)?;
    // Nobody would ever get their ends.
    require(!config.fd_map.iter().any(|mapping| matches!(mapping.source, Stream::Pipe)), Step::MapFds)?;
    let takes_input = matches!(config.streams[0], Stream::Default | Stream::Pipe);
    require(takes_input || communication.input.is_empty(), Step::Communicate)?;
    let mut config = *config;
    config.flags |= Flags::PIDFD;
    let [out, err] = &communication.outputs;
    let wants_pipe = [!communication.input.is_empty(), out.is_wanted(), err.is_wanted()];
    for (stream, wanted) in config.streams.iter_mut().zip(wants_pipe) {
        if wanted && matches!(stream, Stream::Default) {
            *stream = Stream::Pipe;
        }
    }
    let mut prepared = Prepared::EMPTY;
    let (mut process, _pidfd) = start(&config, &mut prepared)?;
    let mut pipes = prepared.take_pipes();
    let full = Exchange { process: &mut process, pipes: &mut pipes, communication }.run(deadline).at(Step::Communicate);
    let whole = |full: Full| if full.is_empty() { Ok(()) } else { Err(Errno::NOBUFS).at(Step::Communicate) };
    let ended = full.and_then(whole).and_then(|()| process.wait(deadline).at(Step::Wait));
    // One that may not be killed, as another user's, would not be waited for in vain, but for ever.
    ended.map_err(|error| match process.signal(libc::SIGKILL) {
        Ok(()) | Err(Errno::SRCH) => {
            let _ = process.wait(Deadline::NEVER);
            error
        }
        Err(_) => error.left(process.pid),
    })
}
